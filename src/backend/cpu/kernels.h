#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/activation_codes.h"
#include "backend/cpu/byte_panel.h"
#include "backend/cpu/latent_expansion.h"
#include "backend/cpu/panel.h"
#include "backend/cpu/scaled.h"
#include "backend/cpu/tile_format.h"
#include "backend/cpu/word_panel.h"
#include "backend/ops.h"

// What each instruction set provides to the schedule: plain functions over pointers and integers.
namespace ridge::backend::cpu {

inline constexpr int max_tile_rows = 8;

// Activations in groups of 32 columns, x ≈ scale · code. A code is one int8, or has two planes
// (activation_codes.h); each plane is a row of int8. Rows come in tiles of at most max_tile_rows,
// and a tile is interleaved, so that a kernel has one pointer for all of them. K is padded to a
// multiple of 256 with zeros.
struct ActivationTile {
  const int8_t* codes;       // [K/32][8 quads][tokens][planes][4]
  const float* scales;       // [K/32][tokens]
  const int32_t* code_sums;  // [K/32][2 halves of 16 columns][tokens]: -Σ codes
  const float* group_sums;   // [K/32][tokens]: Σ of 32 columns' scale · code
  const float* half_sums;    // [K/16][tokens]: the same of 16
  int tokens;
  int planes;  // 1 or 2

  int rows() const { return tokens * planes; }
  // To the next 32 columns.
  void advance() {
    codes += activation_group * rows();
    scales += tokens;
    code_sums += 2 * tokens;
    group_sums += tokens;
    half_sums += 2 * tokens;
  }
};

// out[tokens][strip_rows] = the strip's rows times each token of the tile.
//   strip: `units` units as in tile_format.h
//   next: as many bytes that will be read soon, to be fetched meanwhile; or nullptr
using DotTile = void (*)(const std::byte* strip, int64_t units, const ActivationTile& x,
                         const std::byte* next, float* out);

// The same for float weights, stored [K][strip_rows]: x is row-major float32 with `stride` floats a
// token.
using FloatDotTile = void (*)(const std::byte* strip, int64_t columns, const float* x,
                              int64_t stride, float* out);

// Where one token's rows of a tile go.
struct ActivationRows {
  int8_t* codes;
  float* scales;
  int32_t* code_sums;
  float* group_sums;
  float* half_sums;
  int tokens;  // of the tile
  int token;   // this one's place
  int planes;  // 1 or 2
};

// Where one KV head of one block has what. Groups of 1 (f32, f16), 2 (bf16) or 4 (i8) are what one
// lane of a vector holds: dimensions of a key, or tokens of a value.
//   keys   [ceil(key_dim / group)][block_tokens][group], then for i8 a scale for each token
//   values [block_tokens / group][value_stride][group],  likewise
struct KvGeometry {
  DType dtype;
  int block_tokens;  // a multiple of 16
  int key_dim;
  int value_dim;
  int value_stride;       // elements, value_dim rounded up to 16
  int64_t key_scales_at;  // bytes from the head's start
  int64_t values_at;
  int64_t value_scales_at;
  int64_t head_bytes;
  int64_t block_stride;  // bytes between blocks
};

constexpr int kv_group(DType dtype) {
  return dtype == DType::bf16 ? 2 : dtype == DType::i8 ? 4 : 1;
}

// Query rows that share one KV head: row i is head first_head + i % group_heads of token
// i / group_heads, counted from `first_row`.
struct AttentionJob {
  const float* q;       // of the sequence's first token and the group's first head
  int64_t q_stride;     // floats between tokens
  int q_dims;           // of each head there; the key's other dimensions are in
  const float* q_rest;  // likewise, or nullptr where q has them all
  int64_t q_rest_stride;
  // Latent attention: queries of the values, likewise, whose scores are added; or nullptr.
  const float* q_latent;
  int64_t q_latent_stride;
  float* out;  // likewise
  int64_t out_stride;
  int group_heads;     // query heads of this KV head
  int first_row;       // in the sequence's rows [tokens · group_heads]
  int rows;            // 1 to KernelTable::attention_rows
  int first_position;  // of the sequence's first token in this step
  int range_first;     // keys outside [range_first, range_end) are left to other jobs;
  int range_end;       // range_first is a multiple of 16
  const int32_t* block_table;
  const std::byte* cache;  // block 0 of this layer and KV head
  const KvGeometry* kv;
  float scale;
  int window;
  float soft_cap;
  const float* sinks;  // of the group's first head, or nullptr
  std::byte* scratch;  // attention_scratch_bytes
  float* partial;      // [rows][partial_floats(kv)] instead of `out`, or nullptr
  // What `partial` had for the keys before range_first, to go on from, or nullptr.
  const float* resumed;
  bool batch_invariant;  // a row's result may not depend on the other rows
};

inline constexpr int attention_rows = 48;  // query rows of a job, most, of the vectors' kernels
inline constexpr int word_attention_rows = 128;  // of those on vectors of int16
inline constexpr int tile_attention_rows = 128;  // of those on AMX tiles
// Where all heads share one latent, for any kernel.
inline constexpr int latent_attention_rows = 32;
inline constexpr int attention_chunk = 64;   // keys whose scores are held at once
inline constexpr int attention_ranges = 16;  // ranges of keys that a row may be split into
inline constexpr int partial_rows = 16;      // most rows of a job that has a range of the keys

// most_rows: of any job
constexpr int64_t attention_scratch_bytes(const KvGeometry& kv, int most_rows, bool is_latent) {
  const int64_t key_floats = (kv.key_dim + 15) / 16 * 16;
  const int64_t latent_floats = is_latent ? kv.value_stride : 0;
  return 4 * (most_rows * (key_floats + kv.value_stride + attention_chunk + latent_floats) +
              attention_chunk * (key_floats + kv.value_stride + latent_floats + 16));
}

// What a range of keys gives for one row: the exponent that its sum and values are relative to (in
// powers of 2), its sum, two floats of padding for alignment, and [value_stride] weighted values.
constexpr int partial_head_floats = 4;
constexpr int64_t partial_floats(const KvGeometry& kv) {
  return partial_head_floats + kv.value_stride;
}

// Dots of up to 32 rows of activations at once, with a layout of their own: the codes of 32 columns
// are [tokens][planes][32] in ActivationTile::codes. All null where an instruction set has none.
inline constexpr int max_dot_rows = 32;
struct TileDotKernels {
  int min_tokens;  // fewer are better off with the other kernels
  DotTile dot[dtype_count];
  void (*quantize_row)(const float* x, int64_t columns, const ActivationRows& to);
  // Around a member's dots of so many rows.
  void (*begin)(int rows);
  void (*end)();
};

// A strip's results for some tokens, and what becomes of them.
struct StripResults {
  const float* results;          // [tokens][strip_rows]
  const float* up;               // likewise, of the up strip where there is an activation
  const Activation* activation;  // of both, or nullptr
  const float* bias;             // [strip_rows] that are added then, or nullptr
  int tokens;
  float* out;  // of the first token
  int64_t stride;
  bool accumulate;  // out += instead of out =
};

// What one thread can do at most with an instruction set (machine_probe.h). Each multiplies
// operands at hand `rounds` times and returns the multiply-adds done; null where the instructions
// are none of this set's.
struct PeakKernels {
  int64_t (*f32)(int64_t rounds);
  int64_t (*i8)(int64_t rounds);
  int64_t (*bf16)(int64_t rounds);
  int64_t (*tile_i8)(int64_t rounds);
  int64_t (*tile_bf16)(int64_t rounds);
  // Reads the first `count` floats, but for what is left of the last few hundred; their sum.
  float (*read)(const float* from, int64_t count);
};

struct KernelTable {
  int tile_rows;                                           // at most max_tile_rows
  DotTile dot[2][dtype_count][max_tile_rows + 1];          // [planes - 1][dtype][tokens], quantised
  FloatDotTile float_dot[dtype_count][max_tile_rows + 1];  // f32, f16, bf16
  TileDotKernels tiles;                                    // linear for up to 32 rows at once
  ScaledKernels scaled;                                    // the same for the K formats, less exact
  BytePanelKernels byte_panel;  // linear for many tokens, rounded to int8
  WordPanelKernels word_panel;  // linear for many tokens, rounded to int16
  PanelKernels panel;           // linear for many tokens
  // x[columns] into its place; columns past the end up to a multiple of 256 become zero.
  void (*quantize_row)(const float* x, int64_t columns, const ActivationRows& to);
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t columns, float* out);
  void (*gated_activation)(const float* gate, const float* up, Activation kind, int64_t columns,
                           float* out);
  void (*finish_strip)(const StripResults& of);
  void (*add)(const float* a, const float* b, int64_t columns, float* out);
  void (*scale)(const float* x, float factor, int64_t columns, float* out);
  // Rotates one head in place. cos_sin: [rotary_dim / 2][2], magnitude included.
  void (*rope)(float* head, const float* cos_sin, int rotary_dim, RopePairs pairs);
  // One token of one KV head into its block at `offset` tokens, in the cache's dtype.
  void (*store_kv)(const float* k, const float* v, std::byte* head, int offset,
                   const KvGeometry& kv);
  int attention_rows[dtype_count];  // most rows of a job, by the cache's dtype
  DType mixed_kv_dtype = DType::f16;  // as DeviceInfo
  void (*attention)(const AttentionJob& job);
  // out of `ranges` jobs over the same rows, whose partials lie partial_rows · partial_floats
  // apart.
  void (*merge_attention)(const AttentionJob& job, const float* partials, int ranges);
  LatentKernels latents[2];  // exact; may round to bfloat16
  PeakKernels peaks;
};

const KernelTable& scalar_kernels();
const KernelTable& amx_emulated_kernels();  // tests only
#if defined(__x86_64__)
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
const KernelTable& avx512_vnni_kernels();
const KernelTable& avx512_bf16_kernels();
const KernelTable& amx_kernels();
const KernelTable& amx_emulated_avx512_kernels();  // tests only
#endif

}  // namespace ridge::backend::cpu
