#!/usr/bin/env python3
"""Writes tests/clients/tasks/smollm2.golden.json: what transformers makes of the tasks that lm-eval runs.

    tools/goldens/make_lm_eval.py SmolLM2-135M-Instruct.Q4_1.gguf tests/clients/tasks

For each question of facts.jsonl, the natural logarithm of each ending's probability behind it; for each series
of series.jsonl, the text of the likeliest next tokens, up to a comma or the end of the line, and at most 6 tokens.
The scores follow from these. Nothing of lm-eval takes part.
"""

import argparse
import json
from pathlib import Path

import gguf
import torch

import reference
import vocabulary
from make_smollm2 import sha256_of

MOST_TOKENS = 6
ENDS = ("\n", ",")


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def logprob_behind(model, tokenizer, question: str, ending: str) -> float:
    """Of `ending`, whose tokens are those of the whole text that the question alone does not have."""
    before = tokenizer.encode(question, add_special_tokens=False).ids
    whole = tokenizer.encode(f"{question} {ending}", add_special_tokens=False).ids
    logprobs = torch.log_softmax(torch.from_numpy(reference.logits(model, whole[:-1])).double(), dim=-1)
    return sum(logprobs[i - 1, whole[i]].item() for i in range(len(before), len(whole)))


def continuation(model, tokenizer, series: str) -> str:
    tokens = tokenizer.encode(series, add_special_tokens=False).ids
    said = []
    for _ in range(MOST_TOKENS):
        said.append(int(reference.logits(model, tokens + said)[-1].argmax()))
        text = tokenizer.decode(said)
        ends = [text.index(end) for end in ENDS if end in text]
        if ends:
            return text[: min(ends)]
    return text


def mean(values: list[bool]) -> float:
    return sum(values) / len(values)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("tasks", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(2)
    tokenizer = vocabulary.from_gguf(reference.Metadata(gguf.GGUFReader(given.model)))
    model = reference.load(given.model)
    logprobs, right, texts = [], [], []
    for fact in lines_of(given.tasks / "facts.jsonl"):
        each = [logprob_behind(model, tokenizer, fact["question"], ending) for ending in fact["choices"]]
        logprobs.append([round(value, 5) for value in each])
        right.append(each.index(max(each)) == fact["answer"])
    series = lines_of(given.tasks / "series.jsonl")
    for entry in series:
        texts.append(continuation(model, tokenizer, entry["series"]))
    golden = {
        "generator": reference.versions(),
        "model_sha256": sha256_of(given.model),
        "facts": {"logprobs": logprobs, "acc": mean(right)},
        "series": {
            "texts": texts,
            "exact_match": mean([text == f" {entry['next']}" for text, entry in zip(texts, series)]),
        },
    }
    path = given.tasks / "smollm2.golden.json"
    path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{path}: acc {golden['facts']['acc']}, exact_match {golden['series']['exact_match']}")


if __name__ == "__main__":
    main()
