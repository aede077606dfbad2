#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// linear for 5 to 16 tokens of Q3_K, Q4_K, Q5_K, Q6_K and IQ4_XS, whose groups have integer scales:
// codes times these are integers as well, which int8 tiles add up over a whole unit of 256 columns
// before anything becomes a float.
//
//   value = d · (scale · code) - dmin · min       d, dmin: of a row's 256 columns, the unit
//           ─┬─
//            two bytes, low + high_step · high    with minima: code · (scale & 7), code · (scale >> 3)
//                                                 others: the two bytes of (code - offset) · scale
//   x ≈ step · (128 · coarse + fine)              step: of a token's 256 columns
//   Σ min · x = Σ min · (Σ x of 32 columns)       one more product, of bfloat16: mins are such
//                                                 numbers as they are, sums in three parts
//
//                 B: low byte   B: high byte      a unit: [4 times 64 columns][2][16][16 rows][4]
//   A: coarse   ┌─────────────┬─────────────┐
//               │  sum tile 0 │  sum tile 1 │     tokens: [units][4 times 64 columns][2][tokens][64]
//   A: fine     ├─────────────┼─────────────┤
//               │  sum tile 2 │  sum tile 3 │
//               └─────────────┴─────────────┘
//
// Products and sums are exact; only the activations are rounded, to 15 bits.
namespace ridge::backend::cpu {

inline constexpr int scaled_unit = 256;  // columns of a unit
inline constexpr int scaled_chunk = 64;  // columns of one product of tiles
inline constexpr int scaled_chunks = scaled_unit / scaled_chunk;
inline constexpr int most_scaled_tokens = 16;
inline constexpr int scaled_planes = 2;  // of weights and of activations
inline constexpr int scaled_groups = scaled_unit / 32;
// Bytes of a chunk of weights.
inline constexpr int scaled_chunk_bytes = scaled_planes * scaled_chunk * 16;
// Sums of a unit: [coarse, fine][low, high][tokens][16 rows].
inline constexpr int scaled_sums = scaled_planes * scaled_planes * most_scaled_tokens * 16;
// bfloat16 that hold the sums of a unit's groups for one token: [parts][groups], then zeros up to
// the 64 bytes of a tile's row.
inline constexpr int scaled_sum_parts = 3;
inline constexpr int scaled_sum_width = 32;
static_assert(scaled_sum_parts * scaled_groups <= scaled_sum_width);
// Bytes of a unit's mins, [scaled_sum_width / 2][16 rows][2] bfloat16.
inline constexpr int scaled_mins_bytes = scaled_sum_width * 16 * 2;

// 256 columns of one token.
struct ScaledToken {
  int8_t* codes;   // the token's first 64 columns of the coarse plane
  float* step;
  uint16_t* sums;  // [scaled_sum_width], Σ of each 32 columns as they were rounded
};

// One step's activations.
struct ScaledTokens {
  int8_t* codes;   // [units][scaled_chunks][scaled_planes][count][64]
  uint16_t* sums;  // [units][count][scaled_sum_width]
  float* steps;    // [units][count]
  int count;       // at most most_scaled_tokens

  int64_t chunk_bytes() const { return int64_t{scaled_planes} * count * scaled_chunk; }
  int8_t* unit(int64_t unit) const { return codes + unit * scaled_chunks * chunk_bytes(); }
  ScaledToken token(int64_t unit_index, int index) const {
    const int64_t at = unit_index * count + index;
    return {unit(unit_index) + index * scaled_chunk, steps + at, sums + at * scaled_sum_width};
  }
};

// Some strips times all tokens. Units pass in the order of units, strips.
struct ScaledJob {
  const std::byte* const* strips;  // tile_format.h
  int count;
  const std::byte* const* next;  // strips that will follow, whose first units are fetched
  int next_count;
  int64_t units;
  const ScaledTokens* tokens;
  std::byte* scratch;  // [scaled_scratch], 64-byte aligned
  float* out;          // [count][tokens][16], overwritten
};
// Chunks of weights that stand unpacked, in a ring.
inline constexpr int scaled_ring = 6;
// One unit's mins stand unpacked beside those that are multiplied.
inline constexpr int scaled_min_slots = 2;
// Chunks, mins, a unit's sums and what its mins give, [tokens][16 rows].
inline constexpr int scaled_scratch = scaled_ring * scaled_chunk_bytes +
                                      scaled_min_slots * scaled_mins_bytes +
                                      4 * (scaled_sums + most_scaled_tokens * 16);

// All null where an instruction set has none; `multiply` also where a dtype has none.
struct ScaledKernels {
  int min_tokens, max_tokens;  // fewer or more are better off with the other kernels
  // x[256] of one of `count` tokens.
  void (*quantize)(const float* x, int count, const ScaledToken& to);
  // Around a member's products of one step, of so many tokens.
  void (*begin)(int count);
  void (*end)();
  void (*multiply[dtype_count])(const ScaledJob& job);
};

}  // namespace ridge::backend::cpu
