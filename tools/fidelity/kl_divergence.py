#!/usr/bin/env python3
"""Mean KL divergence of ridge's next-token distributions from a float32 transformers run of one GGUF file.

    tools/fidelity/kl_divergence.py --ridge build/release/ridge --model FILE.gguf
    tools/fidelity/kl_divergence.py --ridge build/release/ridge --model FILE.gguf --llama-cpp --json

P is what transformers computes in float32 on the weights that the `gguf` package dequantises from FILE, so
what is measured is everything an engine adds to the file's own quantisation: rounding of activations and
of the cache. With --original P is computed on the weights of that file instead, and what the quantisation of FILE
loses of it counts as well. Q is `ridge logits FILE --tokens … --top VOCABULARY`. Every position of every chunk counts,
over the whole vocabulary. With --llama-cpp the same positions are put to llama.cpp in the same run.
Figures are in nats.
"""

import argparse
import importlib
import inspect
import json
import sys
import time
from pathlib import Path

import gguf
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "goldens"))

import reference
import vocabulary
from distributions import Divergence, LlamaCpp, Ridge, log_softmax

# Modules of the standard library whose documentation is prose enough to be worth predicting.
DOCUMENTED = ("argparse", "collections", "datetime", "decimal", "difflib", "email", "functools", "heapq",
              "itertools", "json", "logging", "pathlib", "random", "statistics", "string", "textwrap")  # fmt: skip


def standard_library_text() -> str:
    """The documentation strings of some standard modules, in a fixed order.

    They come from the running interpreter, so figures of different Python versions differ a little.
    """
    parts = []
    for name in DOCUMENTED:
        module = importlib.import_module(name)
        parts.append(inspect.getdoc(module) or "")
        for _, member in sorted(vars(module).items(), key=lambda pair: pair[0]):
            if inspect.isclass(member) or inspect.isfunction(member):
                document = inspect.getdoc(member) or ""
                if len(document) > 200:
                    parts.append(document)
    return "\n\n".join(parts)


def chunks_of(tokens: list[int], length: int, positions: int) -> list[list[int]]:
    """Sequences of `length` tokens, taken at even distances through the text, `positions` in all."""
    count = -(-positions // length)
    if len(tokens) < count * length:
        raise SystemExit(f"the text has {len(tokens)} tokens; {count * length} are needed")
    stride = (len(tokens) - length) // max(count - 1, 1)
    return [tokens[i * stride : i * stride + length] for i in range(count)]


def with_bos(tokens: list[int], meta: reference.Metadata) -> list[int]:
    """Each chunk begins as the model's own tokenizer would begin a text."""
    if meta.get("tokenizer.ggml.add_bos_token", False):
        return [meta.get("tokenizer.ggml.bos_token_id"), *tokens[:-1]]
    return tokens


def measure(model, engines: dict, chunks: list[list[int]], show) -> dict:
    """Each engine's divergence from `model`, all of them on every chunk in turn."""
    parts = {name: [] for name in engines}
    seconds = dict.fromkeys(engines, 0.0)
    for index, tokens in enumerate(chunks):
        wanted = log_softmax(reference.logits(model, tokens))
        for name, engine in engines.items():
            start = time.monotonic()
            parts[name].append(Divergence.between(wanted, engine.logprobs(tokens)))
            seconds[name] += time.monotonic() - start
        show(index + 1, {name: Divergence.joined(part).summary() for name, part in parts.items()})
    return {name: Divergence.joined(part).summary() | {"seconds": round(seconds[name], 1)}
            for name, part in parts.items()}  # fmt: skip


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file of the Llama or Qwen2 family")
    parser.add_argument("--original", metavar="FILE", help="what --model was quantised from, as the truth")
    parser.add_argument("--ridge", metavar="PROGRAM", help="build/release/ridge, to measure it")
    parser.add_argument("--ridge-option", action="append", default=[], metavar="OPTION",
                        help="passed on to ridge logits, as in --ridge-option=--threads=2")  # fmt: skip
    parser.add_argument("--llama-cpp", action="store_true", help="measure llama.cpp too")
    parser.add_argument("--text", type=Path, help="a UTF-8 file to predict, in place of the standard library's")
    parser.add_argument("--positions", type=int, default=1024, help="how many to compare (default 1024)")
    parser.add_argument("--chunk", type=int, default=128, help="tokens of one sequence (default 128)")
    parser.add_argument("--threads", type=int, default=2, help="for transformers and llama.cpp (default 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    given = parser.parse_args()
    if not given.ridge and not given.llama_cpp:
        parser.error("name an engine to measure: --ridge PROGRAM, --llama-cpp or both")
    return given


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    meta = reference.Metadata(gguf.GGUFReader(given.model))
    model = reference.load(given.original or given.model)
    text = given.text.read_text() if given.text else standard_library_text()
    tokens = vocabulary.from_gguf(meta).encode(text, add_special_tokens=False).ids
    chunks = [with_bos(chunk, meta) for chunk in chunks_of(tokens, given.chunk, given.positions)]

    engines = {}
    if given.ridge:
        size = model.config.vocab_size
        engines["ridge"] = Ridge(given.ridge, given.model, size, given.ridge_option)
    if given.llama_cpp:
        engines["llama.cpp"] = LlamaCpp(given.model, given.chunk, given.threads)

    def show(done: int, figures: dict) -> None:
        if sys.stderr.isatty():
            state = ", ".join(f"{name} {figure['mean_kl']:.5f}" for name, figure in figures.items())
            print(f"\rchunk {done} of {len(chunks)}: mean KL {state} ", end="", file=sys.stderr)

    results = measure(model, engines, chunks, show)
    if given.json:
        print(json.dumps({"model": Path(given.model).name, "reference": reference.versions()} | results))
        return
    for name, figure in results.items():
        print(
            f"{name}: mean KL(transformers || {name}) {figure['mean_kl']:.5f}, p99 {figure['p99_kl']:.5f}, "
            f"top-1 agreement {100 * figure['top1_agreement']:.2f} %, {figure['positions']} positions"
        )


if __name__ == "__main__":
    main()
