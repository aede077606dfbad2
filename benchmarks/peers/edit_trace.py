"""Writes a trace for `ridge bench --serve URL --trace FILE`: texts that are asked for again with one word changed.

    python3 benchmarks/peers/edit_trace.py --requests 64 --seed 1 > edit.jsonl
    python3 benchmarks/peers/edit_trace.py --kind revision > revision.jsonl

`request` asks for the text in words, of sentences that share their phrases: a small model mixes them up as it repeats them. In
`revision` two versions of a text without such phrases stand before the third, whose first words are given: a small model copies it.
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
REVISION_TOKENS = 85  # what is left of the text, so that no answer has to go on after it


def request(draw):
    parts = [" ".join(map(draw.choice, (WHO, DID, WHAT, WHEN))) + "." for _ in range(SENTENCES)]
    prompt = (
        'Repeat the following text exactly, but write "Friday" instead of "March".\n\n'
        f"Text: {' '.join(parts)}\n\nRepeat the text."
    )
    return {"prompt": prompt, "output_tokens": OUTPUT_TOKENS}


def revision(draw):
    """No phrase twice, so that the words before a place tell it apart."""
    columns = [draw.sample(phrases, len(phrases)) for phrases in (WHO, DID, WHAT, [*WHEN, "at noon"])]
    text = " ".join(" ".join(phrases) + "." for phrases in zip(*columns))
    changed = text.replace(columns[0][3], "The new teacher")
    prompt = f"Version 1:\n\n{text}\n\nVersion 2:\n\n{changed}\n\nVersion 3:\n\n{' '.join(changed.split()[:3])}"
    return {"prompt": prompt, "output_tokens": REVISION_TOKENS}


KINDS = {"request": request, "revision": revision}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=KINDS, default="request")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    for _ in range(options.requests):
        print(json.dumps(KINDS[options.kind](draw)))


if __name__ == "__main__":
    main()
