#!/usr/bin/env python3
"""What rounding the activations of one kind of linear costs, by rounding them in a float32 transformers run.

    tools/fidelity/activation_rounding.py --model FILE.gguf

The figures of docs/adr/0013. Each line rounds the inputs of the linears that it names, in groups along a
row, and gives the mean divergence in nats and the top-1 agreement with the run that rounds nothing:

    int8/32       int8 codes with a scale for each 32 columns
    int8/32 > 2   likewise, but exact in groups whose scale is over 2 times the root mean square of the row's
    bf16          bfloat16
"""

import argparse
import sys
from pathlib import Path

import gguf
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "goldens"))

import reference
import vocabulary
from distributions import Divergence, log_softmax
from kl_divergence import chunks_of, standard_library_text, with_bos

KINDS = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "o_proj": "output", "gate_proj": "gate·up",
         "up_proj": "gate·up", "down_proj": "down", "lm_head": "head"}  # fmt: skip
EVERY = ("qkv", "output", "gate·up", "down", "head")
BEARING = ("output", "gate·up", "down")  # those that mixed precision rounds to int8


def int8(x: torch.Tensor, group: int, kept_above: float | None, shares: list[float]) -> torch.Tensor:
    groups = x.reshape(*x.shape[:-1], -1, group)  # [..., groups, group]
    scale = groups.abs().amax(-1, keepdim=True) / 127
    rounded = (groups / scale.clamp_min(1e-12)).round() * scale
    if kept_above is not None:
        is_large = scale > kept_above * scale.square().mean(-2, keepdim=True).sqrt()
        shares.append(is_large.float().mean().item())
        rounded = torch.where(is_large, groups, rounded)
    return rounded.reshape(x.shape)


class Rounding:
    """Rounds the inputs of the linears of `kinds` while it is in force."""

    def __init__(self, model, kinds, group=32, kept_above=None, is_bf16=False):
        self.shares = []
        self.hooks = []
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and KINDS[name.split(".")[-1]] in kinds:
                self.hooks.append(module.register_forward_pre_hook(self.rounding_of(group, kept_above, is_bf16)))

    def rounding_of(self, group, kept_above, is_bf16):
        def round_input(_, inputs):
            x = inputs[0]
            return (x.bfloat16().float() if is_bf16 else int8(x, group, kept_above, self.shares),)

        return round_input

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file of the Llama or Qwen2 family")
    parser.add_argument("--positions", type=int, default=512, help="how many to compare (default 512)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    meta = reference.Metadata(gguf.GGUFReader(given.model))
    model = reference.load(given.model)
    tokens = vocabulary.from_gguf(meta).encode(standard_library_text(), add_special_tokens=False).ids
    chunks = [with_bos(chunk, meta) for chunk in chunks_of(tokens, 128, given.positions)]

    def logprobs():
        return [log_softmax(reference.logits(model, chunk)) for chunk in chunks]

    exact = logprobs()

    def show(name, kinds, **rounding):
        with Rounding(model, kinds, **rounding) as rounded:
            figure = Divergence.joined(list(map(Divergence.between, exact, logprobs()))).summary()
        kept = f", {100 * sum(rounded.shares) / len(rounded.shares):.1f} % of groups kept" if rounded.shares else ""
        print(f"{name:12} {' '.join(kinds):32} mean KL {figure['mean_kl']:.5f}, "
              f"top-1 agreement {100 * figure['top1_agreement']:.2f} %{kept}", flush=True)  # fmt: skip

    show("int8/32", EVERY)
    for kind in EVERY:
        show("int8/32", (kind,))
    show("bf16", EVERY, is_bf16=True)
    show("int8/32", BEARING)
    for kept_above in (1.0, 2.0):
        show(f"int8/32 > {kept_above:g}", BEARING, kept_above=kept_above)


if __name__ == "__main__":
    main()
