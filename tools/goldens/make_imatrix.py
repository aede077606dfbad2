#!/usr/bin/env python3
"""Writes tests/goldens/imatrix: what `ridge imatrix` has to find on some of the golden models.

    tools/goldens/make_imatrix.py tests/goldens

Hooks in a float64 `transformers` run sum the squares of what goes into each linear of the layers, for the tokens of
the model's own golden. Experts are modules of their own there, so each counts the rows that it got. Where a file
splits `attn_kv_b` into what is absorbed into queries and outputs, those inputs are no linear's in `transformers`:
they are put together from the queries, the attention's probabilities and the latents.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import gguf
import numpy as np
import torch

import reference

MODELS = ("llama-f32", "mixtral-q8_0", "qwen3moe-f32", "deepseek-v2-f32", "deepseek-v3-f32", "deepseek-v3-kv_b-f32")


class Sums:
    """Σ x² by tensor and matrix, and how many rows."""

    def __init__(self):
        self.squares = defaultdict(dict)
        self.counts = defaultdict(dict)

    def add(self, tensor: str, matrix: int, rows: torch.Tensor) -> None:
        """rows: [..., columns]."""
        rows = rows.reshape(-1, rows.shape[-1]).double()
        self.squares[tensor][matrix] = self.squares[tensor].get(matrix, 0) + (rows**2).sum(dim=0).numpy()
        self.counts[tensor][matrix] = self.counts[tensor].get(matrix, 0) + len(rows)

    def write(self, path: Path, experts: dict[str, int], tokens: int) -> None:
        out = gguf.GGUFWriter(path, arch="")
        out.kv_data[0].clear()  # such a file names no architecture
        out.add_type("imatrix")
        out.add_array("imatrix.datasets", ["tests/goldens"])
        out.add_uint32("imatrix.chunk_count", 1)
        out.add_uint32("imatrix.chunk_size", tokens)
        for tensor in sorted(self.squares):
            squares, counts = self.squares[tensor], self.counts[tensor]
            columns = len(next(iter(squares.values())))
            if tensor in experts:
                matrices = range(experts[tensor])
                sums = np.stack([squares.get(i, np.zeros(columns)) for i in matrices])
                rows = np.array([[counts.get(i, 0)] for i in matrices])
            else:  # heads count together
                sums = np.concatenate([squares[i] for i in sorted(squares)])[None]
                rows = np.array([[counts[0]]])
            out.add_tensor(f"{tensor}.in_sum2", sums.astype(np.float32))
            out.add_tensor(f"{tensor}.counts", rows.astype(np.float32))
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()


def hook_linears(model, reader, family: str, sums: Sums, experts: dict[str, int]) -> None:
    modules = dict(model.named_modules())

    def hook(module_name: str, tensor: str, matrix: int) -> None:
        modules[module_name].register_forward_hook(lambda _, inputs, __: sums.add(tensor, matrix, inputs[0]))

    for tensor in reader.tensors:
        if not tensor.name.startswith("blk.") or len(tensor.shape) < 2:
            continue
        if ".attn_k_b." in tensor.name or ".attn_v_b." in tensor.name:
            continue
        target = reference.transformers_name(family, tensor.name).removesuffix(".weight")
        if "{}" not in target:
            hook(target, tensor.name, 0)
            continue
        experts[tensor.name] = int(tensor.shape[2])
        for expert in range(experts[tensor.name]):
            hook(target.format(expert), tensor.name, expert)


def hook_latents(model, sums: Sums) -> None:
    """The inputs of attn_k_b and attn_v_b, by head."""
    config = model.config
    nope = config.qk_nope_head_dim

    def queries(layer):
        def note(_, __, out):
            heads = out.reshape(-1, config.num_attention_heads, nope + config.qk_rope_head_dim)
            for head in range(config.num_attention_heads):
                sums.add(f"blk.{layer}.attn_k_b.weight", head, heads[:, head, :nope])

        return note

    def mixed(layer, latents):
        def note(_, __, out):
            for head, probabilities in enumerate(out[1][0]):
                sums.add(f"blk.{layer}.attn_v_b.weight", head, probabilities @ latents[layer])

        return note

    latents = {}

    def keep(layer):
        return lambda _, __, out: latents.update({layer: out[0]})

    for layer, block in enumerate(model.model.layers):
        attention = block.self_attn
        last = attention.q_proj if config.q_lora_rank is None else attention.q_b_proj
        last.register_forward_hook(queries(layer))
        attention.kv_a_layernorm.register_forward_hook(keep(layer))
        attention.register_forward_hook(mixed(layer, latents))


def make(name: str, folder: Path) -> None:
    reader = gguf.GGUFReader(folder / f"{name}.gguf")
    family = reference.family_of(reference.Metadata(reader))
    truth = gguf.GGUFReader(folder / f"{name}.golden.gguf")
    tokens = next(tensor for tensor in truth.tensors if tensor.name == "tokens").data
    model = reference.load(folder / f"{name}.gguf", dtype=torch.float64)
    sums, experts = Sums(), {}
    hook_linears(model, reader, family, sums, experts)
    if any(".attn_k_b." in tensor.name for tensor in reader.tensors):
        hook_latents(model, sums)
    reference.logits(model, tokens)
    out = folder / "imatrix"
    out.mkdir(exist_ok=True)
    sums.write(out / f"{name}.gguf", experts, len(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goldens", type=Path)
    arguments = parser.parse_args()
    for name in MODELS:
        make(name, arguments.goldens)


if __name__ == "__main__":
    main()
