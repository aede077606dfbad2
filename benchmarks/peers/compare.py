#!/usr/bin/env python3
"""Runs ridge and its peers turn by turn on the same files and prints one table of ratios.

Installs llama-cpp-python (built by GCC and by Clang for this machine) and openvino-genai from where pip is configured to look, and
writes random-weight models in the exact shapes of DeepSeek-R1-Distill-Qwen. What fails or does not fit is said and left out. Results are
kept as they come: run it again with the same options and it goes on where it stopped.
"""

import argparse
import json
import os
import sys
import time

import engines
import install
import machine
import models
import report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Loading a model in OpenVINO takes about three times its parameters in half precision.
OPENVINO_BYTES_PER_PARAMETER = 6


def say(text):
    print(text, file=sys.stderr, flush=True)


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = {"type": lambda text: text.split(","), "metavar": "A,B"}
    parser.add_argument("--models", default=list(models.DEFAULT), **listed,
                        help=f"of {', '.join(models.KNOWN)}, or NAME=FILE.gguf")
    parser.add_argument("--peers", default=list(install.PEERS), **listed, help=f"of {', '.join(install.PEERS)}")
    parser.add_argument("--kinds", default=list(engines.KINDS), **listed, help=f"of {', '.join(engines.KINDS)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement")
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--ridge", default=os.path.join(ROOT, "build/release/ridge"))
    parser.add_argument("--ridge-options", default="", help="further words for ridge, such as '--kv-dtype bf16'")
    parser.add_argument("--random-model", default=os.path.join(ROOT, "build/release/random_model"))
    parser.add_argument("--folder", default=os.path.join(ROOT, "build/peers"), help="environments, models, results")
    parser.add_argument("--results", help="a file of results; FOLDER/results.jsonl without")
    parser.add_argument("--prefix", default="", help="words before each measuring command, such as 'taskset -c 0,1'")
    parser.add_argument("--timeout-s", type=int, default=1800, help="of one measurement")
    parser.add_argument("--again", action="store_true", help="forget the results of earlier runs")
    parser.add_argument("--report", action="store_true", help="measure nothing, print the table of the results")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table as Markdown")
    parser.add_argument("--json", metavar="FILE", help="also write it as JSON")
    args = parser.parse_args(words)
    for name, known in (("peers", install.PEERS), ("kinds", engines.KINDS)):
        unknown = set(getattr(args, name)) - set(known) - {""}
        if unknown:
            parser.error(f"--{name}: no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    args.peers = [peer for peer in args.peers if peer]
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    args.results = args.results or os.path.join(args.folder, "results.jsonl")
    return args


def read_results(path):
    """The records of earlier runs; a line cut off by a crash is left out."""
    records = []
    if os.path.isfile(path):
        with open(path) as file:
            for line in file:
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
    return records


def done_keys(records):
    return {(record["model"], record["kind"], record["engine"], record["round"]) for record in records}


def plan(model_names, kinds, engine_names, rounds, done):
    """What is still to be measured, in the order of measuring: engines take turns within a round."""
    return [
        (model, kind, engine, number)
        for model in model_names
        for number in range(1, rounds + 1)
        for kind in kinds
        for engine in engine_names
        if (engine, kind) not in engines.LACKS and (model, kind, engine, number) not in done
    ]


def reason_against(engine, model):
    """Why the engine cannot run the model here; empty where it may."""
    if engine != "openvino":
        return ""
    needed = model.parameters * 1e9 * OPENVINO_BYTES_PER_PARAMETER
    free = machine.available_memory_bytes()
    if needed > free:
        return f"OpenVINO would take about {needed / 1e9:.0f} GB of memory and {free / 1e9:.0f} GB are free"
    return ""


def install_peers(args, flags):
    there = []
    for peer in args.peers:
        try:
            install.install(args.folder, peer, flags, say)
            there.append(peer)
        except (install.Missing, OSError) as error:
            say(f"without {install.TITLES[peer]}: {error}")
    return there


def find_models(args):
    """{name: (Model, path)} of those that can be had."""
    found = [models.find(text) for text in args.models]
    folder = os.path.join(args.folder, "models")
    needed = models.missing_bytes(folder, [model for model, path in found if path is None])
    if needed:
        say(f"models still to be written to {folder}: {needed / 1e9:.1f} GB; "
            f"{machine.free_disk_bytes(folder) / 1e9:.1f} GB are free")
    there = {}
    for model, path in found:
        try:
            if path is None:
                path = models.make(folder, model, args.ridge, args.random_model, args.threads, say)
            elif not os.path.isfile(path):
                raise models.Missing(f"there is no file {path}")
            there[model.name] = (model, os.path.abspath(path))
        except (models.Missing, OSError) as error:
            say(f"without {model.name}: {error}")
    return there


def measure_all(args, files, peers, options, records):
    engine_names = [engines.RIDGE, *peers]
    todo = plan(list(files), args.kinds, engine_names, args.rounds, done_keys(records))
    failed = set()
    for number, (name, kind, engine, turn) in enumerate(todo, 1):
        where = f"[{number}/{len(todo)}] {name}, {kind}, {engines.TITLES[engine]}, round {turn}"
        model, path = files[name]
        if (name, kind, engine) in failed:
            continue
        try:
            reason = reason_against(engine, model)
            if reason:
                raise engines.Failed(reason)
            start = time.monotonic()
            figures, limits = engines.measure(engine, kind, path, options)
        except engines.Failed as error:
            failed.add((name, kind, engine))
            say(f"{where}: left out: {error}")
            continue
        say(f"{where}: " + ", ".join(report.number(each.value, each.unit) + " " + each.unit for each in figures)
            + f" ({time.monotonic() - start:.0f} s)")
        with open(args.results, "a") as file:
            for each in figures:
                record = {"model": name, "kind": kind, "engine": engine, "round": turn, "figure": each.name,
                          "unit": each.unit, "value": each.value, "limits": limits.get(each.name)}
                records.append(record)
                file.write(json.dumps(record) + "\n")


def show(args, records):
    result = report.tables(records)
    print(report.as_text(result), flush=True)
    if args.markdown:
        with open(args.markdown, "w") as file:
            file.write(report.as_markdown(result))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report.as_json(result), file, indent=2)


def main():
    args = parse()
    os.makedirs(args.folder, exist_ok=True)
    if args.again and os.path.isfile(args.results):
        os.remove(args.results)
    records = read_results(args.results)
    if args.report:
        return show(args, records)
    name, flags = machine.processor()
    amx = machine.has_amx(flags)
    say(f"{name}, {args.threads} threads; {'with AMX' if amx else 'no AMX here, so nothing is said of it'}")
    ridge_options = args.ridge_options.split()
    if amx and "--cpu-isa" not in ridge_options:
        ridge_options += ["--cpu-isa", "amx"]
    try:
        files = find_models(args)
    except models.Missing as error:
        sys.exit(str(error))
    peers = install_peers(args, flags)
    options = engines.Options(args.ridge, tuple(ridge_options), args.folder, args.threads, args.prefix, args.timeout_s)
    try:
        measure_all(args, files, peers, options, records)
    except KeyboardInterrupt:
        say("stopped; the table is of what was measured so far")
    show(args, records)


if __name__ == "__main__":
    main()
