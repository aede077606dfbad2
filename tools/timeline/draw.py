"""Draws one launch of a `ridge profile --trace` timeline as SVG: a row for each pipe."""

import argparse
import json
import sys
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP, ROW, WIDTH = 90, 20, 46, 24, 920
COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5"]
OTHER = "#9498a0"


def find_launch(events, kernel, which):
    """The spans of the longest (or `which`-th longest) launch of a kernel, and the names of their rows."""
    launches = [event for event in events if event["ph"] == "X" and event["tid"] == 0 and event["name"] == kernel]
    if not launches:
        known = sorted({event["name"] for event in events if event["ph"] == "X" and event["tid"] == 0})
        sys.exit(f"no launch of {kernel}; there are {', '.join(known)}")
    # Equal launches count once.
    durations = sorted({round(event["dur"], 6) for event in launches}, reverse=True)
    wanted = durations[min(which, len(durations) - 1)]
    launch = next(event for event in launches if round(event["dur"], 6) == wanted)
    end = launch["ts"] + launch["dur"]
    spans = [
        event
        for event in events
        if event["ph"] == "X"
        and event["pid"] == launch["pid"]
        and event["tid"] != 0
        and launch["ts"] <= event["ts"] + 1e-6
        and event["ts"] + event["dur"] <= end + 1e-6
    ]
    names = {
        event["tid"]: event["args"]["name"]
        for event in events
        if event["name"] == "thread_name" and event["pid"] == launch["pid"]
    }
    return launch, spans, names


def axis_step(duration):
    """1, 2 or 5 times a power of ten, so that at most a dozen fit."""
    exponent = -3
    while True:
        for digit in (1, 2, 5):
            if duration / (digit * 10.0**exponent) <= 12:
                return digit * 10.0**exponent
        exponent += 1


def draw(launch, spans, names):
    rows = sorted({span["tid"] for span in spans})
    height = TOP + ROW * len(rows) + 62
    scale = (WIDTH - LEFT - RIGHT) / launch["dur"]
    busy = {}
    for span in spans:
        busy[span["name"]] = busy.get(span["name"], 0) + span["dur"]
    order = sorted((name for name in busy if name != "several"), key=busy.get, reverse=True)
    colours = dict(zip(order, COLOURS, strict=False))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14" fill="#222222">{escape(launch["name"])}: {launch["dur"]:.1f} µs on '
        f'{launch["args"]["blocks"]} blocks, limited by {escape(launch["args"]["limited_by"])}</text>',
        f'<text x="{LEFT}" y="37" fill="#666666">the cores of one block</text>',
    ]
    bottom = TOP + ROW * len(rows)
    step = axis_step(launch["dur"])
    tick = 0
    while tick * step <= launch["dur"]:
        x = LEFT + tick * step * scale
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#666666">{tick * step:g}</text>')
        tick += 1
    for i, row in enumerate(rows):
        y = TOP + i * ROW
        out.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end" fill="#222222">{escape(names[row])}</text>')
        for span in (span for span in spans if span["tid"] == row):
            x = LEFT + (span["ts"] - launch["ts"]) * scale
            width = max(0.5, span["dur"] * scale)
            out.append(
                f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" '
                f'fill="{colours.get(span["name"], OTHER)}"/>'
            )
    x = LEFT
    for name in [*order[: len(COLOURS)], *(["several"] if "several" in busy else [])]:
        label = "short ones" if name == "several" else name
        out.append(f'<rect x="{x}" y="{bottom + 32}" width="12" height="12" fill="{colours.get(name, OTHER)}"/>')
        out.append(f'<text x="{x + 17}" y="{bottom + 42}" fill="#222222">{escape(label)}</text>')
        x += 34 + 7 * len(label)
    out.append(f'<text x="{WIDTH - 4}" y="{bottom + 16}" text-anchor="end" fill="#666666">µs</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", help="what ridge profile --trace wrote")
    parser.add_argument("kernel", help="ridge_linear_f16, say")
    parser.add_argument("out", help="an SVG file")
    parser.add_argument("--which", type=int, default=0, help="0: the longest launch of the kernel; 1: the next of another length")
    words = parser.parse_args()
    with open(words.trace, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    with open(words.out, "w", encoding="utf-8") as file:
        file.write(draw(*find_launch(events, words.kernel, words.which)))


if __name__ == "__main__":
    main()
