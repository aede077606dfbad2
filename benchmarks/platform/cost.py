#!/usr/bin/env python3
"""What keys, reservations and the ledger cost: a server that checks and counts beside one that does not.

    python3 benchmarks/platform/cost.py [--model FILE] [--database postgresql] [--rounds 5] [--keep-prompts]

With --keep-prompts: what a project that keeps prompts and answers costs beside one that does not, on one server.

Both servers run at once, and are loaded in turns (A B B A), so that what the machine does meanwhile meets both, and what
one leaves to be written behind its last answer too. Prints the
median of the rounds' figures as one JSON object: the time to the first token of one client, and the speed of 32.
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

from ridge_process import RidgeServer  # noqa: E402

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
            rounds = {(kind, load): [] for kind in sides for load in LOADS}
            for number in range(options.rounds):
                for load in LOADS:
                    turn = list(sides.items())
                    for kind, (server, side_key) in turn if number % 2 == 0 else turn[::-1]:
                        rounds[kind, load].append(figures_of(measure(binary, server, side_key, load, options)))
        finally:
            for server in servers:
                server.stop()
    first, second = sides
    result = {}
    for load in LOADS:
        for figure in ("ttft_ms", "tokens_per_second"):
            one, other = (statistics.median(each[figure] for each in rounds[kind, load]) for kind in sides)
            result[f"{load}: {figure}"] = {first: round(one, 3), second: round(other, 3),
                                           "change_percent": round(100 * (other / one - 1), 2)}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
