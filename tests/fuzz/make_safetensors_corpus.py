"""Writes the seeds of the safetensors fuzzer into corpus/safetensors/.

Knows the format by itself and needs only the standard library. `good-*` must be accepted and `bad-*` refused;
corpus_test.cc holds them to it.
"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus" / "safetensors"

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "C64": 64,
}  # fmt: skip


def file(header: str | dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(begin: int, end: int, dtype: str = "F32", shape=(2,)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def one(data: bytes = bytes(8), **changes) -> bytes:
    """A file of one tensor `t` of two float32 values, with fields changed, or dropped where None."""
    fields = {**entry(0, 8), **changes}
    return file({"t": {key: value for key, value in fields.items() if value is not None}}, data)


def seeds() -> dict[str, bytes]:
    good = {f"type-{kind.lower()}": file({"t": entry(0, bits, kind, (8,))}, bytes(bits)) for kind, bits in BITS.items()}
    good |= {
        "adapter": file(
            {
                "__metadata__": {"format": "pt"},
                "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": entry(0, 32, shape=(2, 4)),
                "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": entry(32, 64, shape=(4, 2)),
            },
            bytes(64),
        ),
        "empty": file({}),
        "padded": file('{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   ', bytes(8)),
        "scalar": file({"t": entry(0, 4, shape=())}, bytes(4)),
        "zero-extent": file({"t": entry(0, 0, shape=(0, 3)), "u": entry(0, 8)}, bytes(8)),
        "five-extents": file({"t": entry(0, 8, shape=(1, 1, 1, 1, 2))}, bytes(8)),
        "unknown-type": file({"t": entry(0, 5, "F2", (8,))}, bytes(5)),
        "unaligned": file({"a": entry(0, 1, "U8", (1,)), "t": entry(1, 9)}, bytes(9)),
        "not-in-order": file({"b": entry(8, 16), "a": entry(0, 8)}, bytes(16)),
        "escaped-name": file('{"\\u00e9\\n":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    }
    bad = {
        "no-bytes": b"",
        "seven-bytes": bytes(7),
        "no-header": struct.pack("<Q", 0),
        "header-2-63": file({}, length=1 << 63),
        "header-past-end": file({}, length=3),
        "header-too-long": file({}, length=100_000_001),
        "leading-space": file(" {}"),
        "list": file("[]"),
        "no-json": file("{,}"),
        "cut-json": file('{"t":{"dtype":"F32"'),
        "behind-json": file("{}{}"),
        "not-utf-8": struct.pack("<Q", 8) + b'{"\xff":{}}'[:8],
        "deep": file("{" + '"t":{' * 5000 + "}" * 5001),
        "deep-shape": file('{"t":{"dtype":"F32","shape":' + "[" * 5000 + "]" * 5000 + ',"data_offsets":[0,8]}}', bytes(8)),
        "metadata-number": file({"__metadata__": {"a": 1}}),
        "metadata-list": file({"__metadata__": []}),
        "metadata-twice": file('{"__metadata__":{"a":"b","a":"c"}}'),
        "tensor-twice": file('{"t":%s,"t":%s}' % ((json.dumps(entry(0, 8)),) * 2), bytes(8)),
        "tensor-number": file({"t": 1}),
        "no-name": file({"": entry(0, 8)}, bytes(8)),
        "long-name": file({"n" * 513: entry(0, 8)}, bytes(8)),
        "no-dtype": one(dtype=None),
        "no-shape": one(shape=None),
        "no-offsets": one(data_offsets=None),
        "dtype-number": one(dtype=4),
        "dtype-long": one(dtype="F" * 33),
        "shape-text": one(shape="2"),
        "shape-negative": one(shape=[-2]),
        "shape-fraction": one(shape=[2.0]),
        "shape-wraps": one(shape=[1 << 62, 1 << 62]),
        "shape-wraps-to-zero": one(data=b"", shape=[1 << 40, 1 << 40, 0], data_offsets=[0, 0]),
        "shape-2-64": one(shape=[1 << 64]),
        "shape-long": one(shape=[1] * 17 + [2]),
        "one-offset": one(data_offsets=[0]),
        "three-offsets": one(data_offsets=[0, 8, 8]),
        "offsets-reversed": one(data_offsets=[8, 0]),
        "offsets-past-end": one(data_offsets=[0, 16], shape=[4]),
        "offsets-wrap": one(data_offsets=[(1 << 64) - 8, 0]),
        "size": one(shape=[3]),
        "half-a-byte": file({"t": entry(0, 1, "F4", (1,))}, bytes(1)),
        "field": one(stride=[1]),
        "field-twice": file('{"t":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "overlap": file({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        "hole": file({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
        "trailing": one(data=bytes(9)),
    }  # fmt: skip
    return {f"good-{name}": data for name, data in good.items()} | {f"bad-{name}": data for name, data in bad.items()}


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
