"""Writes the seeds of the model folder fuzzer into corpus/model_folder/.

Knows the formats by itself and needs only the standard library. `good-*` must be accepted and `bad-*` refused;
corpus_test.cc holds them to it.
"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus" / "model_folder"
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I8": 1, "I32": 4, "I64": 8}

CONFIG = {
    "model_type": "llama",
    "vocab_size": 2,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
TOKENIZER = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
}
LINEARS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def safetensors(tensors: dict) -> bytes:
    header, data = {}, b""
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += bytes(size)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors(linear=lambda name: {f"{name}.weight": ("BF16", [32, 32])}) -> dict:
    layer = "model.layers.0."
    found = {
        "model.embed_tokens.weight": ("BF16", [2, 32]),
        "model.norm.weight": ("BF16", [32]),
        f"{layer}input_layernorm.weight": ("BF16", [32]),
        f"{layer}post_attention_layernorm.weight": ("BF16", [32]),
    }
    for name in LINEARS:
        found |= linear(layer + name)
    return found


def folder(config=None, tokenizer=None, settings=b"", index=b"", shards=None) -> bytes:
    def text(value):
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    parts = [text(CONFIG if config is None else config), text(TOKENIZER if tokenizer is None else tokenizer)]
    parts += [text(settings), text(index), shards if isinstance(shards, bytes) else safetensors(shards or tensors())]
    return b"\x1e".join(parts)


def quantized(scheme: dict, linear) -> bytes:
    return folder(CONFIG | {"quantization_config": scheme}, shards=tensors(linear))


def of(parts: dict):
    return lambda name: {f"{name}.{part}": each for part, each in parts.items()}


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False}
FOUR = {"qweight": ("I32", [32, 4]), "qzeros": ("I32", [1, 4]), "scales": ("F16", [1, 32])}
GPTQ_PARTS = FOUR | {"qweight": ("I32", [4, 32]), "g_idx": ("I32", [32])}


def compressed(form, weights):
    groups = {"group_0": {"weights": weights}}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}


W8A8 = compressed("int-quantized", {"num_bits": 8, "strategy": "channel"})
W4A16 = compressed("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32})


def seeds() -> dict[str, bytes]:
    good = {
        "plain": folder(),
        "settings": folder(settings={"bos_token": {"content": "a"}, "chat_template": "{{ bos_token }}"}),
        "index": folder(index={"weight_map": {name: "model.safetensors" for name in tensors()}}),
        "fp8": quantized(FP8, of({"weight": ("F8_E4M3", [32, 32]), "weight_scale_inv": ("F32", [1, 1])})),
        "awq": quantized(AWQ, of(FOUR)),
        "gptq": quantized(GPTQ, of(GPTQ_PARTS)),
        "w8a8": quantized(W8A8, of({"weight": ("I8", [32, 32]), "weight_scale": ("BF16", [32, 1])})),
        "w4a16": quantized(W4A16, of({"weight_packed": ("I32", [32, 4]), "weight_scale": ("BF16", [32, 1])})),
        "scaled-rope": folder(CONFIG | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
    }
    bad = {
        "nothing": b"",
        "no-tokenizer": folder(tokenizer=b""),
        "no-weights": folder(shards=b"\0"),
        "config-list": folder(config=b"[]"),
        "config-deep": folder(config=b'{"a":' * 5000 + b"1" + b"}" * 5000),
        "hidden-2-63": folder(CONFIG | {"hidden_size": 1 << 63}),
        "hidden-negative": folder(CONFIG | {"hidden_size": -32}),
        "heads-zero": folder(CONFIG | {"num_attention_heads": 0}),
        "layers-many": folder(CONFIG | {"num_hidden_layers": 1024}),
        "vocabulary-large": folder(CONFIG | {"vocab_size": 1 << 24}),
        "rope-text": folder(CONFIG | {"rope_scaling": "yarn"}),
        "escape": folder(index={"weight_map": {"model.norm.weight": "../model.safetensors"}}),
        "absolute": folder(index={"weight_map": {"model.norm.weight": "/etc/passwd.safetensors"}}),
        "index-number": folder(index={"weight_map": {"model.norm.weight": 1}}),
        "index-other": folder(index={"weight_map": {"x": "model.safetensors"}}),
        "pictures": folder(CONFIG | {"vision_config": {}}),
        "token-id": folder(tokenizer=TOKENIZER | {"model": {"type": "BPE", "vocab": {"a": 1 << 40}, "merges": []}}),
        "token-twice": folder(tokenizer=TOKENIZER | {"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}),
        "special-token": folder(
            tokenizer=TOKENIZER
            | {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": "a"}]}}
        ),
        "merge": folder(tokenizer=TOKENIZER | {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}),
        "fp8-scales": quantized(FP8, of({"weight": ("F8_E4M3", [32, 32]), "weight_scale_inv": ("F32", [3, 2])})),
        "fp8-block": quantized(
            FP8 | {"weight_block_size": [0, 128]},
            of({"weight": ("F8_E4M3", [32, 32]), "weight_scale_inv": ("F32", [1, 1])}),
        ),
        "awq-words": quantized(AWQ, of(FOUR | {"qweight": ("I32", [32, 3])})),
        "awq-group": quantized(AWQ | {"group_size": 0}, of(FOUR)),
        "gptq-symmetric": quantized(GPTQ | {"sym": True}, of(GPTQ_PARTS)),
        "gptq-order": quantized(GPTQ | {"group_size": 16}, of(GPTQ_PARTS)),
        "unused": folder(shards=tensors() | {"model.layers.0.other": ("F32", [2])}),
        "shape": folder(shards=tensors() | {"model.norm.weight": ("F32", [31])}),
    }  # fmt: skip
    return {f"good-{name}": data for name, data in good.items()} | {f"bad-{name}": data for name, data in bad.items()}


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
