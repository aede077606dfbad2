#!/usr/bin/env python3
"""Writes tests/goldens/folders: models of make_models.py as transformers saves them.

    tools/goldens/make_folders.py tests/goldens

Each folder NAME holds the model of NAME.gguf, whose NAME.golden.gguf says what it computes: the weights
that `gguf` reads from that file, saved by `save_pretrained`, with the vocabulary as `tokenizers` saves it.
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import torch
from tokenizers import processors

import reference
import vocabulary
from make_models import described_config
from model_specs import SPECS

# Which models, in which type, and in shards of how many kilobytes; 0: in one file.
FOLDERS = {
    "llama-bf16": (torch.bfloat16, 150),
    "llama-rope-llama3": (torch.float16, 0),
    "qwen2-yarn": (torch.float16, 0),
    "qwen3-f32": (torch.float32, 0),
    "qwen3moe-f32": (torch.float32, 0),
    "mixtral-q8_0": (torch.float32, 0),
    "gemma3-f32": (torch.float32, 0),
    "deepseek-v2-f32": (torch.float32, 0),
    "deepseek-v2-groups-f32": (torch.float32, 0),
    "deepseek-v3-f32": (torch.float32, 400),
    "deepseek-v3-mtp-f32": (torch.float32, 400),
}


def save_tokenizer(spec, folder: Path) -> None:
    words = vocabulary.train(spec.pre, spec.vocabulary)
    tokenizer = words.tokenizer
    if words.kind.add_bos:
        bos = words.kind.bos
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, words.id(bos))]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": words.kind.bos,
        "eos_token": {"content": words.kind.eos, "lstrip": False, "rstrip": False, "single_word": False},
        "chat_template": vocabulary.CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def load(spec, goldens: Path):
    """The model of a golden, with the configuration that its publisher would have written."""
    path = goldens / f"{spec.name}.gguf"
    return reference.load(path, described_config(spec))


def save(model, spec, path: Path, folder: Path, dtype, shard_kilobytes: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    options = {"max_shard_size": f"{shard_kilobytes}KB"} if shard_kilobytes else {}
    for values in model.parameters():
        if values.dim() > 1:  # vectors stay float32, as they are in the GGUF file
            values.data = values.data.to(dtype)
    if spec.guessing_layers:
        # As published: the layer behind the last, of which transformers knows nothing.
        model.config.num_nextn_predict_layers = spec.guessing_layers
        weights = reference.weights_of(gguf.GGUFReader(path), model.config)
        prefix = reference.guessing_prefix(model.config)
        more = {name: each for name, each in weights.items() if name.startswith(prefix)}
        options["state_dict"] = model.state_dict() | more
    model.save_pretrained(folder, safe_serialization=True, **options)
    save_tokenizer(spec, folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {len(list(folder.iterdir()))} files, {size} bytes")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("goldens", type=Path, help="as a rule tests/goldens")
    arguments.add_argument("--only", metavar="NAME", nargs="+", help="write these folders alone")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for spec in SPECS:
        if spec.name not in FOLDERS or (given.only and spec.name not in given.only):
            continue
        path, folder = given.goldens / f"{spec.name}.gguf", given.goldens / "folders" / spec.name
        save(load(spec, given.goldens), spec, path, folder, *FOLDERS[spec.name])


if __name__ == "__main__":
    main()
