#pragma once

#include <array>
#include <cstdint>

namespace ridge {

// The quantised blocks of GGUF, byte for byte as files store them (source: the GGUF specification
// and the formats as ggml defines them). A row is a run of whole blocks; all numbers are
// little-endian; `f16` is the bit pattern of an IEEE binary16, `e8m0` the exponent of a power of two. All structs are packed, so a pointer
// into a mapped file may be read as one at any address.
//
// Notation: x[i] is element i of the block; lo(b) = b & 15 and hi(b) = b >> 4 are a byte's nibbles.
// Formulas are in float32 and in this order of operations, without fused multiply-add.

using f16_bits = uint16_t;
using e8m0_bits = uint8_t;

inline constexpr int block_elements = 32;         // of the simple formats
inline constexpr int super_block_elements = 256;  // of the K formats and IQ4_XS

#pragma pack(push, 1)

// x[i] = d · (q[i] - 8); q[i] = lo(codes[i]) and q[i + 16] = hi(codes[i]), i in [0, 16).
struct BlockQ4_0 {
  f16_bits d;
  uint8_t codes[16];
};

// x[i] = d · q[i] + m; codes as in Q4_0.
struct BlockQ4_1 {
  f16_bits d;
  f16_bits m;
  uint8_t codes[16];
};

// x[i] = d · (q[i] - 16); the low four bits of q as in Q4_0, the fifth is bit i of `high`, whose
// byte 0 holds elements 0 to 7.
struct BlockQ5_0 {
  f16_bits d;
  uint8_t high[4];
  uint8_t codes[16];
};

// x[i] = d · q[i] + m; codes as in Q5_0.
struct BlockQ5_1 {
  f16_bits d;
  f16_bits m;
  uint8_t high[4];
  uint8_t codes[16];
};

// x[i] = d · codes[i].
struct BlockQ8_0 {
  f16_bits d;
  int8_t codes[32];
};

// 16 groups of 16 elements: x = (d · lo(scales[g])) · q - (dmin · hi(scales[g])), g = i / 16.
// Two halves of 128 elements, each 32 bytes of codes. In half h, byte j holds four elements, two
// bits each from the lowest up: those at 128h + j, + 32, + 64 and + 96.
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t codes[64];
  f16_bits d;
  f16_bits dmin;
};

// 16 groups of 16 elements: x = (d · (s[g] - 32)) · (q - 4 · (1 - bit)), g = i / 16.
// q: two bits, laid out as in Q2_K. bit: the bit i / 32 of high[i % 32] (a set bit means "no
// offset"). s: six bits. The low four are lo(scales[g]) for g < 8 and hi(scales[g - 8]) for the
// others; the upper two are (scales[8 + g % 4] >> 2 · (g / 4)) & 3.
struct BlockQ3_K {
  uint8_t high[32];
  uint8_t codes[64];
  uint8_t scales[12];
  f16_bits d;
};

// 8 groups of 32 elements: x = (d · s[g]) · q - (dmin · m[g]), g = i / 32.
// Four quarters of 64 elements, each 32 bytes of codes; byte j of quarter c holds the elements
// 64c + j (low nibble) and 64c + 32 + j (high nibble).
// s and m: six bits each. For g < 4: s = scales[g] & 63, m = scales[g + 4] & 63.
// For g >= 4: s = lo(scales[g + 4]) | (scales[g - 4] >> 6) << 4,
//             m = hi(scales[g + 4]) | (scales[g] >> 6) << 4.
struct BlockQ4_K {
  f16_bits d;
  f16_bits dmin;
  uint8_t scales[12];
  uint8_t codes[128];
};

// As Q4_K with a fifth bit: bit g of high[i % 32].
struct BlockQ5_K {
  f16_bits d;
  f16_bits dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t codes[128];
};

// 16 groups of 16 elements: x = (d · scales[g]) · (q - 32), g = i / 16.
// Two halves h of 128 elements, each 64 bytes of codes and 32 of high. For j in [0, 32), the four
// elements 128h + j + {0, 32, 64, 96} have the low bits lo(codes[64h + j]), lo(codes[64h + 32 +
// j]), hi(codes[64h + j]), hi(codes[64h + 32 + j]), and the upper two bits at 0, 2, 4, 6 of
// high[32h + j].
struct BlockQ6_K {
  uint8_t codes[128];
  uint8_t high[64];
  int8_t scales[16];
  f16_bits d;
};

// x[i] = d · iq4_codebook[q[i]]; q as in Q4_0.
struct BlockIQ4_NL {
  f16_bits d;
  uint8_t codes[16];
};

// 8 groups of 32 elements: x = (d · (s[g] - 32)) · iq4_codebook[q], g = i / 32.
// Group g has codes[16g] to codes[16g + 15], laid out as in Q4_0.
// s: six bits; the low four are nibble g of scales_low (low nibble first), the upper two are the
// bits 2g and 2g + 1 of scales_high.
struct BlockIQ4_XS {
  f16_bits d;
  uint16_t scales_high;
  uint8_t scales_low[4];
  uint8_t codes[128];
};

// x[i] = 2^(e - 128) · mxfp4_levels[q[i]]; q as in Q4_0. The levels are doubled, so that they are whole:
// OCP's Microscaling Formats 1.0 has 2^(e - 127) · E2M1.
struct BlockMXFP4 {
  e8m0_bits e;
  uint8_t codes[16];
};

#pragma pack(pop)

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);
static_assert(sizeof(BlockMXFP4) == 17);

// The non-uniform levels of IQ4_NL and IQ4_XS, close together near zero where most weights lie.
inline constexpr std::array<int8_t, 16> iq4_codebook = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

// The numbers of E2M1 (a sign, two bits of exponent, one of mantissa), doubled. Code 8 is -0, read as 0.
inline constexpr std::array<int8_t, 16> mxfp4_levels = {0, 1,  2,  3,  4,  6,  8,  12,
                                                        0, -1, -2, -3, -4, -6, -8, -12};

// 2^(e - 128), for each of the 256 bit patterns (255, which OCP calls NaN, is 2^127 as in ggml). A
// bfloat16 holds all of them, the lowest two as subnormals.
inline uint16_t e8m0_half_to_bf16(e8m0_bits e) {
  return static_cast<uint16_t>(e < 2 ? 0x20 << e : (e - 1) << 7);
}
inline e8m0_bits bf16_to_e8m0_half(uint16_t bits) {
  return static_cast<e8m0_bits>(bits < 0x80 ? bits >> 6 : (bits >> 7) + 1);
}

// The eight six-bit scales and minima of a Q4_K or Q5_K block, unpacked.
struct SuperBlockScales {
  uint8_t scale[8];
  uint8_t minimum[8];
};

inline SuperBlockScales unpack_k_scales(const uint8_t (&packed)[12]) {
  SuperBlockScales result;
  for (int g = 0; g < 4; ++g) {
    result.scale[g] = packed[g] & 63;
    result.minimum[g] = packed[g + 4] & 63;
    result.scale[g + 4] = static_cast<uint8_t>((packed[g + 8] & 15) | ((packed[g] >> 6) << 4));
    result.minimum[g + 4] =
        static_cast<uint8_t>((packed[g + 8] >> 4) | ((packed[g + 4] >> 6) << 4));
  }
  return result;
}

// Scale `group` of a Q3_K block, -32 to 31.
inline int unpack_q3_scale(const uint8_t (&packed)[12], int group) {
  const int low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4;
  const int high = (packed[8 + group % 4] >> (2 * (group / 4))) & 3;
  return (low | (high << 4)) - 32;
}

// Scale `group` of an IQ4_XS block, -32 to 31.
inline int unpack_iq4_xs_scale(const BlockIQ4_XS& block, int group) {
  const int low = (block.scales_low[group / 2] >> (4 * (group % 2))) & 15;
  const int high = (block.scales_high >> (2 * group)) & 3;
  return (low | (high << 4)) - 32;
}

}  // namespace ridge
