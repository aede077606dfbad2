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
    "mixtral": (transformers.MixtralConfig, transformers.MixtralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    "qwen3moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
    "deepseek_v2": (transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM),
    "deepseek_v3": (transformers.DeepseekV3Config, transformers.DeepseekV3ForCausalLM),
    "gpt-oss": (transformers.GptOssConfig, transformers.GptOssForCausalLM),
}

LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "nextn.enorm": "enorm",
    "nextn.hnorm": "hnorm",
    "nextn.eh_proj": "eh_proj",
    "nextn.embed_tokens": "embed_tokens",
    "nextn.shared_head_norm": "shared_head.norm",
    "nextn.shared_head_head": "shared_head.head",
}

# Where Gemma's names differ: it has two norms around attention and two around the feed-forward.
GEMMA_TENSORS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}

# And gpt-oss's, whose experts are joined by join_experts.
GPT_OSS_TENSORS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.router",
}

# Of models of experts: the router, and one linear of expert {}.
EXPERT_TENSORS = {
    "mixtral": {
        "ffn_gate_inp": "block_sparse_moe.gate",
        "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
        "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
        "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
    },
    "qwen3moe": {
        "ffn_gate_inp": "mlp.gate",
        "ffn_gate_exps": "mlp.experts.{}.gate_proj",
        "ffn_up_exps": "mlp.experts.{}.up_proj",
        "ffn_down_exps": "mlp.experts.{}.down_proj",
    },
}
EXPERT_TENSORS["deepseek_v2"] = EXPERT_TENSORS["deepseek_v3"] = EXPERT_TENSORS["qwen3moe"] | {
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
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


def family_of(meta: Metadata) -> str:
    """Mixtral comes as a llama with experts; DeepSeek V3 differs from V2 in its router."""
    if meta.architecture == "deepseek2":
        return "deepseek_v3" if meta.own("expert_gating_func", 1) == SIGMOID else "deepseek_v2"
    if meta.architecture not in FAMILIES:
        raise ValueError(f"architecture {meta.architecture!r} is not one of {sorted(FAMILIES)}")
    return "mixtral" if meta.architecture == "llama" and meta.own("expert_count", 0) else meta.architecture


SIGMOID = 2  # expert_gating_func


def deepseek_options(family: str, meta: Metadata) -> dict:
    """Latent attention, routers and shared experts; heads without the one size of the others."""
    rope = meta.own("rope.dimension_count")
    key = meta.own("attention.key_length_mla", meta.own("attention.key_length"))
    options = {
        "head_dim": rope,
        "num_key_value_heads": meta.own("attention.head_count"),
        "q_lora_rank": meta.own("attention.q_lora_rank"),
        "kv_lora_rank": meta.own("attention.kv_lora_rank"),
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope,
        "v_head_dim": meta.own("attention.value_length_mla", meta.own("attention.value_length")),
        "first_k_dense_replace": meta.own("leading_dense_block_count", 0),
        "n_routed_experts": meta.own("expert_count"),
        "n_shared_experts": meta.own("expert_shared_count"),
        "num_experts_per_tok": meta.own("expert_used_count"),
        "moe_intermediate_size": meta.own("expert_feed_forward_length"),
        "norm_topk_prob": meta.own("expert_weights_norm", False),
        "routed_scaling_factor": meta.own("expert_weights_scale", 1.0),
        "n_group": meta.own("expert_group_count", 1),
        "topk_group": meta.own("expert_group_used_count", 1),
    }
    if family == "deepseek_v2":
        options["topk_method"] = "greedy" if options["n_group"] == 1 else "group_limited_greedy"
    return options


def gemma_options(meta: Metadata) -> dict:
    layers, heads = meta.own("block_count"), meta.own("attention.head_count")
    return {
        "query_pre_attn_scalar": meta.own("attention.key_length", meta.own("embedding_length") // heads),
        "sliding_window": meta.own("attention.sliding_window"),
        "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(layers)],
        "rope_local_base_freq": 10000.0,
    }


def gpt_oss_options(meta: Metadata) -> dict:
    return {
        "sliding_window": meta.own("attention.sliding_window"),
        "num_local_experts": meta.own("expert_count"),
        "num_experts_per_tok": meta.own("expert_used_count"),
    }


def family_options(family: str, meta: Metadata) -> dict:
    """What the configuration of a family has beside those of all."""
    if family.startswith("deepseek"):
        return deepseek_options(family, meta)
    if family == "gpt-oss":
        return gpt_oss_options(meta)
    used = {"num_experts_per_tok": meta.own("expert_used_count")}
    if family == "gemma3":
        return gemma_options(meta)
    if family == "mixtral":
        return used | {"num_local_experts": meta.own("expert_count")}
    if family == "qwen3moe":
        # GGUF has no key for it: files of this family are of models that do.
        return used | {
            "num_experts": meta.own("expert_count"),
            "moe_intermediate_size": meta.own("expert_feed_forward_length"),
            "norm_topk_prob": True,
        }
    return {}


def rope_scaling(meta: Metadata) -> dict | None:
    kind = meta.own("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"rope.scaling.type is {kind!r}; only linear and yarn are known here")
    scaling = {"rope_type": kind, "factor": meta.own("rope.scaling.factor")}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = meta.own("rope.scaling.original_context_length")
        if meta.architecture == "gpt-oss":
            scaling["truncate"] = False  # of all its models; GGUF has no key for it
        multiplier = meta.own("rope.scaling.yarn_log_multiplier", 0.0)
        if multiplier:
            scaling["mscale"] = scaling["mscale_all_dim"] = multiplier / 0.1
    return scaling


def config_of(reader: gguf.GGUFReader):
    """The transformers configuration that the file's metadata describes."""
    meta = Metadata(reader)
    family = family_of(meta)
    names = {tensor.name for tensor in reader.tensors}
    vocabulary = next(t for t in reader.tensors if t.name == "token_embd.weight").shape[1]
    heads = meta.own("attention.head_count")
    options = dict(
        vocab_size=int(vocabulary),
        hidden_size=meta.own("embedding_length"),
        intermediate_size=meta.own("feed_forward_length"),
        num_hidden_layers=meta.own("block_count") - meta.own("nextn_predict_layers", 0),
        num_attention_heads=heads,
        num_key_value_heads=meta.own("attention.head_count_kv", heads),
        head_dim=meta.own("attention.key_length", meta.own("embedding_length") // heads),
        rms_norm_eps=meta.own("attention.layer_norm_rms_epsilon"),
        rope_theta=meta.own("rope.freq_base", 10000.0),
        rope_scaling=rope_scaling(meta),
        max_position_embeddings=meta.own("context_length"),
        tie_word_embeddings="output.weight" not in names,
    )
    return FAMILIES[family][0](**(options | family_options(family, meta)))


def transformers_name(family: str, name: str) -> str | None:
    """`blk.3.attn_q.weight` as `model.layers.3.self_attn.q_proj.weight`; None for what is no weight.

    What is there for each expert has {} in place of its number.
    """
    if name == "rope_freqs.weight":
        return None
    stem, _, suffix = name.rpartition(".")
    if stem in MODEL_TENSORS:
        return f"{MODEL_TENSORS[stem]}.{suffix}"
    _, layer, role = stem.split(".", 2)
    if role == "exp_probs_b":
        return f"model.layers.{layer}.mlp.gate.e_score_correction_bias"
    if role == "attn_sinks":
        return f"model.layers.{layer}.self_attn.sinks"
    own_names = {"gemma3": GEMMA_TENSORS, "gpt-oss": GPT_OSS_TENSORS}.get(family, {})
    roles = LAYER_TENSORS | EXPERT_TENSORS.get(family, {}) | own_names
    return f"model.layers.{layer}.{roles[role]}.{suffix}"


def joined(reader: gguf.GGUFReader):
    """Each tensor's name and float32 values; `attn_k_b` and `attn_v_b` as the `attn_kv_b` that they are of.

    The first is transposed within each head: [heads, rank, nope].
    """
    keys = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_k_b." in tensor.name:
            keys[tensor.name] = values.swapaxes(1, 2)
        elif ".attn_v_b." in tensor.name:
            both = np.concatenate([keys.pop(tensor.name.replace("attn_v_b", "attn_k_b")), values], axis=1)
            yield tensor.name.replace("attn_v_b", "attn_kv_b"), both.reshape(-1, both.shape[-1])
        else:
            yield tensor.name, values
    if keys:
        raise ValueError(f"{sorted(keys)} without an attn_v_b behind them")


def join_experts(tensors):
    """Of each layer of gpt-oss the experts' `gate_up_proj`, rows of gate and up in turn, and `down_proj`, both
    turned, with their biases; the names and values of all other tensors."""
    gates = {}
    for name, values in tensors:
        if "_exps." not in name:
            yield name, values
            continue
        _, layer, role, suffix = name.split(".")
        target, ending = f"blk.{layer}.mlp.experts.", "_bias" if suffix == "bias" else ""
        turned = values if ending else values.swapaxes(1, 2)
        if role == "ffn_gate_exps":
            gates[layer, ending] = turned
        elif role == "ffn_up_exps":
            both = np.stack([gates.pop((layer, ending)), turned], axis=-1)
            yield f"{target}gate_up_proj{ending}", both.reshape(*turned.shape[:-1], -1)
        else:
            yield f"{target}down_proj{ending}", turned
    if gates:
        raise ValueError(f"{sorted(gates)}: gates without an up behind them")


def weights_of(reader: gguf.GGUFReader, config) -> dict[str, torch.Tensor]:
    """Every weight of the file in float32, under transformers' names and in its row order."""
    family = family_of(Metadata(reader))
    interleaved = family in ("llama", "mixtral")
    heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
    weights = {}
    tensors = joined(reader) if family != "gpt-oss" else join_experts(joined(reader))
    for name, values in tensors:
        is_joined = ".mlp.experts." in name
        target = name.replace("blk.", "model.layers.") if is_joined else transformers_name(family, name)
        if target is None:
            continue
        for role, count in heads.items():
            if interleaved and role in name:
                values = pairs_to_halves(values, count)
        if family == "gemma3" and name.endswith("_norm.weight"):
            values = values - 1  # which transformers adds again
        named = {target: values}
        if "{}" in target:
            named = {target.format(expert): each for expert, each in enumerate(values)}
        for each_name, each in named.items():
            weights[each_name] = torch.from_numpy(np.ascontiguousarray(each))
    return weights


def guessing_prefix(config) -> str:
    """Of the layer for multi-token prediction, which stands behind the last."""
    return f"model.layers.{config.num_hidden_layers}."


def guessing_weights_of(reader: gguf.GGUFReader, config) -> dict[str, torch.Tensor]:
    """Those of that layer, under their names within it: `enorm.weight`, `self_attn.o_proj.weight`."""
    prefix = guessing_prefix(config)
    weights = weights_of(reader, config)
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}


def weigh_experts_in(model, dtype) -> None:
    """V3's router weighs in float32, to which the experts' sum in another type cannot be added."""
    for module in model.modules():
        if type(module).__name__ == "DeepseekV3TopkRouter":
            module.register_forward_hook(lambda _, __, out: (out[0], out[1].to(dtype)))


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
    model = FAMILIES[family_of(Metadata(reader))][1](config)
    weights = weights_of(reader, config)
    model_weights = {name: weights[name] for name in weights if not name.startswith(guessing_prefix(config))}
    missing, unexpected = model.load_state_dict(model_weights, strict=False)
    allowed = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if set(missing) - allowed or unexpected:
        raise ValueError(f"{path}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    factors = next((t for t in reader.tensors if t.name == "rope_freqs.weight"), None)
    if from_file and factors is not None:
        model.model.rotary_emb.inv_freq /= torch.from_numpy(np.array(factors.data))
    weigh_experts_in(model, dtype)
    return model.to(dtype).eval()


def logits(model, tokens) -> np.ndarray:
    """[n, vocabulary] logits of one sequence, evaluated in one pass."""
    with torch.inference_mode():
        out = model(torch.tensor([list(map(int, tokens))]), use_cache=False).logits[0]
    return out.numpy()


def choice_margins(model, tokens) -> np.ndarray:
    """[n] how clearly each token's experts are chosen: the least distance, over layers, of one that is from one
    that is not, and of groups likewise. In logits where the router is a softmax, else in biased sigmoids."""
    margins = []

    def gap(values, count):  # between the last that is taken and the first that is not, of each row
        if count == values.shape[-1]:
            return torch.full(values.shape[:1], torch.inf)
        best = values.topk(count + 1, dim=-1).values
        return best[:, count - 1] - best[:, count]

    def note(router, inputs, _):
        x = inputs[0].reshape(-1, inputs[0].shape[-1])
        choice = x @ router.weight.T
        own_bias = getattr(router, "bias", None)  # of gpt-oss; other linears have None
        if own_bias is not None:
            choice = choice + own_bias
        bias = getattr(router, "e_score_correction_bias", None)
        if bias is not None:
            choice = choice.sigmoid() + bias
        groups = getattr(model.config, "n_group", None) or 1
        if groups > 1:
            members = choice.unflatten(-1, (groups, -1))
            scores = members.topk(1 if bias is None else 2, dim=-1).values.sum(-1)
            margins.append(gap(scores, router.topk_group))
            kept = scores >= scores.topk(router.topk_group, dim=-1).values[:, -1:]
            choice = members.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(1)
        margins.append(gap(choice, model.config.num_experts_per_tok))

    hooks = [
        module.register_forward_hook(note)
        for name, module in model.named_modules()
        if name.endswith(("mlp.gate", "block_sparse_moe.gate", "mlp.router"))
    ]
    logits(model, tokens)
    for hook in hooks:
        hook.remove()
    return torch.stack(margins).min(dim=0).values.numpy()


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
