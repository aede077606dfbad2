#!/usr/bin/env python3
"""What keys, reservations and the ledger cost: a server that checks and counts beside one that does not.

    python3 benchmarks/platform/cost.py [--model FILE] [--database postgresql] [--rounds 5] [--keep-prompts]

With --keep-prompts: what a project that keeps prompts and answers costs beside one that does not, on one server.

Both servers run at once, and are loaded in turns (A B B A), so that what the machine does meanwhile meets both, and what
one leaves to be written behind its last answer too. Prints one JSON object: the time to the first token and the speed of one
client and of 32, the medians of the rounds, and the median of what changes within a round. Rounds in which other programs
took more than --most-others percent of a processor are left out, and others made.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

from ridge_process import RidgeServer  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
LOADS = {
    "1 client": ["--concurrency", "1", "--requests", "{few}"],
    "32 clients": ["--concurrency", "32", "--requests", "{many}"],
}


def measure(binary, server, key, load, options):
    words = [word.format(few=options.few, many=options.many) for word in LOADS[load]]
    done = subprocess.run(
        [binary, "bench", "--serve", server.url, "--endpoint", "completions", "-p", str(options.prompt), "-n",
         str(options.output), "--ignore-eos", "--warmup", "2", "--json", *words],
        env={**os.environ, "RIDGE_API_KEY": key}, check=True, text=True, capture_output=True)
    return json.loads(done.stdout)


def busy_s():
    """Of all processors since the start."""
    user, nice, system, _, _, irq, softirq, *_ = (int(word) for word in pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / TICKS


def own_s():
    """Of this process and all that came of it."""
    parents, used = {}, {}
    for folder in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = sum(int(word) for word in fields[11:15]) / TICKS

    def is_own(process):
        while process != os.getpid() and process in parents:
            process = parents[process]
        return process == os.getpid()

    return sum(seconds for process, seconds in used.items() if is_own(process))


def figures_of(report):
    return {"ttft_ms": report["ttft_ms"]["p50"], "tokens_per_second": report["output_tokens_per_second"]}


@contextlib.contextmanager
def database(kind):
    """Settings of the environment for a new one."""
    if kind == "sqlite":
        yield {}
        return
    server = subprocess.Popen([sys.executable, ROOT / "tests/fixtures/postgres_server.py", "--durable"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield {"RIDGE_DATABASE": json.loads(server.stdout.readline())["url"]}
    finally:
        server.stdin.close()
        server.wait(timeout=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "tests/goldens/llama-f32.gguf"))
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-others", type=float, default=float("inf"), help="percent of a processor; else a round is repeated")
    parser.add_argument("--most-s", type=float, default=600, help="of repeating")
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--output", type=int, default=16)
    parser.add_argument("--few", type=int, default=200, help="requests of one client")
    parser.add_argument("--many", type=int, default=640, help="requests of 32 clients")
    parser.add_argument("--keep-prompts", action="store_true", help="measure these instead")
    options = parser.parse_args()
    binary = os.environ.get("RIDGE_BINARY", str(ROOT / "build/release/ridge"))
    with tempfile.TemporaryDirectory() as folder, database(options.database) as settings:
        environment = {**os.environ, "RIDGE_HOME": folder, **settings}

        def ridge(*words):
            done = subprocess.run([binary, *words, "--json"], env=environment, check=True, text=True,
                                  capture_output=True)
            return json.loads(done.stdout)

        key = ridge("key", "create", "bench")["key"]
        metered = RidgeServer(binary, environment, options.model, asks_for_keys=True)
        servers = [metered]
        if options.keep_prompts:
            ridge("project", "create", "kept")
            ridge("project", "change", "kept", "--keep-prompts", "1")
            kept_key = ridge("key", "create", "bench", "--project", "kept")["key"]
            sides = {"metered": (metered, key), "kept": (metered, kept_key)}
        else:
            plain = RidgeServer(binary, environment, options.model)
            servers.append(plain)
            sides = {"plain": (plain, key), "metered": (metered, key)}
        try:
            rounds = {load: [] for load in LOADS}
            until = time.monotonic() + options.most_s
            number = 0
            while min(map(len, rounds.values())) < options.rounds:
                if number >= options.rounds and time.monotonic() >= until:
                    break
                for load in LOADS:
                    if len(rounds[load]) >= options.rounds:
                        continue
                    turn, figures, others = list(sides.items()), {}, 0
                    for kind, (server, side_key) in turn if number % 2 == 0 else turn[::-1]:
                        busy, own, begin = busy_s(), own_s(), time.monotonic()
                        figures[kind] = figures_of(measure(binary, server, side_key, load, options))
                        others = max(others, (busy_s() - busy - own_s() + own) / (time.monotonic() - begin))
                    if 100 * others <= options.most_others:
                        rounds[load].append(figures)
                number += 1
        finally:
            for server in servers:
                server.stop()
    first, second = sides
    result = {}
    for load, all_figures in rounds.items():
        for figure in ("ttft_ms", "tokens_per_second"):
            pairs = [(each[first][figure], each[second][figure]) for each in all_figures]
            if not pairs:
                sys.exit(f"{load}: in no round of {options.most_s:.0f} s were other programs as still as --most-others wants")
            one, other = (statistics.median(side) for side in zip(*pairs))
            result[f"{load}: {figure}"] = {
                first: round(one, 3), second: round(other, 3), "rounds": len(pairs),
                "change": round(statistics.median(after - before for before, after in pairs), 3),
                "change_percent": round(statistics.median(100 * (after / before - 1) for before, after in pairs), 2)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
