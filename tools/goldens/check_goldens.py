#!/usr/bin/env python3
"""Holds tests/goldens against llama.cpp, and against mistakes that they are meant to catch.

    pip install -r tools/goldens/requirements.txt llama-cpp-python
    tools/goldens/check_goldens.py tests/goldens [--smollm2 FILE.gguf]

llama.cpp rounds activations to 8 bits and its cache to float16, so it agrees roughly: the measure is the
mean KL divergence. Each mistake (rows in the wrong order, a bias or a RoPE scaling left out, …) is made
on purpose in the transformers run, and must move the distributions far more than llama.cpp's rounding.
"""

import argparse
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fidelity"))

import make_models
import mtp
import reference
from distributions import Divergence, LlamaCpp, log_softmax
from model_specs import SPECS, Spec

# Mean KL in nats: llama.cpp has to stay below, and every mistake has to come out above.
ROUNDING_KL = 0.02


def golden_of(path: Path) -> tuple[list[int], np.ndarray]:
    tensors = {t.name: t.data for t in gguf.GGUFReader(path).tensors}
    return tensors["tokens"].tolist(), np.array(tensors["logits"])


def kl(p_logits: np.ndarray, q_logits: np.ndarray) -> float:
    return Divergence.between(log_softmax(p_logits), log_softmax(q_logits)).summary()["mean_kl"]


def reorder(model, change) -> None:
    """Applies `change(rows, heads)` to the rows of Q and K, weights and biases."""
    config = model.config
    for layer in model.model.layers:
        attention = layer.self_attn
        for projection, heads in (
            (attention.q_proj, config.num_attention_heads),
            (attention.k_proj, config.num_key_value_heads),
        ):
            for parameter in (projection.weight, projection.bias):
                if parameter is not None:
                    changed = change(parameter.detach().numpy(), heads)
                    parameter.data = torch.from_numpy(np.ascontiguousarray(changed))


def drop_bias(model, role: str) -> None:
    for layer in model.model.layers:
        getattr(layer.self_attn, role).bias.data.zero_()


def plain_frequencies(model) -> None:
    """RoPE without any scaling."""
    half = torch.arange(0, model.config.head_dim, 2) / model.config.head_dim
    model.model.rotary_emb.inv_freq.copy_(model.config.rope_theta**-half)


def set_all(model, kind: str, attribute: str, value) -> None:
    """Of each module whose class is named so."""
    for module in model.modules():
        if type(module).__name__.endswith(kind):
            setattr(module, attribute, value)


def drop_norms(model) -> None:
    for layer in model.model.layers:
        layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()


def drop_shared_experts(model) -> None:
    for layer in model.model.layers:
        if hasattr(layer.mlp, "shared_experts"):
            layer.mlp.shared_experts.down_proj.weight.data.zero_()


def drop_selection_bias(model) -> None:
    for layer in model.model.layers:
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.e_score_correction_bias.zero_()


def drop_windows(model) -> None:
    for layer in model.model.layers:
        layer.attention_type = "full_attention"


def drop_post_norms(model) -> None:
    for layer in model.model.layers:
        layer.post_attention_layernorm = layer.post_feedforward_layernorm = torch.nn.Identity()


def share_frequencies(model) -> None:
    """The layers with a window take the others' RoPE."""
    model.model.rotary_emb_local.inv_freq.copy_(model.model.rotary_emb.inv_freq)


def latent_mistakes_of(spec: Spec) -> dict:
    mistakes = {"no shared experts": drop_shared_experts}
    if spec.scaling:
        plain = (spec.nope_dim + spec.rope_dim) ** -0.5
        mistakes["no rope scaling"] = plain_frequencies
        mistakes["scores that do not grow"] = lambda model: set_all(model, "Attention", "scaling", plain)
    if spec.router and "expert_gating_func" not in spec.router:
        mistakes["no groups"] = lambda model: set_all(model, "MoEGate", "topk_method", "greedy")
        mistakes["no scale of experts"] = lambda model: set_all(model, "MoEGate", "routed_scaling_factor", 1.0)
    elif spec.router:
        mistakes["rope pairs"] = lambda model: setattr(model.config, "rope_interleave", False)
        mistakes["no bias of choice"] = drop_selection_bias
        mistakes["no groups"] = lambda model: set_all(model, "TopkRouter", "topk_group", spec.router["expert_group_count"])
        mistakes["no scale of experts"] = lambda model: set_all(model, "TopkRouter", "routed_scaling_factor", 1.0)
        mistakes["weights not normed"] = lambda model: set_all(model, "TopkRouter", "norm_topk_prob", False)
    return mistakes


def mistakes_of(spec: Spec) -> dict:
    """Ways to get this model wrong, by name; each changes a loaded model in place."""
    if spec.rank:
        return latent_mistakes_of(spec)
    wrong_order = reference.halves_to_pairs if spec.family == "llama" else reference.pairs_to_halves
    mistakes = {"rope pairs": lambda model: reorder(model, wrong_order)}
    if spec.has_qk_norm:
        mistakes["no norms of heads"] = drop_norms
    if spec.window:
        mistakes["no windows"] = drop_windows
        mistakes["one RoPE for all"] = share_frequencies
        mistakes["no norms behind"] = drop_post_norms
        mistakes["embeddings as they are"] = lambda model: model.model.embed_tokens.embed_scale.fill_(1)
    if spec.family == "qwen2":
        for role in ("q_proj", "k_proj", "v_proj"):
            mistakes[f"no {role} bias"] = lambda model, role=role: drop_bias(model, role)
    if spec.scaling:
        mistakes["no rope scaling"] = plain_frequencies
    if spec.scaling.get("rope_type") == "yarn":
        mistakes["no yarn attention factor"] = lambda model: setattr(
            model.model.rotary_emb, "attention_scaling", 1.0
        )
    return mistakes


def swap_join(predictor) -> None:
    hidden = predictor.model.config.hidden_size
    predictor.join.weight.data = predictor.join.weight.data.roll(hidden, dims=1)


def drop_last_norm(predictor) -> None:
    """The hidden state before the model's last norm, whose weights the layer's norm then lacks."""
    predictor.model.model.norm.weight.data.fill_(1)


GUESSING_MISTAKES = {
    "hidden state first": swap_join,
    "hidden state before the last norm": drop_last_norm,
    "another's next token": lambda predictor: setattr(predictor, "embedding", predictor.embedding.roll(1, dims=0)),
    "no norm behind": lambda predictor: setattr(predictor, "norm", torch.ones_like(predictor.norm)),
}


def check_guesses(spec: Spec, folder: Path) -> bool:
    """Of a file with a layer for multi-token prediction, which llama.cpp would take for one of the model's."""
    path = folder / f"{spec.name}.gguf"
    tensors = {t.name: t.data for t in gguf.GGUFReader(folder / f"{spec.name}.golden.gguf").tensors}
    tokens, golden = tensors["tokens"].tolist(), np.array(tensors["guesses"])
    good = np.abs(mtp.Predictor(path, reference.load(path)).logits(tokens) - golden).max() < 1e-4
    report = []
    for name, make in GUESSING_MISTAKES.items():
        predictor = mtp.Predictor(path, reference.load(path))
        make(predictor)
        moved = kl(golden, predictor.logits(tokens))
        good = good and moved > ROUNDING_KL
        report.append(f"{name} {moved:.2f}")
    print(f"{'ok  ' if good else 'FAIL'} {spec.name}: guesses, mean KL {', '.join(report)}")
    return bool(good)


def check_model(spec: Spec, folder: Path) -> bool:
    if spec.guessing_layers:
        return check_guesses(spec, folder)
    path = folder / f"{spec.name}.gguf"
    tokens, golden = golden_of(folder / f"{spec.name}.golden.gguf")
    from_metadata = np.abs(reference.logits(reference.load(path), tokens) - golden).max()
    peer = kl(golden, LlamaCpp(str(path), spec.context, 1).logits(tokens))
    good = peer < ROUNDING_KL and from_metadata < 1e-4
    report = [f"llama.cpp {peer:.1e}"]
    for name, make in mistakes_of(spec).items():
        model = reference.load(path, make_models.described_config(spec))
        make(model)
        moved = kl(golden, reference.logits(model, tokens))
        good = good and moved > ROUNDING_KL and moved > 10 * peer
        report.append(f"{name} {moved:.2f}")
    print(f"{'ok  ' if good else 'FAIL'} {spec.name}: mean KL {', '.join(report)}")
    return good


def check_smollm2(golden_path: Path, model_path: Path) -> bool:
    """Compares the likeliest tokens' logprobs, and who comes first."""
    golden = json.loads(golden_path.read_text())
    peer = LlamaCpp(str(model_path), 512, 2)
    differences, first = [], []
    for prompt in golden["prompts"]:
        rows = peer.logprobs(prompt["tokens"])
        for row, position in zip(rows, prompt["positions"]):
            # Weighed by probability: the tail's logprobs are where rounding shows most.
            wanted = np.array(position["logprobs"])
            differences.append((np.exp(wanted) * np.abs(row[position["ids"]] - wanted)).sum())
            first.append(row.argmax() == position["ids"][0])
    mean, agreement = float(np.mean(differences)), float(np.mean(first))
    good = mean < 0.1 and agreement > 0.9
    print(
        f"{'ok  ' if good else 'FAIL'} smollm2: weighed logprob difference {mean:.3f}, "
        f"top-1 agreement {agreement:.3f} over {len(first)} positions"
    )
    return good


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("folder", type=Path, help="as a rule tests/goldens")
    arguments.add_argument("--smollm2", type=Path, metavar="FILE", help="check its golden too")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    results = [check_model(spec, given.folder) for spec in SPECS]
    if given.smollm2:
        results.append(check_smollm2(given.folder / "smollm2.golden.json", given.smollm2))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
