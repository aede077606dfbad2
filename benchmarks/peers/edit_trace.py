"""Writes a trace for `ridge bench --serve URL --trace FILE`: texts that are asked for again with one word changed.

    python3 benchmarks/peers/edit_trace.py --requests 64 --seed 1 > edit.jsonl
"""

import argparse
import json
import random

WHO = ["The engineer", "My neighbour", "A young teacher", "The old captain", "Her brother", "The night guard", "Our doctor"]
DID = ["walked to", "wrote a letter about", "bought a map of", "told a long story of", "slowly forgot", "painted", "measured"]
WHAT = [
    "the stone bridge", "the green valley", "a small harbour", "the railway station", "the river in winter",
    "an empty market", "the city library",
]  # fmt: skip
WHEN = [
    "in the early morning", "after the heavy rain", "on the last day of March", "before the shops opened",
    "during the long summer", "when nobody was there",
]  # fmt: skip
SENTENCES = 9
OUTPUT_TOKENS = 140


def entry(draw):
    parts = [" ".join(map(draw.choice, (WHO, DID, WHAT, WHEN))) + "." for _ in range(SENTENCES)]
    prompt = (
        'Repeat the following text exactly, but write "Friday" instead of "March".\n\n'
        f"Text: {' '.join(parts)}\n\nRepeat the text."
    )
    return {"prompt": prompt, "output_tokens": OUTPUT_TOKENS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    for _ in range(options.requests):
        print(json.dumps(entry(draw)))


if __name__ == "__main__":
    main()
