#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/ops.h"
#include "tensor/dtype.h"

// linear for many tokens: 32 rows of the weight are expanded to bfloat16 once, a block of columns
// at a time, and meet every token there is.
//
//   a strip's panel: 16 rows, scales folded in      packed tokens: blocks of up to 16 tokens
//   ┌──────────────────────────────────────┐        ┌───────────────────────────────────────┐
//   │ columns 0, 2 of rows 0 … 15: 64 bytes│        │ columns 0 … 31 of token 0: 64 bytes   │
//   │ columns 1, 3 of rows 0 … 15          │        │ columns 0 … 31 of token 1 …           │
//   │ … 16 lines for 32 columns            │        │ … a line for each token of the block  │
//   │ [the rests of these 32 columns]      │        │ [the rests of these 32 columns]       │
//   │ columns 32, 34 …                     │        │ columns 32 … 63 of token 0 …          │
//   └──────────────────────────────────────┘        └───────────────────────────────────────┘
//
// The middle two of each four columns change places, in tokens too (0, 2, 1, 3), as a lane's four
// codes come apart so. 32 columns of a panel and of a block of tokens are the two operands of AMX's tdpbf16ps as they
// stand. Both sides are rounded to the nearest bfloat16, sums are float32.
//   one part:  errors are near 2.3e-3 of the output's size
//   two parts: what rounding leaves is rounded to bfloat16 in turn, and three products are added up,
//              all but that of the two rests: errors are near 5e-6, below those of two int8 planes
namespace ridge::backend::cpu {

using bf16_bits = uint16_t;

inline constexpr int panel_group = 32;        // columns side by side in a packed token
inline constexpr int panel_token_block = 16;  // most tokens of a block
inline constexpr int most_panel_parts = 2;
// The panel of two strips is 16 KiB then: with as much of a pair of blocks of tokens it stays in the
// first-level cache.
constexpr int panel_columns(int parts) { return 256 / parts; }

constexpr int64_t panel_padded(int64_t columns) {
  return (columns + panel_group - 1) / panel_group * panel_group;
}
// Elements of one strip's panel.
constexpr int64_t panel_elements(int64_t columns, int parts) { return columns * 16 * parts; }

// Columns [first, first + columns) of a strip (tile_format.h; plain dtypes as [K][16]) into
// panel[columns / 32][parts][16][16 rows][2]. first, columns: multiples of 32. Of a plain
// dtype, columns from strip_columns on become zero.
//   ahead: so many bytes further on will be read soon, and are to be fetched meanwhile; or 0
using ExpandPanel = void (*)(const std::byte* strip, int64_t strip_columns, int64_t first,
                             int64_t columns, int64_t ahead, bf16_bits* panel);

// x[columns] of one token to its place in a block of `block_tokens`; the group's other columns
// become zero.
//   to: the token's first 32 columns; each next part, and after the last one the next 32, lie
//       block_tokens · 32 elements further
using PackToken = void (*)(const float* x, int64_t columns, int block_tokens, bf16_bits* to);

// act(gate) · up of a strip, [tokens][16 rows] each, into a block of tokens packed in one part.
//   to: the first token's place for these 16 columns
using PackGated = void (*)(const float* gate, const float* up, Activation kind, int tokens,
                           bf16_bits* to);

// sums = panels × tokens, or sums += where `accumulate`.
struct PanelProduct {
  const bf16_bits* panels;  // [strips], panel_stride elements apart
  int64_t panel_stride;
  int strips;               // 1 or 2
  int64_t columns;          // a multiple of 32
  const bf16_bits* tokens;  // of the first block, from the panel's first column on
  int64_t block_stride;     // elements between blocks of tokens
  int blocks;
  int block_tokens;  // of each block, as in begin_products
  int parts;
  bool accumulate;
  float* sums;  // [blocks][strips][block_tokens][16 rows], 64-byte aligned
  // What the second-level cache should fetch meanwhile: so many lines for each 32 columns of each two
  // blocks.
  const std::byte* fetch;
  int fetch_lines;
};

// What an instruction set with bfloat16 products provides; `product` is null where there are none.
struct PanelKernels {
  // By the number of parts less one.
  int min_tokens[most_panel_parts];  // fewer are better off with the other kernels
  ExpandPanel expand[most_panel_parts][dtype_count];
  PackToken pack[most_panel_parts];
  PackGated pack_gated;
  // Around a member's products of one step; null where a product needs nothing of the thread.
  void (*begin_products)(int block_tokens);
  void (*end_products)();
  void (*product)(const PanelProduct& job);
};

}  // namespace ridge::backend::cpu
