#!/usr/bin/env python3
"""Writes tests/goldens/adapters: LoRA adapters of golden models, and what transformers and peft compute with them.

    tools/goldens/make_adapters.py tests/goldens

MODEL.NAME/ is an adapter as peft saves it and MODEL.NAME.gguf the same one as a GGUF adapter. Beside them,
MODEL.NAME.golden.gguf has the tensors `tokens` (I32 [n]), `logits` (F32 [n, vocabulary]), `continuation` and
`base_continuation` (I32 [16]): the likeliest tokens after the prompt, one after another, with the adapter and
without. Seeds are fixed, so a second run writes the same adapters.
"""

import argparse
import json
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import peft
import torch

import reference
from make_models import write_tensors

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]
CONTINUATION_TOKENS = 16
# Tokens whose logits lie closer than this would hang on rounding.
LEAST_MARGIN = 0.1


@dataclass(frozen=True)
class Spec:
    """One adapter of a golden model; `dtype` is that of its files."""

    model: str
    name: str
    targets: list[str]
    r: int
    alpha: int
    dtype: torch.dtype = torch.float32
    rslora: bool = False
    rank_pattern: dict = field(default_factory=dict)
    alpha_pattern: dict = field(default_factory=dict)
    seed: int = 0  # another draw, where LEAST_MARGIN asks for one


SPECS = [
    Spec(
        "llama-f32",
        "attention",
        ATTENTION,
        r=4,
        alpha=8,
        rank_pattern={"layers.1.self_attn.q_proj": 6, "v_proj": 2},
        alpha_pattern={"^model.layers.0.self_attn.k_proj": 3},
    ),
    Spec("llama-f32", "all", ATTENTION + FEED_FORWARD, r=3, alpha=5, dtype=torch.float16, rslora=True, seed=5),
    Spec("qwen2-f32", "all", ATTENTION + FEED_FORWARD, r=5, alpha=10, dtype=torch.bfloat16, seed=3),
    Spec("qwen2-f32", "gate", ["gate_proj", "k_proj"], r=16, alpha=16, seed=4),
]

MODULE_ROLES = {module: role for role, module in reference.LAYER_TENSORS.items()}


def draw(model: peft.PeftModel, spec: Spec) -> None:
    """Weights that change the logits about as much as their own size, rounded to the files' dtype."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{spec.model}.{spec.name}.{spec.seed}".encode()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" not in name:
                continue
            spread = 0.12 if "lora_B" in name else parameter.shape[1] ** -0.5
            values = spread * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values.to(spec.dtype))


def adapted(path: Path, spec: Spec, dtype=torch.float32) -> peft.PeftModel:
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=spec.targets,
        r=spec.r,
        lora_alpha=spec.alpha,
        use_rslora=spec.rslora,
        rank_pattern=spec.rank_pattern,
        alpha_pattern=spec.alpha_pattern,
    )
    model = peft.get_peft_model(reference.load(path), config)
    draw(model, spec)
    return model.to(dtype).eval()


def save(model: peft.PeftModel, spec: Spec, folder: Path) -> None:
    """As peft does it, without the model card."""
    shutil.rmtree(folder, ignore_errors=True)
    tensors = {name: values.to(spec.dtype) for name, values in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=tensors, save_embedding_layers=False)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # The first would have peft ask the hub, the second is a set and has another order each time.
    config["base_model_name_or_path"] = f"ridgeline/{spec.model}"
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2) + "\n")


def save_gguf(model: peft.PeftModel, spec: Spec, path: Path) -> None:
    """As llama.cpp's convert_lora_to_gguf.py names and orders it. One alpha serves the whole file, and what its
    quotient with a pair's rank leaves of peft's scale goes into that pair's B."""
    config = model.base_model.model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    out = gguf.GGUFWriter(path, config.model_type)
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    out.add_float32("adapter.lora.alpha", float(spec.alpha))
    for name, module in model.base_model.model.named_modules():
        if not isinstance(module, peft.tuners.lora.Linear):
            continue
        _, _, layer, part = name.split(".", 3)
        role = MODULE_ROLES[part]
        down = module.lora_A["default"].weight.detach().numpy()
        up = module.lora_B["default"].weight.detach().numpy()
        scale = module.scaling["default"] / (spec.alpha / down.shape[0])
        if config.model_type == "llama" and role in heads:
            up = reference.halves_to_pairs(up, heads[role])
        out.add_tensor(f"blk.{layer}.{role}.weight.lora_a", down)
        out.add_tensor(f"blk.{layer}.{role}.weight.lora_b", np.ascontiguousarray(up * np.float32(scale)))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def continuation(model, tokens: list[int]) -> tuple[np.ndarray, float]:
    """The likeliest tokens after `tokens`, and the least lead of one over the next."""
    tokens, margin = list(tokens), np.inf
    for _ in range(CONTINUATION_TOKENS):
        last = reference.logits(model, tokens)[-1]
        second, first = np.argsort(last)[-2:]
        margin = min(margin, float(last[first] - last[second]))
        tokens.append(int(first))
    return np.array(tokens[-CONTINUATION_TOKENS:], np.int32), margin


def make_adapter(spec: Spec, folder: Path) -> None:
    path = folder / f"{spec.model}.gguf"
    to = folder / "adapters" / f"{spec.model}.{spec.name}"
    golden = gguf.GGUFReader(folder / f"{spec.model}.golden.gguf")
    tokens = next(t for t in golden.tensors if t.name == "tokens").data.tolist()
    model = adapted(path, spec)
    save(model, spec, to)
    save_gguf(model, spec, to.with_name(to.name + ".gguf"))
    logits = reference.logits(model, tokens)
    rounding = float(np.abs(logits - reference.logits(adapted(path, spec, torch.float64), tokens)).max())
    ours, margin = continuation(model, tokens)
    base = reference.load(path)
    bases, base_margin = continuation(base, tokens)
    change = float(np.abs(logits - reference.logits(base, tokens)).max())
    if min(margin, base_margin) < LEAST_MARGIN or list(ours) == list(bases):
        raise ValueError(f"{to.name}: its tokens tell nothing: {ours}, {bases}, by {margin} and {base_margin}")
    write_tensors(
        to.with_name(to.name + ".golden.gguf"),
        {
            "tokens": np.array(tokens, np.int32),
            "logits": logits,
            "continuation": ours,
            "base_continuation": bases,
        },
        {"golden.peft": peft.__version__, "golden.float64_max_difference": rounding},
    )
    print(
        f"{to.name}: changes logits by up to {change:.2f}, float32 within {rounding:.1e} of float64, "
        f"tokens ahead by {margin:.3f} and {base_margin:.3f}"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("folder", type=Path, help="where the golden models are, as a rule tests/goldens")
    given = arguments.parse_args()
    (given.folder / "adapters").mkdir(exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for spec in SPECS:
        make_adapter(spec, given.folder)


if __name__ == "__main__":
    main()
