"""Writes the seeds of the GGUF fuzzer into corpus/gguf/.

Knows the format by itself, apart from our own writer, and needs only the standard library. The seeds are
small: a fuzzer mutates short inputs better. `good-*` must be accepted and `bad-*` refused; gguf_corpus_test.cc
holds them to it.
"""

import pathlib
import random
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus" / "gguf"

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}

# name: (number, elements a block, bytes a block)
TENSOR_TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22),
    "q5_1": (7, 32, 24), "q8_0": (8, 32, 34), "q2_k": (10, 256, 84), "q3_k": (11, 256, 110),
    "q4_k": (12, 256, 144), "q5_k": (13, 256, 176), "q6_k": (14, 256, 210), "iq2_xxs": (16, 256, 66),
    "iq4_nl": (20, 32, 18), "iq4_xs": (23, 256, 136), "i8": (24, 1, 1), "i32": (26, 1, 4), "bf16": (30, 1, 2),
}  # fmt: skip


def number(kind: int, value) -> bytes:
    return struct.pack("<" + FORMATS[kind], value)


def string(text: bytes) -> bytes:
    return number(U64, len(text)) + text


def array(kind: int, payloads: list[bytes]) -> bytes:
    return number(U32, kind) + number(U64, len(payloads)) + b"".join(payloads)


def entry(key: bytes, kind: int, payload: bytes) -> bytes:
    return string(key) + number(U32, kind) + payload


def header(tensors: int, keys: int, version: int = 3) -> bytes:
    return b"GGUF" + number(U32, version) + number(U64, tensors) + number(U64, keys)


def tensor(name: bytes, extents: list[int], kind: int, offset: int) -> bytes:
    return (
        string(name) + number(U32, len(extents)) + b"".join(number(U64, e) for e in extents)
        + number(U32, kind) + number(U64, offset)
    )  # fmt: skip


def padded(data: bytes, alignment: int = 32) -> bytes:
    return data + bytes(-len(data) % alignment)


def one_tensor(extents: list[int], kind: int, offset: int, data: bytes) -> bytes:
    return padded(header(1, 0) + tensor(b"t", extents, kind, offset)) + data


def all_values() -> bytes:
    entries = [entry(b"general.architecture", STRING, string(b"llama"))]
    entries += [entry(b"k%d" % kind, kind, number(kind, 1)) for kind in FORMATS]
    entries += [entry(b"a%d" % kind, ARRAY, array(kind, [number(kind, 0)] * 2)) for kind in FORMATS]
    entries.append(entry(b"strings", ARRAY, array(STRING, [string(b"a"), string(b"")])))
    inner = array(I32, [number(I32, -1)])
    entries.append(entry(b"nested", ARRAY, array(ARRAY, [inner, array(STRING, [string(b"x")])])))
    return header(0, len(entries)) + b"".join(entries)


def two_tensors(alignment: int, first_offset: int, second_offset: int) -> bytes:
    content = header(2, 1) + entry(b"general.alignment", U32, number(U32, alignment))
    content += tensor(b"a", [4], 0, first_offset) + tensor(b"b", [2, 2], 0, second_offset)
    return padded(content, alignment) + bytes(alignment + 16)


def good_seeds(rng: random.Random) -> dict[str, bytes]:
    seeds = {
        "values": all_values(),
        "version-2": header(0, 1, version=2) + entry(b"k", U32, number(U32, 1)),
        "alignment": two_tensors(64, 64, 0),
        "unknown-type": one_tensor([7, 3], 99, 0, b""),
        "split": header(0, 2) + entry(b"split.no", U16, number(U16, 0)) + entry(b"split.count", U16, number(U16, 2)),
    }
    for name, (kind, elements, size) in TENSOR_TYPES.items():
        seeds[f"type-{name}"] = one_tensor([elements, 2], kind, 0, rng.randbytes(2 * size))
    return seeds


def bad_seeds() -> dict[str, bytes]:
    huge = 2**64 - 1
    return {
        "four-bytes": b"GGUF",
        "other-format": b"PK\x03\x04" + bytes(20),
        "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "version-1": header(0, 0, version=1),
        "tensor-count": header(huge, 0),
        "key-count": header(0, huge),
        "array-2-63": header(0, 1) + string(b"k") + number(U32, ARRAY) + number(U32, U8) + number(U64, 2**63),
        "strings-2-61": header(0, 1) + string(b"k") + number(U32, ARRAY) + number(U32, STRING) + number(U64, 2**61),
        "string-past-end": header(0, 1) + string(b"k") + number(U32, STRING) + number(U64, 9) + b"short",
        "nesting": header(0, 1) + string(b"k") + number(U32, ARRAY) + (number(U32, ARRAY) + number(U64, 1)) * 40,
        "value-type": header(0, 1) + string(b"k") + number(U32, 13),
        "duplicate-key": header(0, 2) + entry(b"k", U8, b"\0") * 2,
        "alignment-zero": header(0, 1) + entry(b"general.alignment", U32, number(U32, 0)),
        "no-extents": one_tensor([], 0, 0, bytes(32)),
        "five-extents": one_tensor([1] * 5, 0, 0, bytes(32)),
        "zero-extent": one_tensor([4, 0], 0, 0, bytes(32)),
        "elements-overflow": one_tensor([2**32, 2**32], 0, 0, bytes(32)),
        "bytes-overflow": one_tensor([2**62], 0, 0, bytes(32)),
        "broken-block": one_tensor([33], 2, 0, bytes(64)),
        "past-the-end": one_tensor([9], 0, 0, bytes(32)),
        "offset-wraps": one_tensor([8], 0, 2**64 - 32, bytes(32)),
        "offset-unaligned": one_tensor([1], 0, 4, bytes(32)),
        "overlap": two_tensors(8, 0, 8),
        "duplicate-tensor": padded(header(2, 0) + tensor(b"t", [1], 0, 0) + tensor(b"t", [1], 0, 32)) + bytes(64),
    }


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for kind, seeds in (("good", good_seeds(random.Random(1))), ("bad", bad_seeds())):
        for name, content in seeds.items():
            (CORPUS / f"{kind}-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
