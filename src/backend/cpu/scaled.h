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

// 256 columns of one token.
struct ScaledToken {
  int8_t* codes;  // the token's first 64 columns of the coarse plane
  float* step;
  float* sums;  // [scaled_groups], Σ of 32 columns as they were rounded
};

// One step's activations.
struct ScaledTokens {
  int8_t* codes;  // [units][scaled_chunks][scaled_planes][count][64]
  float* steps;   // [units][count]
  float* sums;    // [units][count][scaled_groups]
  int count;      // at most most_scaled_tokens

  int64_t chunk_bytes() const { return int64_t{scaled_planes} * count * scaled_chunk; }
  int8_t* unit(int64_t unit) const { return codes + unit * scaled_chunks * chunk_bytes(); }
  ScaledToken token(int64_t unit_index, int index) const {
    const int64_t at = unit_index * count + index;
    return {unit(unit_index) + index * scaled_chunk, steps + at, sums + at * scaled_groups};
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
inline constexpr int scaled_scratch = scaled_ring * scaled_chunk_bytes + 4 * scaled_sums;

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
