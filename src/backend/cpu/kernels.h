#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/ops.h"
#include "backend/cpu/panel.h"
#include "backend/cpu/tile_format.h"

// What each instruction set provides to the schedule: plain functions over pointers and integers.
namespace ridge::backend::cpu {

inline constexpr int max_tile_tokens = 8;
inline constexpr int activation_group = 32;

// Activations of T tokens in groups of 32 columns, as two int8 planes of which the second refines the
// first: x ≈ scale · (code + fine / fine_steps), about 15 bits. One plane loses more than the weights'
// own formats do. Tokens come in tiles of at most max_tile_tokens, and a tile is interleaved, so that a
// kernel has one pointer for all its tokens. K is padded to a multiple of 256 with zeros.
struct ActivationTile {
  const int8_t* codes;  // [K/32]{ code [8 quads][tokens][4], fine [8 quads][tokens][4] }
  const float* scales;  // [K/32][tokens]
  const float* sums;    // [K/16][tokens]: Σ of 16 columns' x, as the planes have it
  int tokens;
};
inline constexpr float fine_steps = 254.0f;
inline constexpr int activation_planes = 2;

// out[tokens][16] = the strip's 16 rows times each token of the tile.
//   strip: `units` units as in tile_format.h
using DotTile = void (*)(const std::byte* strip, int64_t units, const ActivationTile& x, float* out);

// The same for float weights, stored [K][16]: x is row-major float32 with `stride` floats a token.
using FloatDotTile = void (*)(const std::byte* strip, int64_t columns, const float* x,
                              int64_t stride, float* out);

// Where one row of a tile goes.
struct ActivationRow {
  int8_t* codes;
  float* scales;
  float* sums;
  int tokens;  // of the tile
  int token;   // this one's place in it
};

// Up to 8 query rows that share one KV head: row i is head first_head + i % heads_per_group … of token
// i / heads_per_group, counted from `first_row`.
struct AttentionJob {
  const float* q;          // of the sequence's first token and the group's first head
  int64_t q_stride;        // floats between tokens
  float* out;              // likewise
  int64_t out_stride;
  int group_heads;         // query heads of this KV head
  int first_row;           // in the sequence's rows [tokens · group_heads]
  int rows;                // 1 to 8
  int first_position;      // of the sequence's first token in this step
  const int32_t* block_table;
  const std::byte* keys;   // of block 0 for this layer and KV head, [key_dim][block_tokens]
  const std::byte* values; // [block_tokens][value_stride]
  int64_t block_stride;    // bytes between blocks
  int block_tokens;
  int key_dim;
  int value_dim;
  int value_stride;        // elements, value_dim rounded up to 16
  float scale;
  int window;
  float soft_cap;
  const float* sinks;      // of the group's first head, or nullptr
  float* scratch;          // attention_scratch_floats(key_dim, value_stride)
};

inline constexpr int attention_rows = 8;
inline constexpr int attention_chunk = 64;  // keys whose scores are held at once

constexpr int64_t attention_scratch_floats(int key_dim, int value_stride) {
  return static_cast<int64_t>(attention_rows) * (key_dim + value_stride + attention_chunk);
}

struct KernelTable {
  int tile_tokens;                                        // at most max_tile_tokens
  DotTile dot[dtype_count][max_tile_tokens + 1];          // [dtype][tokens], quantised dtypes
  FloatDotTile float_dot[dtype_count][max_tile_tokens + 1];  // f32, f16, bf16
  PanelKernels panel;                                     // linear for many tokens
  // x[columns] into its place; columns past the end up to a multiple of 256 become zero.
  void (*quantize_row)(const float* x, int64_t columns, const ActivationRow& to);
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t columns, float* out);
  void (*gated_activation)(const float* gate, const float* up, Activation kind, int64_t columns,
                           float* out);
  void (*add)(const float* a, const float* b, int64_t columns, float* out);
  void (*scale)(const float* x, float factor, int64_t columns, float* out);
  // Rotates one head in place. cos_sin: [rotary_dim / 2][2], magnitude included.
  void (*rope)(float* head, const float* cos_sin, int rotary_dim, RopePairs pairs);
  // One token of one KV head into its block at `offset` tokens; k and v in the cache's dtype.
  void (*store_kv)(const float* k, const float* v, std::byte* keys, std::byte* values, int offset,
                   int block_tokens, int key_dim, int value_dim, int value_stride, DType dtype);
  void (*attention)(const AttentionJob& job, DType dtype);
};

const KernelTable& scalar_kernels();
const KernelTable& amx_emulated_kernels();  // tests only
#if defined(__x86_64__)
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
const KernelTable& avx512_vnni_kernels();
const KernelTable& amx_kernels();
const KernelTable& amx_emulated_avx512_kernels();  // tests only
#endif

}  // namespace ridge::backend::cpu
