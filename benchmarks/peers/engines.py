"""Runs one measurement of one engine in a process of its own, and reads its figures."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

import install

HERE = os.path.dirname(os.path.abspath(__file__))
RIDGE = "ridge"
TITLES = {RIDGE: "ridge", **install.TITLES}

# What each kind of measurement asks for. Speeds are medians of the repetitions after one to warm up.
SETTINGS = {
    "prefill": {"tokens": 512, "repetitions": 3},
    "decode": {"tokens": 32, "repetitions": 3},
    "batch": {"depth": 128, "tokens": 16, "batches": [1, 3, 4, 7, 13, 16], "repetitions": 1},
    "load": {"context": 512},
    "depth": {"depth": 8192, "tokens": 512, "repetitions": 1},
}
KINDS = tuple(SETTINGS)
# A prompt behind a filled context cannot be timed through OpenVINO GenAI.
LACKS = {("openvino", "depth")}


class Failed(Exception):
    """errors: all that the command wrote to its error stream, where it ended with an error."""

    def __init__(self, words, errors=""):
        super().__init__(words)
        self.errors = errors


@dataclasses.dataclass(frozen=True)
class Figure:
    name: str
    unit: str  # tok/s, ms or MB
    value: float


@dataclasses.dataclass(frozen=True)
class Options:
    ridge: str
    ridge_options: tuple
    environments: str  # folder of the peers' environments
    threads: int
    prefix: str  # words before each command that measures, such as "taskset -c 0,1"
    timeout_s: int


def run(command, options, environment=None):
    """(standard output, seconds, most memory in bytes)."""
    words = shlex.split(options.prefix) + command
    start = time.perf_counter()
    with tempfile.TemporaryFile(mode="w+") as errors:
        try:
            result = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
                timeout=options.timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"no end after {options.timeout_s} s") from None
        seconds = time.perf_counter() - start
        errors.seek(0)
        words_of_failure = " ".join(errors.read().split())
    if result.returncode != 0:
        raise Failed(f"exit code {result.returncode}: {words_of_failure[-300:]}", words_of_failure)
    return result.stdout, seconds


def json_of(text):
    """The last line that is a JSON object; libraries may print before it."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise Failed(f"no figures in its output: {text[-200:]!r}")


def bench_words(kind, threads):
    """The options of `ridge bench` for a kind of measurement."""
    settings = SETTINGS[kind]
    words = ["-t", str(threads), "--repetitions", str(settings["repetitions"]), "--json"]
    if kind == "batch":
        batches = ",".join(map(str, settings["batches"]))
        return words + ["-p", "0", "-n", str(settings["tokens"]), "-d", str(settings["depth"]), "-b", batches]
    if kind == "decode":
        return words + ["-p", "0", "-n", str(settings["tokens"])]
    return words + ["-p", str(settings["tokens"]), "-n", "0", "-d", str(settings.get("depth", 0))]


def figures_of_bench(kind, report):
    """(figures, the machine's bandwidth and the bytes of a step where they are known)."""
    results = report["results"]
    if kind in ("prefill", "depth"):
        return [Figure(figure_name(kind), "tok/s", results[0]["prefill_tokens_per_second"])], {}
    figures, limits = [], {}
    for result in results:
        name = figure_name(kind, result["batch"])
        speed = result["decode_tokens_per_second"]
        figures.append(Figure(name, "tok/s", speed))
        share = result.get("decode_share_of_bandwidth")
        if share:
            bandwidth = report["read_bytes_per_second"]
            limits[name] = {
                "read_bytes_per_second": bandwidth,
                "step_bytes": share * bandwidth * result["batch"] / speed,
            }
    return figures, limits


def figure_name(kind, batch=None):
    settings = SETTINGS[kind]
    if kind == "prefill":
        return f"prefill {settings['tokens']}"
    if kind == "depth":
        return f"prefill {settings['tokens']} after {settings['depth']}"
    if kind == "decode":
        return "decode, batch 1"
    return f"decode, batch {batch}, after {settings['depth']}"


FIRST_START = "load to first token, first start"
SECOND_START = "load to first token, second start"
KEEPING_START = "load to first token, keeping prepared weights"
PEAK = "peak memory"
PEAK_PREPARED = "peak memory, second start"


def measure_ridge(kind, path, options):
    if kind != "load":
        command = [options.ridge, "bench", path, *bench_words(kind, options.threads), *options.ridge_options]
        return figures_of_bench(kind, json_of(run(command, options)[0]))
    figures = []
    # A store of its own, so that nothing is prepared yet; the plain file's digest is read by the second command.
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix="ridge-") as home:
        start = [options.ridge, "run", path, "Why is the sky blue?", "--max-tokens", "1", "--json", "--home", home]
        start += ["--context", str(SETTINGS["load"]["context"]), "-t", str(options.threads), *options.ridge_options]
        for name, peak, more in (
            (FIRST_START, PEAK, []),
            (KEEPING_START, None, ["--prepared-cache"]),
            (SECOND_START, PEAK_PREPARED, ["--prepared-cache"]),
        ):
            with tempfile.NamedTemporaryFile(mode="r") as peak_file:
                timed = ["/usr/bin/env", "python3", os.path.join(HERE, "peak.py"), peak_file.name, *start, *more]
                run(timed, options)
                seconds, peak_bytes = json.load(peak_file)
            figures.append(Figure(name, "ms", seconds * 1e3))
            if peak:
                figures.append(Figure(peak, "MB", peak_bytes / 1e6))
    return figures, {}


def measure_peer(engine, kind, path, options):
    worker = "openvino_worker.py" if engine == "openvino" else "llama_worker.py"
    python = install.python_of(options.environments, engine)
    words = [python, os.path.join(HERE, worker), kind, path, str(options.threads)]
    try:
        text = run([*words, json.dumps(SETTINGS[kind])], options)[0]
    except Failed as failure:
        # llama.cpp's layout for AMX ends in an assertion for models of latent attention (0.3.36: no back end for kv_b).
        if engine == "openvino" or "GGML_ASSERT" not in failure.errors:
            raise
        print(f"{engine} aborts with its own layouts of weights; measured with the file's", file=sys.stderr)
        text = run([*words, json.dumps({**SETTINGS[kind], "plain_weights": True})], options)[0]
    return figures_of_worker(kind, json_of(text)), {}


def figures_of_worker(kind, result):
    if kind == "load":
        # It keeps nothing between starts.
        return [
            Figure(FIRST_START, "ms", result["first_token_ms"]),
            Figure(SECOND_START, "ms", result["first_token_ms"]),
            Figure(PEAK, "MB", result["peak_bytes"] / 1e6),
            Figure(PEAK_PREPARED, "MB", result["peak_bytes"] / 1e6),
        ]
    speeds = result["tokens_per_second"]
    if kind == "batch":
        return [Figure(figure_name(kind, int(batch)), "tok/s", speed) for batch, speed in speeds.items()]
    return [Figure(figure_name(kind), "tok/s", speeds)]


def measure(engine, kind, path, options):
    """(list of Figure, limits). Raises Failed."""
    if engine == RIDGE:
        return measure_ridge(kind, path, options)
    return measure_peer(engine, kind, path, options)
