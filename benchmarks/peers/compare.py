#!/usr/bin/env python3
"""Times ridge against llama.cpp on one file, turn by turn; prints medians and their ratio."""

import argparse
import json
import statistics
import subprocess


def run_ridge(args):
    """(prefill, decode) in tokens/s."""
    command = [args.ridge, "bench", args.model, "-p", str(args.prompt), "-n", str(args.generate)]
    command += ["-b", "1", "-t", str(args.threads), "--repetitions", "1", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output)["results"][0]
    return result["prefill_tokens_per_second"], result["decode_tokens_per_second"]


def run_llama_bench(args):
    command = [args.llama_bench, "-m", args.model, "-p", str(args.prompt)]
    command += ["-n", str(args.generate), "-t", str(args.threads), "-r", "1", "-o", "json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads(output)
    prefill = next(row["avg_ts"] for row in rows if row["n_prompt"] and not row["n_gen"])
    decode = next(row["avg_ts"] for row in rows if row["n_gen"] and not row["n_prompt"])
    return prefill, decode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--llama-bench", required=True, help="the peer's program")
    parser.add_argument("--ridge", default="build/release/ridge")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    ours, theirs = [], []
    for round_number in range(1, args.rounds + 1):
        ours.append(run_ridge(args))
        theirs.append(run_llama_bench(args))
        print(f"round {round_number}: ridge {ours[-1][0]:.0f} / {ours[-1][1]:.1f}, "
              f"llama.cpp {theirs[-1][0]:.0f} / {theirs[-1][1]:.1f}", flush=True)
    print("\n| tokens/s | ridge | llama.cpp | ratio | ratio, worst round |\n|---|---|---|---|---|")
    for index, name in enumerate([f"prefill {args.prompt}", f"decode {args.generate}"]):
        pairs = [(a[index], b[index]) for a, b in zip(ours, theirs)]
        a = statistics.median(pair[0] for pair in pairs)
        b = statistics.median(pair[1] for pair in pairs)
        worst = min(pair[0] / pair[1] for pair in pairs)
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.2f} | {worst:.2f} |")


if __name__ == "__main__":
    main()
