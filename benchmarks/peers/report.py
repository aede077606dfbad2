"""Medians, ratios and tables of what was measured."""

import dataclasses
import statistics

import engines

LOWER_IS_BETTER = ("ms", "MB")


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of one model."""

    name: str
    unit: str
    ours: float  # the median
    share: float  # of the machine's read bandwidth; 0 where it means nothing
    peers: dict  # engine -> Comparison


@dataclasses.dataclass(frozen=True)
class Comparison:
    median: float
    ratio: float  # above 1: ridge is better
    worst: float  # of any round


def ratio(ours, theirs, unit):
    return theirs / ours if unit in LOWER_IS_BETTER else ours / theirs


def compare(ours, theirs, unit):
    """Of {round: value} of both sides; None without a round that both have."""
    rounds = sorted(set(ours) & set(theirs))
    if not rounds:
        return None
    return Comparison(
        statistics.median(theirs.values()),
        ratio(statistics.median(ours.values()), statistics.median(theirs.values()), unit),
        min(ratio(ours[each], theirs[each], unit) for each in rounds),
    )


def share_of_bandwidth(speed, batch, limits):
    """`speed` in tokens a second over a batch; `limits` of several rounds."""
    if not limits:
        return 0.0
    bandwidth = statistics.median(each["read_bytes_per_second"] for each in limits)
    step_bytes = statistics.median(each["step_bytes"] for each in limits)
    return speed / batch * step_bytes / bandwidth


def batch_of(name):
    """The batch that a figure's name tells; 0 where it is no decoding."""
    return int(name.split("batch ")[1].split(",")[0]) if name.startswith("decode, batch") else 0


def tables(records):
    """{model: [Row]} in the order of measuring. Records are dictionaries as compare.py writes them; where one was
    measured again, the last counts."""
    values, units, limits = {}, {}, {}
    for record in records:
        model, name, engine = record["model"], record["figure"], record["engine"]
        values.setdefault(model, {}).setdefault(name, {}).setdefault(engine, {})[record["round"]] = record["value"]
        units[name] = record["unit"]
        if record.get("limits"):
            limits.setdefault((model, name), {})[record["round"]] = record["limits"]
    result = {}
    for model, by_name in values.items():
        for name, by_engine in by_name.items():
            ours = by_engine.get(engines.RIDGE)
            if not ours:
                continue
            median = statistics.median(ours.values())
            batch = batch_of(name)
            known = list(limits.get((model, name), {}).values())
            share = share_of_bandwidth(median, batch, known) if batch else 0.0
            peers = {
                engine: compared
                for engine, theirs in by_engine.items()
                if engine != engines.RIDGE and (compared := compare(ours, theirs, units[name])) is not None
            }
            result.setdefault(model, []).append(Row(name, units[name], median, share, peers))
    return result


def number(value, unit):
    if unit == "tok/s":
        return f"{value:.1f}"
    return f"{value:.0f}"


def cells(row, peers):
    """A row of the table as words."""
    words = [f"{row.name}, {row.unit}", number(row.ours, row.unit), f"{100 * row.share:.0f} %" if row.share else ""]
    for peer in peers:
        compared = row.peers.get(peer)
        if compared is None:
            words += ["–", "", ""]
        else:
            words += [number(compared.median, row.unit), f"{compared.ratio:.2f}", f"{compared.worst:.2f}"]
    return words


def heading(peers):
    words = ["", "ridge", "of bandwidth"]
    for peer in peers:
        words += [engines.TITLES.get(peer, peer), "ratio", "worst"]
    return words


def peers_in(result):
    """Those that have any figure, in the order of engines.TITLES."""
    there = {peer for rows in result.values() for row in rows for peer in row.peers}
    return [peer for peer in engines.TITLES if peer in there]


def as_markdown(result):
    peers = peers_in(result)
    lines = []
    for model, rows in result.items():
        lines += ["", f"| {model} |" + "|".join(f" {word} " for word in heading(peers)[1:]) + "|"]
        lines.append("|---" * (3 + 3 * len(peers)) + "|")
        lines += ["| " + " | ".join(cells(row, peers)) + " |" for row in rows]
    return "\n".join(lines[1:]) + "\n"


def as_text(result):
    peers = peers_in(result)
    lines = []
    for model, rows in result.items():
        table = [[model, *heading(peers)[1:]]] + [cells(row, peers) for row in rows]
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        for line in table:
            lines.append("  ".join(word.ljust(width) if column == 0 else word.rjust(width)
                                   for column, (word, width) in enumerate(zip(line, widths))).rstrip())
        lines.append("")
    return "\n".join(lines)


def as_json(result):
    return {model: [dataclasses.asdict(row) for row in rows] for model, rows in result.items()}
