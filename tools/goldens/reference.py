"""A GGUF file as a transformers model, with the weights that the `gguf` package dequantises.

This is the independent implementation that goldens and fidelity figures are measured against: the file
is read and dequantised by `gguf`, the forward pass is transformers' own, and none of Ridgeline's code
takes part. Quantisation of weights is therefore on both sides of a comparison and drops out of it.
"""

import math

import gguf
import numpy as np
import torch
import transformers

FAMILIES = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
}

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

MODEL_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def versions() -> str:
    """The packages whose word a golden is, for the key `golden.generator`."""
    from importlib.metadata import version

    names = ("transformers", "torch", "gguf", "tokenizers", "numpy")
    return " ".join(f"{name}=={version(name)}" for name in names)


def pairs_to_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undoes the row order that GGUF llama files use for Q and K.

    They rotate neighbouring rows (2i, 2i + 1) of a head; transformers rotates (i, i + head_dim / 2).
    """
    head_dim = rows.shape[0] // heads
    split = rows.reshape(heads, head_dim // 2, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def halves_to_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `pairs_to_halves`: what a converter from transformers to GGUF does."""
    head_dim = rows.shape[0] // heads
    split = rows.reshape(heads, 2, head_dim // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


class Metadata:
    """The key-value pairs of a file; keys without a dot prefix are the architecture's own."""

    def __init__(self, reader: gguf.GGUFReader):
        self.reader = reader
        self.architecture = self.get("general.architecture")

    def get(self, key: str, default=None):
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    def own(self, key: str, default=None):
        return self.get(f"{self.architecture}.{key}", default)


def rope_scaling(meta: Metadata) -> dict | None:
    kind = meta.own("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"rope.scaling.type is {kind!r}; only linear and yarn are known here")
    scaling = {"rope_type": kind, "factor": meta.own("rope.scaling.factor")}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = meta.own("rope.scaling.original_context_length")
    return scaling


def config_of(reader: gguf.GGUFReader):
    """The transformers configuration that the file's metadata describes."""
    meta = Metadata(reader)
    if meta.architecture not in FAMILIES:
        raise ValueError(f"architecture {meta.architecture!r} is not one of {sorted(FAMILIES)}")
    names = {tensor.name for tensor in reader.tensors}
    vocabulary = next(t for t in reader.tensors if t.name == "token_embd.weight").shape[1]
    heads = meta.own("attention.head_count")
    options = dict(
        vocab_size=int(vocabulary),
        hidden_size=meta.own("embedding_length"),
        intermediate_size=meta.own("feed_forward_length"),
        num_hidden_layers=meta.own("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=meta.own("attention.head_count_kv", heads),
        head_dim=meta.own("attention.key_length", meta.own("embedding_length") // heads),
        rms_norm_eps=meta.own("attention.layer_norm_rms_epsilon"),
        rope_theta=meta.own("rope.freq_base", 10000.0),
        rope_scaling=rope_scaling(meta),
        max_position_embeddings=meta.own("context_length"),
        tie_word_embeddings="output.weight" not in names,
    )
    return FAMILIES[meta.architecture][0](**options)


def transformers_name(name: str) -> str | None:
    """`blk.3.attn_q.weight` as `model.layers.3.self_attn.q_proj.weight`; None for what is no weight."""
    if name == "rope_freqs.weight":
        return None
    stem, _, suffix = name.rpartition(".")
    if stem in MODEL_TENSORS:
        return f"{MODEL_TENSORS[stem]}.{suffix}"
    _, layer, role = stem.split(".")
    return f"model.layers.{layer}.{LAYER_TENSORS[role]}.{suffix}"


def weights_of(reader: gguf.GGUFReader, config) -> dict[str, torch.Tensor]:
    """Every weight of the file in float32, under transformers' names and in its row order."""
    interleaved = Metadata(reader).architecture == "llama"
    heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
    weights = {}
    for tensor in reader.tensors:
        target = transformers_name(tensor.name)
        if target is None:
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for role, count in heads.items():
            if interleaved and role in tensor.name:
                values = pairs_to_halves(values, count)
        weights[target] = torch.from_numpy(np.ascontiguousarray(values))
    return weights


def load(path, config=None, dtype=torch.float32):
    """The model in `path`, ready to evaluate.

    `config` replaces what the metadata says; a golden of a RoPE variant passes the original description
    (`rope_type: llama3`), so that transformers works the frequencies out by itself rather than from the
    factors in the file.
    """
    reader = gguf.GGUFReader(path)
    from_file = config is None
    config = config or config_of(reader)
    config._attn_implementation = "eager"
    model = FAMILIES[Metadata(reader).architecture][1](config)
    missing, unexpected = model.load_state_dict(weights_of(reader, config), strict=False)
    allowed = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if set(missing) - allowed or unexpected:
        raise ValueError(f"{path}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    factors = next((t for t in reader.tensors if t.name == "rope_freqs.weight"), None)
    if from_file and factors is not None:
        model.model.rotary_emb.inv_freq /= torch.from_numpy(np.array(factors.data))
    return model.to(dtype).eval()


def logits(model, tokens) -> np.ndarray:
    """[n, vocabulary] logits of one sequence, evaluated in one pass."""
    with torch.inference_mode():
        out = model(torch.tensor([list(map(int, tokens))]), use_cache=False).logits[0]
    return out.numpy()


def llama3_factors(head_dim: int, theta: float, scaling: dict) -> np.ndarray:
    """[head_dim / 2] divisors of the RoPE frequencies, as GGUF keeps Llama 3's scaling.

    Source: Meta's `apply_scaling` in llama-models; wavelengths beyond the original context are stretched
    by the whole factor, short ones not at all, and those between are blended.
    """
    original = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    factors = []
    for index in range(head_dim // 2):
        wavelength = 2 * math.pi * theta ** (2 * index / head_dim)
        blend = (original / wavelength - low) / (high - low)
        blend = min(max(blend, 0.0), 1.0)
        factors.append(1 / ((1 - blend) / scaling["factor"] + blend))
    return np.array(factors, dtype=np.float32)
