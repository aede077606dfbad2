#!/usr/bin/env python3
"""Writes tests/goldens: tiny random models as GGUF files, and what transformers computes on them.

    pip install -r tools/goldens/requirements.txt
    tools/goldens/make_models.py tests/goldens

Each NAME.gguf has a NAME.golden.gguf beside it with the tensors `tokens` (I32 [n]) and `logits`
(F32 [n, vocabulary]), and `guesses` (F32 [n - 1, vocabulary], of mtp.py) where it has a layer for
multi-token prediction. Seeds are fixed, so a second run writes the same models.
"""

import argparse
import itertools
import zlib
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

import blocks
import mtp
import reference
import vocabulary
from model_specs import SPECS, Spec

TEXT = "The path along the ridge climbs slowly: 12 of us in 1987, and it's 345 now.\n  Where is the chemin étroit?"


class ModelWriter:
    """Draws the weights of a spec and writes them as GGUF."""

    def __init__(self, spec: Spec, path: Path):
        self.spec = spec
        self.rng = np.random.default_rng(zlib.crc32((spec.seed or spec.name).encode()))
        self.out = gguf.GGUFWriter(path, spec.family)
        self.words = vocabulary.train(spec.pre, spec.vocabulary)

    def write(self) -> None:
        self.add_metadata()
        self.add_tokenizer()
        self.add_weights()
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()

    def add_metadata(self) -> None:
        spec, out = self.spec, self.out
        out.add_type("model")
        out.add_name(f"Ridgeline golden {spec.name}")
        out.add_file_type(spec.file_type)
        out.add_quantization_version(gguf.GGML_QUANT_VERSION)
        out.add_vocab_size(spec.vocabulary)
        out.add_context_length(spec.context)
        out.add_embedding_length(spec.hidden)
        out.add_block_count(spec.layers + spec.guessing_layers)
        if spec.guessing_layers:
            out.add_uint32(f"{spec.family}.nextn_predict_layers", spec.guessing_layers)
        out.add_feed_forward_length(spec.feed_forward)
        out.add_head_count(spec.heads)
        if not spec.rank:
            out.add_head_count_kv(spec.kv_heads)
        elif not spec.splits_kv_b:
            out.add_head_count_kv(spec.heads)
        out.add_layer_norm_rms_eps(1e-5 if spec.family in ("llama", "gpt-oss") else 1e-6)
        out.add_rope_freq_base(spec.theta)
        if spec.experts:
            out.add_expert_count(spec.experts)
            out.add_expert_used_count(spec.experts_used)
        if spec.rank:
            self.add_latent_metadata()
            return
        if spec.family in ("qwen3moe", "gpt-oss"):
            out.add_expert_feed_forward_length(spec.expert_feed_forward)
        if spec.family == "llama" or spec.head_dim * spec.heads != spec.hidden:
            out.add_rope_dimension_count(spec.head_dim)
        if spec.head_dim * spec.heads != spec.hidden:
            out.add_key_length(spec.head_dim)
            out.add_value_length(spec.head_dim)
        if spec.window:
            out.add_sliding_window(spec.window)
        if spec.scaling.get("rope_type") == "linear":
            out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            out.add_rope_scaling_factor(spec.scaling["factor"])
        if spec.scaling.get("rope_type") == "yarn":
            out.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            out.add_rope_scaling_factor(spec.scaling["factor"])
            out.add_rope_scaling_orig_ctx_len(spec.scaling["original_max_position_embeddings"])

    def add_latent_metadata(self) -> None:
        """DeepSeek's keys. Files whose kv_b is split state the heads' own sizes as *_mla."""
        spec, out = self.spec, self.out
        key, value = spec.nope_dim + spec.rope_dim, spec.value_dim
        if spec.splits_kv_b:
            out.add_head_count_kv(1)
            out.add_key_length(spec.rank + spec.rope_dim)
            out.add_value_length(spec.rank)
            out.add_key_length_mla(key)
            out.add_value_length_mla(value)
        else:
            out.add_key_length(key)
            out.add_value_length(value)
        out.add_kv_lora_rank(spec.rank)
        if spec.query_rank:
            out.add_q_lora_rank(spec.query_rank)
        out.add_rope_dimension_count(spec.rope_dim)
        out.add_leading_dense_block_count(spec.dense_layers)
        out.add_expert_feed_forward_length(spec.expert_feed_forward)
        out.add_expert_shared_count(spec.shared_experts)
        for key_end, setting in spec.router.items():
            name = f"{spec.family}.{key_end}"
            if isinstance(setting, bool):
                out.add_bool(name, setting)
            elif isinstance(setting, float):
                out.add_float32(name, setting)
            else:
                out.add_uint32(name, setting)
        if spec.scaling:
            out.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            out.add_rope_scaling_factor(spec.scaling["factor"])
            out.add_rope_scaling_orig_ctx_len(spec.scaling["original_max_position_embeddings"])
            out.add_rope_scaling_yarn_log_mul(0.1 * spec.scaling["mscale_all_dim"])

    def add_tokenizer(self) -> None:
        words, out = self.words, self.out
        out.add_tokenizer_model("gpt2")
        out.add_tokenizer_pre(words.kind.pre)
        out.add_token_list(words.tokens)
        out.add_token_types(words.types)
        out.add_token_merges(words.merges)
        out.add_bos_token_id(words.id(words.kind.bos))
        out.add_eos_token_id(words.id(words.kind.eos))
        out.add_add_bos_token(words.kind.add_bos)
        out.add_chat_template(vocabulary.chat_template(self.spec.pre))

    def add_weight(
        self, role: str, rows: int, columns: int, spread: float, layer: int | None = None, experts: int = 0
    ) -> None:
        """A [rows, columns] weight of the spec's type for the role, with the standard deviation `spread`;
        [experts, rows, columns] where there are any."""
        kind = self.spec.type_of(role, layer or 0)
        name = f"{role}.weight" if layer is None else f"blk.{layer}.{role}.weight"
        all_rows = rows * max(experts, 1)
        if self.is_drawn(kind):
            data = blocks.random_weight(self.rng, all_rows, columns, kind, spread)
        else:
            values = self.rng.normal(0, spread, (all_rows, columns)).astype(np.float32)
            data = gguf.quants.quantize(values, kind)
        if experts:
            data = data.reshape(experts, rows, -1)
        self.out.add_tensor(name, data, raw_dtype=kind)

    @staticmethod
    def is_drawn(kind: Type) -> bool:
        """Whether the `gguf` package cannot quantise to this type, so that blocks are drawn instead."""
        return kind.name.endswith("_K") or kind.name.startswith("IQ4")

    def add_vector(self, name: str, size: int, mean: float, spread: float) -> None:
        self.out.add_tensor(name, self.rng.normal(mean, spread, size).astype(np.float32))

    def add_weights(self) -> None:
        spec = self.spec
        self.add_weight("token_embd", spec.vocabulary, spec.hidden, 0.3)
        for layer in range(spec.layers):
            self.add_layer(layer)
        for layer in range(spec.layers, spec.layers + spec.guessing_layers):
            self.add_layer(layer)
            self.add_guessing(layer)
        self.add_vector("output_norm.weight", spec.hidden, 1.0, 0.2)
        if not spec.tied:
            self.add_weight("output", spec.vocabulary, spec.hidden, 0.3)
        if spec.scaling.get("rope_type") == "llama3":
            factors = reference.llama3_factors(spec.head_dim, spec.theta, spec.scaling)
            self.out.add_tensor("rope_freqs.weight", factors)

    def add_layer(self, layer: int) -> None:
        spec = self.spec
        into = spec.hidden**-0.5
        q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.add_vector(f"blk.{layer}.attn_norm.weight", spec.hidden, 1.0, 0.2)
        if spec.rank:
            self.add_latent_attention(layer)
            self.add_feed_forward(layer)
            return
        # Q and K are wider than a trained model's, so that attention is peaked and RoPE is felt.
        self.add_weight("attn_q", q, spec.hidden, 1.5 * into, layer)
        self.add_weight("attn_k", kv, spec.hidden, 1.5 * into, layer)
        self.add_weight("attn_v", kv, spec.hidden, into, layer)
        if spec.has_qkv_bias:
            for role, rows in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
                self.add_vector(f"blk.{layer}.{role}.bias", rows, 0.0, 0.5)
        if spec.has_qk_norm:
            # Wide as well, for the same reason.
            self.add_vector(f"blk.{layer}.attn_q_norm.weight", spec.head_dim, 1.3, 0.3)
            self.add_vector(f"blk.{layer}.attn_k_norm.weight", spec.head_dim, 1.3, 0.3)
        self.add_weight("attn_output", spec.hidden, q, q**-0.5, layer)
        if spec.family == "gpt-oss":
            self.add_vector(f"blk.{layer}.attn_output.bias", spec.hidden, 0.0, 0.5)
            # As large as the scores, so that of some heads they take most and of others nothing.
            self.add_vector(f"blk.{layer}.attn_sinks.weight", spec.heads, 0.0, 3.0)
        self.add_feed_forward(layer)

    def add_guessing(self, layer: int) -> None:
        """What a layer for multi-token prediction has beside a layer's own."""
        spec = self.spec
        for role in ("enorm", "hnorm", "shared_head_norm"):
            self.add_vector(f"blk.{layer}.nextn.{role}.weight", spec.hidden, 1.0, 0.2)
        self.add_weight("nextn.eh_proj", spec.hidden, 2 * spec.hidden, (2 * spec.hidden) ** -0.5, layer)
        if not spec.shares_guessing:
            self.add_weight("nextn.embed_tokens", spec.vocabulary, spec.hidden, 0.3, layer)
            self.add_weight("nextn.shared_head_head", spec.vocabulary, spec.hidden, 0.3, layer)

    def add_latent_attention(self, layer: int) -> None:
        spec = self.spec
        into, up = spec.hidden**-0.5, spec.rank**-0.5
        queries = spec.heads * (spec.nope_dim + spec.rope_dim)
        if spec.query_rank:
            self.add_weight("attn_q_a", spec.query_rank, spec.hidden, into, layer)
            self.add_vector(f"blk.{layer}.attn_q_a_norm.weight", spec.query_rank, 1.0, 0.2)
            self.add_weight("attn_q_b", queries, spec.query_rank, 1.5 * spec.query_rank**-0.5, layer)
        else:
            self.add_weight("attn_q", queries, spec.hidden, 1.5 * into, layer)
        self.add_weight("attn_kv_a_mqa", spec.rank + spec.rope_dim, spec.hidden, 1.5 * into, layer)
        self.add_vector(f"blk.{layer}.attn_kv_a_norm.weight", spec.rank, 1.0, 0.2)
        shape = (spec.heads, spec.nope_dim + spec.value_dim, spec.rank)
        both = self.rng.normal(0, up, shape).astype(np.float32)
        if spec.splits_kv_b:
            self.add_values("attn_k_b", both[:, : spec.nope_dim].swapaxes(1, 2), layer)
            self.add_values("attn_v_b", both[:, spec.nope_dim :], layer)
        else:
            self.add_values("attn_kv_b", both.reshape(-1, spec.rank), layer)
        heads = spec.heads * spec.value_dim
        self.add_weight("attn_output", spec.hidden, heads, heads**-0.5, layer)

    def add_values(self, role: str, values: np.ndarray, layer: int) -> None:
        kind = self.spec.type_of(role, layer)
        data = gguf.quants.quantize(np.ascontiguousarray(values), kind)
        self.out.add_tensor(f"blk.{layer}.{role}.weight", data, raw_dtype=kind)

    def add_feed_forward(self, layer: int) -> None:
        spec = self.spec
        into, inner = spec.hidden**-0.5, spec.feed_forward**-0.5
        norm = "post_attention_norm" if spec.family == "gpt-oss" else "ffn_norm"
        self.add_vector(f"blk.{layer}.{norm}.weight", spec.hidden, 1.0, 0.2)
        if spec.family == "gemma3":
            for role in ("post_attention_norm", "post_ffw_norm"):
                # Wider than the stream that begins at √H, so that each layer counts.
                self.add_vector(f"blk.{layer}.{role}.weight", spec.hidden, 3.0, 0.5)
        if spec.experts and layer >= spec.dense_layers:
            self.add_experts(layer)
            return
        self.add_weight("ffn_gate", spec.feed_forward, spec.hidden, into, layer)
        self.add_weight("ffn_up", spec.feed_forward, spec.hidden, into, layer)
        self.add_weight("ffn_down", spec.hidden, spec.feed_forward, inner, layer)

    def add_experts(self, layer: int) -> None:
        spec = self.spec
        into, inner, count = spec.hidden**-0.5, spec.expert_feed_forward**-0.5, spec.experts
        # Wide, so that the best experts are clearly so, and float32 and float64 choose the same.
        self.add_weight("ffn_gate_inp", count, spec.hidden, 3 * into, layer)
        if spec.family == "gpt-oss":
            into *= 3  # so that some of gate and up meet their limit of 7
        self.add_weight("ffn_gate_exps", spec.expert_feed_forward, spec.hidden, into, layer, count)
        self.add_weight("ffn_up_exps", spec.expert_feed_forward, spec.hidden, into, layer, count)
        if spec.family == "gpt-oss":
            inner *= 0.2  # of values up to 56
        self.add_weight("ffn_down_exps", spec.hidden, spec.expert_feed_forward, inner, layer, count)
        if spec.family == "gpt-oss":
            self.add_vector(f"blk.{layer}.ffn_gate_inp.bias", count, 0.0, 1.0)
            sizes = {"gate": spec.expert_feed_forward, "up": spec.expert_feed_forward, "down": spec.hidden}
            for role, size in sizes.items():
                values = self.rng.normal(0, 1.0, (count, size)).astype(np.float32)
                self.out.add_tensor(f"blk.{layer}.ffn_{role}_exps.bias", values)
        if spec.router.get("expert_gating_func") == reference.SIGMOID:
            self.add_vector(f"blk.{layer}.exp_probs_b.bias", count, 0.0, 0.2)
        if spec.shared_experts:
            shared = spec.shared_experts * spec.expert_feed_forward
            self.add_weight("ffn_gate_shexp", shared, spec.hidden, into, layer)
            self.add_weight("ffn_up_shexp", shared, spec.hidden, into, layer)
            self.add_weight("ffn_down_shexp", spec.hidden, shared, shared**-0.5, layer)

    def prompt(self) -> tuple[str, list[int]]:
        """The longest beginning of TEXT that encodes to at most `tokens` ids, and those ids."""
        for length in range(len(TEXT), 0, -1):
            ids = self.words.encode(TEXT[:length])
            if len(ids) <= self.spec.tokens:
                return TEXT[:length], ids
        raise ValueError("no beginning of the text is short enough")


def described_config(spec: Spec):
    """The configuration as transformers would ship it, for what metadata tells in another form."""
    if not spec.scaling or spec.rank or spec.window:
        return None
    return reference.FAMILIES[spec.family][0](
        vocab_size=spec.vocabulary,
        hidden_size=spec.hidden,
        intermediate_size=spec.feed_forward,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        rms_norm_eps=1e-5 if spec.family == "llama" else 1e-6,
        rope_theta=spec.theta,
        rope_scaling=spec.scaling,
        max_position_embeddings=spec.context,
        tie_word_embeddings=spec.tied,
    )


def write_tensors(path: Path, tensors: dict[str, np.ndarray], notes: dict) -> None:
    """A GGUF file of bare arrays, with the strings and numbers of `notes` as metadata."""
    out = gguf.GGUFWriter(path, "golden")
    out.add_string("golden.generator", reference.versions())
    for key, value in notes.items():
        (out.add_string if isinstance(value, str) else out.add_float32)(key, value)
    for name, values in tensors.items():
        out.add_tensor(name, values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def clear_choices(model, tokens: list[int], spec: Spec) -> list[int]:
    """As many of the tokens, over and over, leaving out each whose experts would be chosen by less than the spec's
    margin."""
    clear: list[int] = []
    for token in itertools.chain.from_iterable(itertools.repeat(tokens, 10)):
        if reference.choice_margins(model, [*clear, token])[-1] >= spec.choice_margin:
            clear.append(token)
        if len(clear) == len(tokens):
            return clear
    raise ValueError(f"{spec.name}: too few of the tokens choose their experts clearly")


def make_model(spec: Spec, folder: Path) -> None:
    path = folder / f"{spec.name}.gguf"
    writer = ModelWriter(spec, path)
    writer.write()
    text, tokens = writer.prompt()
    config = described_config(spec)
    model = reference.load(path, config)
    notes = {"golden.text": text}
    if spec.choice_margin:
        tokens = clear_choices(model, tokens, spec)
        notes = {"golden.choice_margin": float(reference.choice_margins(model, tokens).min())}
    logits = reference.logits(model, tokens)
    exact_model = reference.load(path, config, torch.float64)
    rounding = float(np.abs(logits - reference.logits(exact_model, tokens)).max())
    tensors = {"tokens": np.array(tokens, np.int32), "logits": logits}
    if spec.guessing_layers:
        guesses = mtp.Predictor(path, model).logits(tokens)
        exact_guesses = mtp.Predictor(path, exact_model, torch.float64).logits(tokens)
        rounding = max(rounding, float(np.abs(guesses - exact_guesses).max()))
        tensors["guesses"] = guesses
    notes |= {"golden.float64_max_difference": rounding}
    write_tensors(folder / f"{spec.name}.golden.gguf", tensors, notes)
    print(
        f"{spec.name}: {path.stat().st_size} bytes, {len(tokens)} tokens, "
        f"logit spread {logits.std():.2f}, float32 within {rounding:.1e} of float64"
    )


def make_dequantize(path: Path) -> None:
    """Raw blocks of every type and their values, awkward scales included."""
    rng = np.random.default_rng(1)
    tensors = {}
    for kind in (Type.F16, Type.BF16, *blocks.SCALE_AT):
        if kind in (Type.F16, Type.BF16):
            raw = blocks.awkward_floats(rng, kind, 1024)
        else:
            count = 12 if gguf.GGML_QUANT_SIZES[kind][0] == 256 else 32
            raw = blocks.awkward_blocks(rng, kind, count).reshape(1, -1)
        data = raw.view(np.float16) if kind == Type.F16 else raw
        values = gguf.quants.dequantize(data, kind).reshape(-1)
        if not np.isfinite(values).all():
            raise ValueError(f"{kind.name}: the blocks drawn hold values that are not finite")
        tensors[f"{kind.name}.blocks"] = raw.reshape(-1).view(np.int8)
        tensors[f"{kind.name}.values"] = values.astype(np.float32)
    write_tensors(path, tensors, {})


# What the `gguf` package can write.
WRITTEN_BY_GGUF = (Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.MXFP4)


def make_quantize(path: Path) -> None:
    """Weights, and the error that the `gguf` package's own quantisation leaves of them."""
    rng = np.random.default_rng(2)
    shape = (16, 1024)
    weights = {
        "gaussian": 0.02 * rng.standard_normal(shape),
        # As some trained matrices are: a few weights far outside.
        "heavy_tailed": 0.02 * rng.standard_t(4, shape),
    }
    weights = {name: values.astype(np.float32) for name, values in weights.items()}
    notes = {}
    for name, values in weights.items():
        for kind in WRITTEN_BY_GGUF:
            restored = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            error = np.linalg.norm((restored - values).astype(np.float64)) / np.linalg.norm(values)
            notes[f"golden.{kind.name}.{name}"] = float(error)
    write_tensors(path, weights, notes)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("folder", type=Path, help="where to write, as a rule tests/goldens")
    arguments.add_argument("--only", metavar="NAME", nargs="+", help="write these models alone")
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for spec in SPECS:
        if not given.only or spec.name in given.only:
            make_model(spec, given.folder)
    if not given.only:
        make_dequantize(given.folder / "dequantize.golden.gguf")
        make_quantize(given.folder / "quantize.golden.gguf")


if __name__ == "__main__":
    main()
