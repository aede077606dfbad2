"""Random quantised blocks: every bit pattern of the codes, scales of a sane size.

The `gguf` package reads the K and IQ4 formats but does not write them, so their blocks are drawn directly:
all bytes uniform, then the block's float16 scales set for the spread that is wanted.
"""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# Byte offsets of the float16 scale and, where the format has one, of the float16 minimum.
SCALE_AT = {
    Type.Q4_0: (0, None),
    Type.Q4_1: (0, 2),
    Type.Q5_0: (0, None),
    Type.Q5_1: (0, 2),
    Type.Q8_0: (0, None),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108, None),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208, None),
    Type.IQ4_NL: (0, None),
    Type.IQ4_XS: (0, None),
    Type.MXFP4: (0, None),  # a power of two, in one byte
}

# dmin / d that centres the values: the mean code, since scales and minima are drawn alike.
MINIMUM_RATIO = {Type.Q2_K: 1.5, Type.Q4_K: 7.5, Type.Q5_K: 15.5}


def put_half(raw: np.ndarray, at: int, values: np.ndarray) -> None:
    """Writes one float16 a block at byte `at` of raw[blocks, bytes]."""
    raw[:, at : at + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


def random_bytes(rng: np.random.Generator, blocks: int, kind: Type) -> np.ndarray:
    return rng.integers(0, 256, (blocks, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)


def set_scales(raw: np.ndarray, kind: Type, scales: np.ndarray) -> None:
    if kind == Type.MXFP4:
        raw[:, 0] = np.round(np.log2(np.abs(scales))) + 128
        return
    scale_at, minimum_at = SCALE_AT[kind]
    put_half(raw, scale_at, scales)
    if minimum_at is not None:
        put_half(raw, minimum_at, scales * MINIMUM_RATIO[kind])


def random_weight(rng, rows: int, columns: int, kind: Type, spread: float) -> np.ndarray:
    """raw[rows, bytes] whose values have the standard deviation `spread`, about a mean of zero."""
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if columns % block:
        raise ValueError(f"{kind.name} packs {block} values a block, and a row has {columns}")
    raw = random_bytes(rng, rows * columns // block, kind)
    set_scales(raw, kind, np.ones(len(raw)))
    unit = gguf.quants.dequantize(raw, kind).std()
    jitter = rng.uniform(0.6, 1.4, len(raw)) * rng.choice([1.0, 1.0, 1.0, -1.0], len(raw))
    set_scales(raw, kind, jitter * (spread / unit))
    return raw.reshape(rows, -1)


def awkward_blocks(rng, kind: Type, blocks: int) -> np.ndarray:
    """raw[blocks, bytes] whose scales and minima take negative, zero and subnormal values in turn."""
    raw = random_bytes(rng, blocks, kind)
    if kind == Type.MXFP4:
        raw[:, 0] = rng.integers(118, 134, blocks)
        raw[:5, 0] = (0, 1, 2, 3, 252)  # the first two are subnormal, beyond the last 6 is infinite
        return raw
    special = np.array([0.0, -0.0, 2.0**-24, -(2.0**-20), 2.0**-15, -(2.0**-14)])
    for index, at in enumerate(SCALE_AT[kind]):
        if at is None:
            continue
        values = rng.uniform(-0.125, 0.125, blocks)
        for position, value in enumerate(special):
            values[(2 * position + index + 1) % blocks] = value
        put_half(raw, at, values)
    return raw


def awkward_floats(rng, kind: Type, count: int) -> np.ndarray:
    """raw[1, 2 * count] of finite F16 or BF16 values: all sizes, both zeros, subnormals."""
    bits = rng.integers(0, 65536, 4 * count, dtype=np.uint16)
    exponent = 0x7C00 if kind == Type.F16 else 0x7F80
    bits = bits[(bits & exponent) != exponent][: count - 6]
    fixed = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x807F], dtype=np.uint16)
    return np.concatenate([fixed, bits]).view(np.uint8).reshape(1, -1)
