#!/usr/bin/env python3
"""Writes tests/goldens/smollm2.golden.json: what transformers finds likely next on the real default model.

    tools/goldens/make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf tests/goldens/smollm2.golden.json

For a few fixed prompts, each given as token ids, the 16 most likely next tokens at each position with
their natural logarithms of probability, from float32 on the weights that the `gguf` package dequantises.
"""

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import torch

import reference
import vocabulary

LIKELY = 16

TEXTS = [
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Japan is",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\nGravity is a force",
    "def factorial(n):\n    if n == 0:\n        return 1\n    return n * factorial(n - 1)\n\n"
    "for i in range(10):\n    print(i, factorial(i))\n",
    "Der Zug nach München fährt um 14:35 Uhr ab. Où est la gare? 东京的天气很好。 \U0001f600 -- naïve café",
    "In 1969, two people walked on the Moon for the first time. They stayed for 21 hours and 36 minutes, "
    "gathered 21.5 kilograms of rock, and left a small metal plate that says \"We came in peace for all "
    "mankind.\" Since then, twelve people in all have walked there; the last of them came home in 1972.",
]


def likely_next(model, tokens: list[int]) -> list[dict]:
    """For each position, ids and logprobs of the LIKELY most probable next tokens, best first."""
    logits = torch.from_numpy(reference.logits(model, tokens))
    best = torch.log_softmax(logits.double(), dim=-1).topk(LIKELY)
    return [
        {"ids": ids.tolist(), "logprobs": [round(value, 5) for value in logprobs.tolist()]}
        for ids, logprobs in zip(best.indices, best.values)
    ]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("golden", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(2)
    tokenizer = vocabulary.from_gguf(reference.Metadata(gguf.GGUFReader(given.model)))
    model = reference.load(given.model)
    prompts = []
    for text in TEXTS:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        prompts.append({"text": text, "tokens": tokens, "positions": likely_next(model, tokens)})
    golden = {
        "generator": reference.versions(),
        "model_sha256": sha256_of(given.model),
        "prompts": prompts,
    }
    given.golden.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{given.golden}: {sum(len(p['tokens']) for p in prompts)} positions")


if __name__ == "__main__":
    main()
