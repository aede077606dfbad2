#!/usr/bin/env python3
"""Writes tests/goldens/smollm2-embeddings.golden.json: what transformers makes of a few texts.

    tools/goldens/make_embeddings.py SmolLM2-135M-Instruct.Q4_1.gguf tests/goldens/smollm2-embeddings.golden.json

For each text, given as token ids too, the last hidden states after the final norm, in float32 on the weights
that the `gguf` package dequantises: their mean over all tokens, and that of the last token, each scaled to a
length of 1.
"""

import argparse
import json
from pathlib import Path

import gguf
import torch

import reference
import vocabulary
from make_smollm2 import sha256_of

TEXTS = [
    "The cat sleeps on the warm roof.",
    "A kitten is lying on top of the house in the sun.",
    "Interest rates rose by half a percent in March.",
    "Der Zug nach München fährt um 14:35 Uhr ab. 东京的天气很好。",
    "def factorial(n):\n    return 1 if n == 0 else n * factorial(n - 1)\n",
    "x",
]


def rounded_unit(vector: torch.Tensor) -> list[float]:
    """Six digits behind the point keep a cosine exact to about 1e-9."""
    unit = vector.double() / vector.double().norm()
    return [round(value, 6) for value in unit.tolist()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("golden", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(2)
    tokenizer = vocabulary.from_gguf(reference.Metadata(gguf.GGUFReader(given.model)))
    model = reference.load(given.model)
    texts = []
    for text in TEXTS:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        with torch.inference_mode():
            hidden = model.model(torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
        texts.append(
            {
                "text": text,
                "tokens": tokens,
                "mean": rounded_unit(hidden.mean(dim=0)),
                "last": rounded_unit(hidden[-1]),
            }
        )
    golden = {"generator": reference.versions(), "model_sha256": sha256_of(given.model), "texts": texts}
    given.golden.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{given.golden}: {len(texts)} texts")


if __name__ == "__main__":
    main()
