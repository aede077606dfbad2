#!/usr/bin/env python3
"""What rounding the activations of one kind of linear costs, by rounding them in a float32 transformers run.

    tools/fidelity/activation_rounding.py --model FILE.gguf

The figures of docs/adr/0013. Each line rounds the inputs of the linears that it names, in groups along a
row, and gives the mean divergence in nats and the top-1 agreement with the run that rounds nothing:

    int8/32       int8 codes with a scale for each 32 columns
    int8/32 > 2   likewise, but exact in groups whose scale is over 2 times the root mean square of the row's
    bf16          bfloat16

For a model of experts, the figures of docs/adr/0033: also how many choices of experts of a token and layer the
rounding turned, and the mean divergence at tokens of which it turned none. Routers are not rounded.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import gguf
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "goldens"))

import reference
import vocabulary
from distributions import Divergence, log_softmax
from kl_divergence import chunks_of, standard_library_text, with_bos

KINDS = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "o_proj": "output", "gate_proj": "gate·up",
         "up_proj": "gate·up", "down_proj": "down", "lm_head": "head", "q_a_proj": "qkv", "q_b_proj": "qkv",
         "kv_a_proj_with_mqa": "qkv", "kv_b_proj": "kv_b"}  # fmt: skip
EVERY = ("qkv", "output", "gate·up", "down", "head")
BEARING = ("output", "gate·up", "down")  # those that mixed precision rounds to int8


def kind_of(name: str) -> str | None:
    """Of a linear; None for a router."""
    if ".shared_experts." in name:
        return "shared"
    return "experts" if ".experts." in name else KINDS.get(name.split(".")[-1])


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
            if isinstance(module, torch.nn.Linear) and kind_of(name) in kinds:
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


class Choices:
    """The experts that the routers of a run choose: [layers, tokens, used], sorted; layers may be 0."""

    def __init__(self, model):
        self.taken = []
        for name, module in model.named_modules():
            if name.endswith(("mlp.gate", "block_sparse_moe.gate")):
                module.register_forward_hook(lambda _, __, out: self.taken.append(self.ids_of(out, model)))

    @staticmethod
    def ids_of(out, model):
        ids = out[0] if isinstance(out, tuple) else out.topk(model.config.num_experts_per_tok, dim=-1).indices
        return ids.reshape(-1, ids.shape[-1]).sort(dim=-1).values

    def of_run(self) -> np.ndarray:
        ids = torch.stack(self.taken).numpy() if self.taken else np.zeros((0, 1, 1), int)
        self.taken.clear()
        return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--positions", type=int, default=512, help="how many to compare (default 512)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    meta = reference.Metadata(gguf.GGUFReader(given.model))
    model = reference.load(given.model)
    tokens = vocabulary.from_gguf(meta).encode(standard_library_text(), add_special_tokens=False).ids
    chunks = [with_bos(chunk, meta) for chunk in chunks_of(tokens, 128, given.positions)]

    choices = Choices(model)

    def run():
        """Logprobs and choices of each chunk."""
        return [(log_softmax(reference.logits(model, chunk)), choices.of_run()) for chunk in chunks]

    exact = run()

    def show(name, *roundings):
        """Each rounding is kinds and how they are rounded."""
        with contextlib.ExitStack() as stack:
            rounded = [stack.enter_context(Rounding(model, kinds, **how)) for kinds, how in roundings]
            got = run()
        divergence = Divergence.joined([Divergence.between(p, q) for (p, _), (q, _) in zip(exact, got)])
        figure = divergence.summary()
        shares = [share for each in rounded for share in each.shares]
        kept = f", {100 * sum(shares) / len(shares):.1f} % of groups kept" if shares else ""
        print(f"{name:44} mean KL {figure['mean_kl']:.5f}, top-1 agreement "
              f"{100 * figure['top1_agreement']:.2f} %{kept}{experts_of(got, divergence)}", flush=True)  # fmt: skip

    def experts_of(got, divergence) -> str:
        turned = np.concatenate([(a != b).any(-1) for (_, a), (_, b) in zip(exact, got)], axis=1)
        if len(turned) == 0:
            return ""
        same = divergence.kl[~turned.any(0)].mean()
        return f", choices turned {1000 * turned.mean():.1f} of 1000, mean KL without {same:.5f}"

    def rounds_to_int8(*kinds):
        return kinds, {}

    def rounds_to_bf16(*kinds):
        return kinds, {"is_bf16": True}

    if model_has_experts(model):
        inside = ("shared", "experts")
        outside = ("output", "kv_b", "gate·up", "down")
        always = rounds_to_bf16("qkv", "head")
        show("nothing", rounds_to_int8())
        show("all int8", rounds_to_int8(*inside, *outside, "qkv", "head"))
        show("qkv head bf16, rest int8", always, rounds_to_int8(*inside, *outside))
        show("… output bf16 too", always, rounds_to_bf16("output"), rounds_to_int8(*inside, *outside[1:]))
        show("… output kv_b bf16 too", always, rounds_to_bf16(*outside[:2]), rounds_to_int8(*inside, *outside[2:]))
        show("all bf16 but experts int8", always, rounds_to_bf16(*outside), rounds_to_int8(*inside))
        show("all bf16 but routed experts int8", always, rounds_to_bf16(*outside, "shared"), rounds_to_int8("experts"))
        show("all bf16", rounds_to_bf16(*inside, *outside, "qkv", "head"))
        show("all exact but experts int8", rounds_to_int8(*inside))
        return
    show("int8/32 " + " ".join(EVERY), rounds_to_int8(*EVERY))
    for kind in EVERY:
        show("int8/32 " + kind, rounds_to_int8(kind))
    show("bf16 " + " ".join(EVERY), rounds_to_bf16(*EVERY))
    show("int8/32 " + " ".join(BEARING), rounds_to_int8(*BEARING))
    for kept_above in (1.0, 2.0):
        show(f"int8/32 > {kept_above:g} " + " ".join(BEARING), (BEARING, {"kept_above": kept_above}))


def model_has_experts(model) -> bool:
    return any(kind_of(name) == "experts" for name, _ in model.named_modules())


if __name__ == "__main__":
    main()
