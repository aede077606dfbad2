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
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
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
    "gpt-oss-bf16": (torch.bfloat16, 200),
    "gpt-oss-mxfp4": (torch.float32, 0),
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
        "chat_template": vocabulary.chat_template(spec.pre),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def load(spec, goldens: Path):
    """The model of a golden, with the configuration that its publisher would have written."""
    path = goldens / f"{spec.name}.gguf"
    return reference.load(path, described_config(spec))


def save(model, spec, path: Path, folder: Path, dtype, shard_kilobytes: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    options = {"max_shard_size": f"{shard_kilobytes}KB"} if shard_kilobytes else {}
    for name, values in model.named_parameters():
        if values.dim() > 1 and not name.endswith("_bias"):  # vectors stay float32, as they are in the GGUF file
            values.data = values.data.to(dtype)
    if spec.guessing_layers:
        # As published: the layer behind the last, of which transformers knows nothing.
        model.config.num_nextn_predict_layers = spec.guessing_layers
        weights = reference.weights_of(gguf.GGUFReader(path), model.config)
        prefix = reference.guessing_prefix(model.config)
        more = {name: each for name, each in weights.items() if name.startswith(prefix)}
        options["state_dict"] = model.state_dict() | more
    if spec.type_of("ffn_gate_exps") == Type.MXFP4:
        options["state_dict"] = mxfp4_experts(gguf.GGUFReader(path), model.state_dict())
        model.config.quantization_config = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    model.save_pretrained(folder, safe_serialization=True, **options)
    save_tokenizer(spec, folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {len(list(folder.iterdir()))} files, {size} bytes")


def mxfp4_experts(reader: gguf.GGUFReader, state: dict) -> dict:
    """The state with experts as OpenAI publishes them, blocks [experts, rows, columns / 32, 16] and scales
    [experts, rows, columns / 32]: rows of gate and up in turn, elements 2i and 2i + 1 in a byte."""
    found = {tensor.name: tensor for tensor in reader.tensors}

    def blocks(name):  # [experts, rows, columns / 32, 17]
        raw = np.array(found[name].data)
        return raw.reshape(*raw.shape[:2], -1, 17)

    def in_pairs(codes):  # GGUF has elements i and i + 16 in a byte
        elements = np.concatenate([codes & 15, codes >> 4], axis=-1)
        return elements[..., ::2] | elements[..., 1::2] << 4

    state = dict(state)
    for name in [name for name in state if name.endswith(("gate_up_proj", "down_proj"))]:
        layer = name.split(".")[2]
        if name.endswith("down_proj"):
            both = blocks(f"blk.{layer}.ffn_down_exps.weight")
        else:
            pair = [blocks(f"blk.{layer}.ffn_{role}_exps.weight") for role in ("gate", "up")]
            both = np.stack(pair, axis=2)
            both = both.reshape(both.shape[0], -1, *both.shape[3:])
        del state[name]
        state[f"{name}_blocks"] = torch.from_numpy(in_pairs(both[..., 1:]))
        state[f"{name}_scales"] = torch.from_numpy(np.ascontiguousarray(both[..., 0]))
    return state


def check_mxfp4(spec, goldens: Path) -> None:
    """That transformers reads the folder as what the golden says."""
    folder = goldens / "folders" / spec.name
    model = transformers.GptOssForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        quantization_config=transformers.Mxfp4Config(dequantize=True),
    )
    wanted = load(spec, goldens).state_dict()
    for name, values in model.state_dict().items():
        if name.endswith(("gate_up_proj", "down_proj")) and not torch.equal(values.float(), wanted[name].float()):
            raise ValueError(f"{folder}: transformers reads {name} otherwise")


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
        if spec.name == "gpt-oss-mxfp4":
            check_mxfp4(spec, given.goldens)


if __name__ == "__main__":
    main()
