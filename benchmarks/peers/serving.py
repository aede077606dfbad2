#!/usr/bin/env python3
"""Loads `ridge serve`, and llama.cpp's server where it is given, as several users do, and prints the tables of
docs/performance.md, "Serving beside llama.cpp".

One load generator, `ridge bench --serve`, runs on the same cores. Servers listen on loopback, one at a time, but for the parts
on guesses, whose two servers take turns. The part on disconnects is not among the parts unless it is named: it fails where
anything of the clients that left is left behind, and takes long with a model that is not tiny.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import machine
from engines import Failed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("clients", "prefix", "fairness", "guesses", "revisions", "disconnects")
RIDGE, LLAMA = "ridge", "llama.cpp"
START_S = 300
# Of half of what the server answers: what the first key sends, and the other within its share and beyond it.
FIRST, WITHIN_SHARE, BEYOND_SHARE = 0.5, 0.8, 10
FEWEST_THAT_MAY_LEAVE = 1000  # requests of a load: of a few, none may leave early
FREE_BLOCKS = "blocks that are free"
BACK_S = 60  # in which all is as before once the last client has left


def say(text):
    print(text, file=sys.stderr, flush=True)


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    parser.add_argument("--parts", default=[part for part in PARTS if part != "disconnects"],
                        type=lambda text: text.split(","), metavar="A,B",
                        help=f"of {', '.join(PARTS)}")
    parser.add_argument("--llama-server", default="", metavar="PATH", help="llama.cpp's server; without it ridge runs alone")
    parser.add_argument("--ridge", default=os.path.join(ROOT, "build/release/ridge"))
    parser.add_argument("--ridge-options", default="", help="further words for ridge serve, such as '--precision mixed'")
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--requests", type=int, default=64, help="of the 16 clients")
    parser.add_argument("--duration", type=int, default=24, help="seconds of each load of the part on fairness")
    parser.add_argument("--rounds", type=int, default=2, help="turns of guesses")
    parser.add_argument("--disconnects", type=int, default=10_000, help="clients that leave in the part of that name")
    parser.add_argument("--json", metavar="FILE", help="also write all reports")
    args = parser.parse_args(words)
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"--parts: no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if min(args.threads, args.requests, args.duration, args.rounds, args.disconnects) < 1:
        parser.error("--threads, --requests, --duration, --rounds and --disconnects must be at least 1")
    return args


# ---- Commands ----------------------------------------------------------------------------------


def ridge_server(args, *options):
    words = [args.ridge, "serve", args.model, "--no-auth", "--port", "0", "--json", "--threads", str(args.threads)]
    return words + args.ridge_options.split() + list(options)


def llama_server(args, port, context):
    return [args.llama_server, "-m", args.model, "-t", str(args.threads), "-c", str(context), "--parallel", "16",
            "-fa", "on", "--host", "127.0.0.1", "--port", str(port)]


def load(args, url, *words):
    return [args.ridge, "bench", "--serve", url, "--endpoint", "completions", "--ignore-eos", "--json", *map(str, words)]


def clients_load(args):
    return ["--concurrency", 16, "--warmup", 4, "-p", 230, "-n", 64, "--requests", args.requests]


def prefix_load(requests):
    return ["-p", 20, "--shared-prefix", 1500, "-n", 8, "--warmup", 2, "--requests", requests]


def capacity_load():
    return ["-p", 100, "-n", 32, "--warmup", 4, "--concurrency", 16, "--requests", 96]


def fairness_load(args, first, rate, seed):
    return ["-p", 100, "-n", 32, "--warmup", 2, "--duration", args.duration, "--seed", seed,
            "--group", f"light,rate={first},key=a", "--group", f"heavy,rate={rate},key=b"]


def guesses_load(trace, clients, requests):
    return ["--trace", trace, "--concurrency", clients, "--requests", requests]


def disconnects_load(requests, seed):
    return ["--concurrency", 96, "-p", 24, "-n", 90, "--tokens-per-word", 4, "--disconnect", 1, "--seed", seed,
            "--requests", requests]


# ---- Tables ------------------------------------------------------------------------------------


def of_group(report, name):
    return next(group for group in report["groups"] if group["name"] == name)


def table(head, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def ratio_text(ours, theirs, less_is_better):
    """As the documents write it: 3.07, or 1/15 of a time."""
    if not ours or not theirs:
        return ""
    if not less_is_better:
        return f"{ours / theirs:.2f}"
    return f"1/{theirs / ours:.0f}" if theirs >= 2 * ours else f"{ours / theirs:.2f}"


def clients_table(reports):
    """`reports`: {engine: report of `ridge bench --serve --json`}."""
    figures = [
        ("tokens/s, prompts and answers", lambda report: report["total_tokens_per_second"], "{:.0f}", False),
        ("time to the first token, median", lambda report: report["ttft_ms"]["p50"], "{:.0f} ms", True),
        ("between tokens, p99", lambda report: report["inter_token_ms"]["p99"], "{:.0f} ms", True),
    ]
    beside = LLAMA in reports
    rows = []
    for name, figure, form, less_is_better in figures:
        row = [name, *(form.format(figure(report)) for report in reports.values())]
        if beside:
            row.append(ratio_text(figure(reports[RIDGE]), figure(reports[LLAMA]), less_is_better))
        rows.append(row)
    return table(["", *reports, *(["ratio"] if beside else [])], rows)


def prefix_table(reports):
    return table(list(reports), [[f"{report['ttft_ms']['p50']:.0f} ms" for report in reports.values()]])


def fairness_table(reports):
    """`reports`: {requests a second of the other key: report}."""
    rows = []
    for rate, report in reports.items():
        light, heavy = of_group(report, "light"), of_group(report, "heavy")
        refused = sum(count for kind, count in heavy["failures"].items() if kind.startswith("429"))
        rows.append([f"{rate} a second", f"{light['ttft_ms']['p50']:.0f} / {light['ttft_ms']['p95']:.0f} ms",
                     f"{heavy['ok']} / {refused}"])
    return table(["the other key sends", "time to the first token of the first key, p50 / p95",
                  "answered / refused of the other"], rows)


def share_of_patience(reports):
    """How much later first tokens of the first key come at p95 when the other sends more than its share."""
    within, beyond = (of_group(reports[rate], "light")["ttft_ms"]["p95"] for rate in sorted(reports))
    return beyond / within


def guesses_table(rounds):
    """`rounds`: [{"one": (with, without), "many": (with, without)}], each a report."""
    figures = [
        ("one client, tokens/s of answers", "one", lambda report: report["output_tokens_per_second"], "{:.0f}", False),
        ("one client, ms a token after the first", "one", lambda report: report["per_token_ms"]["p50"], "{:.2f}", True),
        ("16 clients, tokens/s of answers", "many", lambda report: report["output_tokens_per_second"], "{:.0f}", False),
    ]
    rows = []
    for name, load_name, figure, form, less_is_better in figures:
        pairs = [tuple(map(figure, each[load_name])) for each in rounds]
        ratios = [without / with_ if less_is_better else with_ / without for with_, without in pairs]
        rows.append([name, *(", ".join(form.format(pair[side]) for pair in pairs) for side in (0, 1)),
                     ", ".join(f"{ratio:.2f}" for ratio in ratios)])
    return table(["", "with guesses", "`--no-speculation`", "ratio"], rows)


def guesses_right(metrics):
    """The share of the guesses that were right, of a server's /metrics; 0 where there were none."""
    counted = {}
    for name in ("draft_tokens", "accepted_tokens"):
        values = re.findall(rf"^vllm:spec_decode_num_{name}_total(?:{{[^}}]*}})? (\S+)$", metrics, re.MULTILINE)
        counted[name] = sum(map(float, values))
    return counted["accepted_tokens"] / counted["draft_tokens"] if counted["draft_tokens"] else 0.0


def state_of(health, descriptors):
    """What clients that leave must leave as it was: of `/health`, and how many files a process has open."""
    model = health["models"][0]
    return {"requests that run": model["running"], "requests that wait": model["waiting"],
            FREE_BLOCKS: model["blocks_free"], "connections": health["connections"],
            "descriptors": descriptors}


def left_behind(before, after):
    """In words, what is held that was not."""
    def is_held(name):
        return after[name] < before[name] if name == FREE_BLOCKS else after[name] > before[name]

    return [f"{name}: {before[name]} before, {after[name]} after" for name in before if is_held(name)]


def is_idle(state):
    return state["requests that run"] + state["requests that wait"] == 0 and state["connections"] == 1  # our own


def strange_failures(report):
    """Those that are not refusals for want of room."""
    return {kind: count for kind, count in report["failures"].items() if not kind.startswith("429")}


def disconnects_table(loads, before, after):
    counts = {name: sum(load[name] for load in loads) for name in ("requests", "left", "ok", "failed")}
    words = (f"Of {counts['requests']:,} requests {counts['left']:,} left, {counts['ok']:,} were answered first and "
             f"{counts['failed']:,} refused (429).")
    return words + "\n\n" + table(["", "before", "after"], [[name, f"{before[name]:,}", f"{after[name]:,}"] for name in before])


# ---- Measuring ---------------------------------------------------------------------------------


class Server:
    """Runs from entering to leaving; `url` is its address."""

    def __init__(self, command, url=None):
        self.command, self.url = command, url
        self.log = tempfile.TemporaryFile(mode="w+")

    def __enter__(self):
        say("$ " + " ".join(self.command))
        out = subprocess.PIPE if self.url is None else self.log
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=self.log, text=True)
        try:
            if self.url is None:
                self.url = json.loads(self.process.stdout.readline() or "{}").get("url")
            until = time.monotonic() + START_S
            while not self.is_ready():
                if self.process.poll() is not None or time.monotonic() > until:
                    self.log.seek(0)
                    raise Failed(f"{self.command[0]} does not serve: {self.log.read()[-2000:]}")
                time.sleep(0.2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_ready(self):
        try:
            return self.url is not None and bool(self.get("/health"))
        except (urllib.error.URLError, OSError):
            return False

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def llama(args, context):
    port = free_port()
    return Server(llama_server(args, port, context), f"http://127.0.0.1:{port}")


def measure(args, server, words):
    command = load(args, server.url, *words)
    say("$ " + " ".join(command))
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode not in (0, 1) or not result.stdout.strip():  # 1: some requests failed, which may be wanted
        raise Failed(f"{' '.join(command)} ended with {result.returncode}")
    return json.loads(result.stdout)


def measure_clients(args):
    reports = {}
    with Server(ridge_server(args)) as server:
        reports[RIDGE] = measure(args, server, clients_load(args))
    if args.llama_server:
        with llama(args, 16384) as server:
            reports[LLAMA] = measure(args, server, clients_load(args))
    return reports, clients_table(reports)


def measure_prefix(args):
    reports = {}
    with Server(ridge_server(args)) as server:
        reports[RIDGE] = measure(args, server, prefix_load(16))
    with Server(ridge_server(args, "--no-prefix-cache")) as server:
        reports["ridge, `--no-prefix-cache`"] = measure(args, server, prefix_load(6))
    if args.llama_server:
        with llama(args, 65536) as server:
            reports["llama.cpp, warm slots"] = measure(args, server, prefix_load(16))
    return reports, prefix_table(reports)


def measure_fairness(args):
    reports = {}
    with Server(ridge_server(args, "--max-queued", "64")) as server:
        share = measure(args, server, capacity_load())["requests_per_second"] / 2
        for seed, of_share in enumerate((WITHIN_SHARE, BEYOND_SHARE), start=101):
            rate = round(of_share * share, 1)
            reports[rate] = measure(args, server, fairness_load(args, round(FIRST * share, 1), rate, seed))
    words = (f"{fairness_table(reports)}\n\nA share is {share:.1f} a second, of which the first key sends half. "
             f"At p95 {share_of_patience(reports):.2f} times as late.")
    return reports, words


def measure_guesses(args, kind="request"):
    rounds = []
    with tempfile.NamedTemporaryFile(mode="w", suffix=".jsonl") as trace:
        words = [sys.executable, os.path.join(HERE, "edit_trace.py"), "--kind", kind]
        trace.write(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
        trace.flush()
        loads = {"one": guesses_load(trace.name, 1, 6), "many": guesses_load(trace.name, 16, 32)}
        with Server(ridge_server(args)) as guessing, Server(ridge_server(args, "--no-speculation")) as plain:
            for _ in range(args.rounds):
                rounds.append({name: tuple(measure(args, server, words) for server in (guessing, plain))
                               for name, words in loads.items()})
            right = guesses_right(guessing.get("/metrics"))
    return rounds, f"{guesses_table(rounds)}\n\n{right:.0%} of the guesses were right."


def measure_revisions(args):
    return measure_guesses(args, "revision")


def state(server):
    counts = []
    for _ in range(5):  # the fewest of a few looks: a connection that asked for /health closes behind its answer
        time.sleep(0.1)
        counts.append(len(os.listdir(f"/proc/{server.process.pid}/fd")))
    return state_of(json.loads(server.get("/health")), min(counts))


def await_state(server, is_wanted):
    """The state once it is as wanted; the last one where it never is."""
    until = time.monotonic() + BACK_S
    while not is_wanted(now := state(server)) and time.monotonic() < until:
        pass
    return now


def measure_disconnects(args):
    loads = []
    with Server(ridge_server(args)) as server:
        # What is opened with the first requests is open before.
        measure(args, server, ["--concurrency", 4, "-p", 24, "-n", 8, "--tokens-per-word", 4, "--requests", 8])
        before = await_state(server, is_idle)
        if not is_idle(before):
            raise Failed(f"the server does not come to rest: {before}")
        left = 0
        while left < args.disconnects:
            requests = max(2 * (args.disconnects - left), FEWEST_THAT_MAY_LEAVE)
            loads.append(measure(args, server, disconnects_load(requests, seed=len(loads) + 1)))
            if loads[-1]["left"] == 0:
                raise Failed("no client left before its answer: the model answers too soon for that")
            if strange_failures(loads[-1]):
                raise Failed(f"requests failed: {strange_failures(loads[-1])}")
            left += loads[-1]["left"]
        after = await_state(server, lambda now: not left_behind(before, now))
    if left_behind(before, after):
        raise Failed(f"{left} clients that left have left something behind: {'; '.join(left_behind(before, after))}")
    return {"loads": loads, "before": before, "after": after}, disconnects_table(loads, before, after)


MEASURES = {"clients": measure_clients, "prefix": measure_prefix, "fairness": measure_fairness,
            "guesses": measure_guesses, "revisions": measure_revisions,
            "disconnects": measure_disconnects}


def main():
    args = parse()
    results = {}
    try:
        for part in args.parts:
            results[part], words = MEASURES[part](args)
            print(f"{part}:\n\n{words}\n", flush=True)
    except Failed as failure:
        sys.exit(f"serving.py: {failure}")
    finally:
        if args.json:
            with open(args.json, "w") as file:
                json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
