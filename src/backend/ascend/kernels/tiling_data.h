#pragma once

#include <cstdint>

// What the host tells each kernel: plain structures of 32-bit words that both sides include. The
// host fills them in tiling.cc; a kernel reads its own from global memory (read_tiling.h).
namespace ridge::backend::ascend {

// Sizes and strides are in elements unless a name says otherwise. A stride is the distance between
// rows in global memory.

// Rows of each core: core i has `rows_per_core` of them, from i · rows_per_core on.
struct RmsNormTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t rows_per_core;
  uint32_t rows_per_step;
  uint32_t buffers;  // of each row that comes or goes: 2, or 1 where they do not fit twice
  uint32_t x_stride;
  uint32_t residual_stride;
  uint32_t out_stride;
  float epsilon;
  float inverse_columns;  // 1 / columns
};

struct GatedActivationTiling {
  enum Kind : uint32_t { silu, gelu_tanh, swiglu_oai };

  uint32_t runs;           // rows · groups: each is gate and up of `columns` each
  uint32_t groups;         // runs of a row
  uint32_t columns;
  uint32_t runs_per_core;
  uint32_t runs_per_step;    // more than 1 only where all runs are equally far apart
  uint32_t columns_per_step;
  uint32_t x_stride;
  uint32_t out_stride;
  uint32_t kind;
};

struct AddTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t rows_per_core;
  uint32_t rows_per_step;  // 1 where a step has not all columns
  uint32_t columns_per_step;
  uint32_t a_stride;
  uint32_t b_stride;
  uint32_t out_stride;
};

// out = x · factor (· scales[row]) (+ bias), and zeros behind each row. Units of work are rows_per_step rows of
// columns_per_step columns.
struct ScaleRowsTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t rows_per_step;
  uint32_t columns_per_step;
  uint32_t units_per_core;
  uint32_t x_stride;
  uint32_t out_stride;
  float factor;
  uint32_t has_scales;
  uint32_t has_bias;
  uint32_t padding;  // zeros behind a row of out; not 0 only where a step has all columns
};

struct HalveRowsTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t rows_per_core;
  uint32_t columns_per_step;
  uint32_t x_stride;
  uint32_t out_stride;
};

// The k largest of each row; a core takes every block_dim-th row.
struct TopKTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t k;
  uint32_t columns_per_step;
  uint32_t stride;
};
inline constexpr uint32_t most_top_k = 128;

struct SampleRowsTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t columns_per_step;
  uint32_t stride;
};
// How one of those rows is sampled, as sampling_row of ../layouts.h makes it. 64 bits have their lower half
// first.
struct SamplingRow {
  float temperature;  // 0: the largest
  uint32_t top_k;     // 0: all
  // top-p is mantissa · 2^-shift, the mantissa of 24 bits; 0: all.
  uint32_t top_p_mantissa;
  uint32_t top_p_shift;
  // The least weight that min-p keeps, a whole number, of 2^40 for the best; 0: any.
  float least;
  uint32_t least_weight[2];
  uint32_t seed[2];
  uint32_t choice;
  uint32_t token[2];
};

// out = sums · row's scale · column's scale. Units of work are rows_per_step rows of columns_per_step
// columns; a core takes every block_dim-th.
struct ScaleProductsTiling {
  uint32_t rows;
  uint32_t experts;  // 1: column scales of one weight, for all rows
  uint32_t columns;
  uint32_t rows_per_step;
  uint32_t columns_per_step;
  uint32_t sums_stride;
  uint32_t out_stride;
};

struct RouteTiling {
  enum Scoring : uint32_t { softmax, sigmoid };

  uint32_t rows;
  uint32_t experts;
  uint32_t top_k;
  uint32_t groups;
  uint32_t top_groups;
  uint32_t scoring;
  uint32_t normalizes;
  uint32_t has_bias;
  float scale;
  uint32_t logits_stride;
  uint32_t ids_stride;
  uint32_t weights_stride;
};

struct SortExpertsTiling {
  uint32_t experts;
  uint32_t choices;
  uint32_t choices_of_row;  // of x: 1 where each choice has a row of its own
};
inline constexpr uint32_t sort_experts_step = 2048;
inline constexpr uint32_t most_sorted_choices = 40000;

// Units of work are columns_per_step columns of a row; a core takes every block_dim-th.
struct CombineExpertsTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t top_k;
  uint32_t columns_per_step;
  uint32_t weights_stride;
  uint32_t y_stride;
  uint32_t out_stride;
};

// out[t] = table[ids[t]], as bytes.
struct EmbedTiling {
  uint32_t tokens;
  uint32_t row_bytes;
  uint32_t table_stride_bytes;
  uint32_t tokens_per_core;
  uint32_t bytes_per_step;
  uint32_t out_stride_bytes;
};

// The same of a quantised table, as float32. A row of the table has `columns` codes, at `scales_at` a
// float32 for each group and, where there are minima, as many behind `padded_groups`.
struct EmbedQuantizedTiling {
  uint32_t tokens;
  uint32_t columns;
  uint32_t group;
  uint32_t has_minimum;
  uint32_t padded_groups;
  uint32_t scales_at;
  uint32_t row_bytes;
  uint32_t columns_per_step;
  uint32_t out_stride;
};

struct QuantizeRowsTiling {
  uint32_t rows;
  uint32_t columns;
  uint32_t rows_per_core;
  uint32_t rows_per_step;  // 1 where a step has not all columns
  uint32_t columns_per_step;
  uint32_t x_stride;
  uint32_t codes_stride;
};

// Units of work are heads_per_step heads of q, of k (which are rotated) or of v of one token.
struct RopeStoreKvTiling {
  uint32_t tokens;
  uint32_t heads;       // of q; 0: there is no q
  uint32_t kv_heads;    // of k and v; 0: there are none
  uint32_t head_dim;    // of q and k
  uint32_t value_dim;   // of v
  uint32_t rotary_dim;  // 0: nothing is rotated
  uint32_t heads_per_step;
  uint32_t units_per_core;
  uint32_t q_stride;
  uint32_t k_stride;
  uint32_t v_stride;
  uint32_t stores;        // 1: k and v go to the cache
  uint32_t block_tokens;  // of the cache
  uint32_t k_block_stride;  // between blocks of the cache, in elements
  uint32_t k_token_stride;  // between tokens of a block
  uint32_t v_block_stride;
  uint32_t v_token_stride;
};

// out[m, n] = x[m, k] W[n, k]ᵀ by tiles; a core takes every block_dim-th of them, m first. With several
// groups there are as many W, one after the other, and each group multiplies its part of x: some
// of its rows (experts; the kernel is given where each begins), or k of its columns and gives n of out
// (heads).
struct LinearTiling {
  enum Grouping : uint32_t { by_rows, by_columns };

  enum Layout : uint32_t {
    nd,  // rows of W as they are
    nz,  // [up(k, 16)][n_padded][16]: columns of fractals, behind n and k zeros
  };

  uint32_t m;
  uint32_t n;
  uint32_t k;
  uint32_t m_tile;
  uint32_t n_tile;
  uint32_t k_l1;  // of one load to L1
  uint32_t k_l0;  // of one product
  uint32_t accumulators;  // buffers of L0C
  uint32_t x_stride;
  uint32_t out_stride;
  uint32_t layout;
  uint32_t n_padded;    // nz: n up to a multiple of 16
  uint32_t out_floats;  // 1: out is float32, whatever the type of x
  uint32_t groups;      // 1: none
  uint32_t grouping;
};

// How a quantised W is stored: value = d · sc · (code + offset) + dm · mc, for each group of k. Codes are
// [up(k, 256 / code_bits)][n_padded][256 / code_bits] (a fractal's row is 32 bytes), zeros behind n and
// k. Scales are, one after the other:
//   d   half [up(k) / span][n_padded]
//   dm  half, the same, with has_minimum
//   sc  int8 [up(k) / group][n_padded], with has_scales; else they are 1 and span is group
//   mc  int8, the same, with both
// n_padded is a multiple of 64, up(k) of 256 / code_bits.
struct QuantizedFormat {
  uint32_t code_bits;  // 4: int4b_t, or 8: int8_t
  uint32_t group;      // 16 or 32
  uint32_t span;       // 256 where there are sc, else group
  uint32_t has_scales;
  uint32_t has_minimum;
  float offset;        // 0 without has_minimum
};

// With W quantised; `slots` are what a block's cube and vector cores pass each other in the workspace.
// For many rows they hold n_tile · k_l1 halves of W. For few rows, whose products for each group
// are scaled afterwards, a block has digit_bytes for the digits of x, two times statistic_bytes for
// scales and sums of its groups, and slots of slot_bytes for products.
struct QuantizedLinearTiling {
  LinearTiling linear;
  QuantizedFormat format;
  uint32_t slots;
  // For few rows:
  uint32_t chunk;           // of k, in a slot; 512 or, with groups of 16, 256
  uint32_t piece;           // of x, whose digits are made at a time
  uint32_t digit_rows;      // digits · m · groups of a fractal
  uint32_t step_fractals;   // columns of fractals that the cube core multiplies at a time
  uint32_t digit_bytes;
  uint32_t statistic_bytes;
  uint32_t slot_bytes;
};
inline constexpr uint32_t quantized_columns = 64;  // tiles are multiples

// Of ridge_attention_* and ridge_mla_attention_*.
inline constexpr uint32_t attention_rows = 64;        // query rows of a unit, at most
inline constexpr uint32_t attention_value_dim = 512;  // at most
inline constexpr uint32_t attention_key_dim = 576;    // of all parts of a key, at most
inline constexpr uint32_t attention_key_tile = 128;   // keys
inline constexpr uint32_t attention_chunk = 128;      // columns of keys or values at a time
inline constexpr uint32_t attention_slots = 2;        // of scores, probabilities and products

// Where one part of queries and keys is: heads have one, those of MLA a latent and a rotary part.
struct AttentionKeys {
  uint32_t dim;       // a multiple of 16; 0: there is no such part
  uint32_t q_stride;  // between tokens; heads lie side by side
  uint32_t block_stride;
  uint32_t token_stride;
};

// Units of work are q_tokens tokens of a sequence for heads_per_unit query heads of one KV head; their
// rows (token by token, head by head) meet its keys, attention_key_tile at a time. A core takes every
// block_dim-th unit.
struct AttentionTiling {
  uint32_t sequences;
  uint32_t kv_heads;
  uint32_t group;           // query heads of a KV head
  uint32_t heads_per_unit;
  uint32_t q_tokens;
  AttentionKeys keys[2];
  uint32_t value_dim;       // a multiple of 16
  uint32_t value_block_stride;
  uint32_t value_token_stride;
  uint32_t out_stride;
  uint32_t blocks_per_sequence;  // of the block tables
  uint32_t block_tokens;
  uint32_t window;    // keys that a token sees, itself included; 0: all
  uint32_t has_sinks;
  float scale;
  float soft_cap;     // 0: none
};

}  // namespace ridge::backend::ascend
