#!/usr/bin/env python3
"""Writes further folders of tests/goldens/folders: quantised weights in the forms that people publish.

    tools/goldens/make_quantized_folders.py tests/goldens

The linears of a golden are quantised here, plainly (the nearest code); NAME.golden.gguf has what transformers
computes in float32 on the values that the codes stand for. FP8's values are rounded to float16 before, as
Ridgeline keeps them; `golden.exact_max_difference` says what that changes. Of llama-w8a8 there is a second golden,
llama-w8a8-activations, with what the linears are given in int8 too, a scale for each token.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from compressed_tensors.compressors.quantized_compressors.pack_quantized import pack_to_int32
from safetensors.torch import save_file

import reference
import vocabulary
from make_folders import load, save_tokenizer
from make_models import TEXT, write_tensors
from model_specs import SPECS

GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of the eight outputs in a word (AutoAWQ, packing_utils.py)


def groups_of(weight: torch.Tensor, group: int) -> torch.Tensor:
    return weight.reshape(weight.shape[0], -1, group)


def four_bits(weight, is_symmetric: bool, scale_type):
    """Codes [rows, columns], scales and zero points [rows, groups], and the values that they stand for."""
    grouped = groups_of(weight, GROUP)
    if is_symmetric:
        scales = (grouped.abs().amax(-1) / 7.5).to(scale_type)
        zeros = torch.full_like(scales, 8, dtype=torch.int32)
    else:
        low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
        scales = ((high - low) / 15).to(scale_type)
        zeros = (-low / scales.float()).round().clamp(0, 15).to(torch.int32)
    wide = scales.float().unsqueeze(-1)
    codes = ((grouped / wide).round() + zeros.unsqueeze(-1)).clamp(0, 15).to(torch.int32)
    values = (codes - zeros.unsqueeze(-1)).float() * wide
    return codes.reshape(weight.shape), scales, zeros, values.reshape(weight.shape)


def in_words(nibbles: torch.Tensor) -> torch.Tensor:
    """[..., 8 n] codes as [..., n] words, the first in the lowest bits."""
    eight = nibbles.reshape(*nibbles.shape[:-1], -1, 8).to(torch.int64)
    words = sum(eight[..., i] << 4 * i for i in range(8))
    return torch.from_numpy(words.numpy().astype(np.uint32).view(np.int32).copy())


def awq(weight):
    codes, scales, zeros, values = four_bits(weight, False, torch.float16)

    def ordered(by_input):  # [inputs or groups, outputs]
        return in_words(by_input.reshape(by_input.shape[0], -1, 8)[..., list(AWQ_ORDER)].flatten(1))

    parts = {"qweight": ordered(codes.T), "qzeros": ordered(zeros.T), "scales": scales.T}
    return parts, values


def gptq(weight):
    codes, scales, zeros, values = four_bits(weight, True, torch.float16)
    columns = weight.shape[1]
    parts = {
        "qweight": in_words(codes).T,
        "qzeros": in_words(zeros.T - 1),  # files of the first form store one less
        "scales": scales.T,
        "g_idx": torch.arange(columns, dtype=torch.int32) // GROUP,
    }
    return parts, values


def w4a16(weight):
    codes, scales, zeros, values = four_bits(weight, False, torch.bfloat16)
    parts = {
        "weight_packed": pack_to_int32((codes - 8).to(torch.int8), 4),
        "weight_scale": scales,
        "weight_zero_point": pack_to_int32((zeros - 8).to(torch.int8), 4, packed_dim=0),
        "weight_shape": torch.tensor(weight.shape, dtype=torch.int64),
    }
    return parts, values


def w8a8(weight):
    scales = (weight.abs().amax(1, keepdim=True) / 127.5).to(torch.bfloat16)
    # The whole range of int8, -128 among it.
    codes = (weight / scales.float()).round().clamp(-128, 127).to(torch.int8)
    codes[:, 0] = -128
    return {"weight": codes, "weight_scale": scales}, codes.float() * scales.float()


def fp8(weight):
    rows, columns = weight.shape
    scales = torch.empty((rows + 127) // 128, (columns + 127) // 128)
    codes = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
    values = torch.empty_like(weight)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = (slice(128 * i, 128 * (i + 1)), slice(128 * j, 128 * (j + 1)))
            scales[i, j] = weight[block].abs().max() / 448
            codes[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
            values[block] = codes[block].float() * scales[i, j]
    return {"weight": codes, "weight_scale_inv": scales}, values


def compressed(form: str, weights: dict) -> dict:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


# By folder: the golden that it is of, how a linear is stored, and what config.json says of that.
FOLDERS = {
    "llama-awq": (
        "llama-f32",
        awq,
        {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True},
    ),
    "llama-gptq": (
        "llama-f32",
        gptq,
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True},
    ),
    "llama-w4a16": (
        "llama-f32",
        w4a16,
        compressed(
            "pack-quantized",
            {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": GROUP},
        ),
    ),
    "llama-w8a8": (
        "llama-f32",
        w8a8,
        compressed("int-quantized", {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}),
    ),
    "deepseek-v3-fp8": (
        "deepseek-v3-f32",
        fp8,
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    ),
}


def quantize(model, store):
    """The tensors of a folder; the model's linears get the values that they stand for, float16 of FP8's. Embeddings,
    the head and routers stay as they are, in float16."""
    tensors = {}
    linears = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, values in model.named_parameters():
        module = name.removesuffix(".weight")
        if module in linears and module != "lm_head":
            parts, exact = store(values.data)
            tensors |= {f"{module}.{part}": each.contiguous() for part, each in parts.items()}
            values.data = exact
        elif values.dim() > 1:
            values.data = values.data.half().float()
            tensors[name] = values.data.half()
        else:
            tensors[name] = values.data.clone()
    for name, values in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            tensors[name] = values.clone()
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
        model.tie_weights()
    return tensors


def halved(model) -> None:
    for values in model.parameters():
        if values.dim() > 1:
            values.data = values.data.half().float()


def round_activations(model) -> None:
    """What each linear but the head is given becomes whole numbers times a scale, max |x| / 127 of a token."""

    def rounded(_, given):
        (x,) = given
        scales = x.abs().amax(-1, keepdim=True) / 127
        return (torch.where(scales > 0, (x / scales).round() * scales, x),)

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            module.register_forward_pre_hook(rounded)


def make(name: str, goldens: Path) -> None:
    of, store, description = FOLDERS[name]
    spec = next(spec for spec in SPECS if spec.name == of)
    model = load(spec, goldens)
    tensors = quantize(model, store)
    words = vocabulary.train(spec.pre, spec.vocabulary)
    tokens = words.encode(TEXT)[: spec.tokens]
    notes = {}
    logits = reference.logits(model, tokens)
    if store is fp8:
        exact = logits
        halved(model)
        logits = reference.logits(model, tokens)
        notes["golden.exact_max_difference"] = float(np.abs(logits - exact).max())
    folder = goldens / "folders" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = model.config.to_diff_dict() | {"quantization_config": description}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(spec, folder)
    write_tensors(
        goldens / f"{name}.golden.gguf", {"tokens": np.array(tokens, np.int32), "logits": logits}, notes
    )
    if store is w8a8:
        exact = logits
        round_activations(model)
        logits = reference.logits(model, tokens)
        notes["golden.exact_max_difference"] = float(np.abs(logits - exact).max())
        write_tensors(
            goldens / f"{name}-activations.golden.gguf",
            {"tokens": np.array(tokens, np.int32), "logits": logits},
            notes,
        )
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {size} bytes, {len(tokens)} tokens, logit spread {logits.std():.2f}, {notes}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("goldens", type=Path, help="as a rule tests/goldens")
    arguments.add_argument("--only", metavar="NAME", nargs="+", help="write these folders alone")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for name in given.only or FOLDERS:
        make(name, given.goldens)


if __name__ == "__main__":
    main()
