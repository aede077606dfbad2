#pragma once

#include <algorithm>

#include "backend/cpu/panel.h"
#include "backend/cpu/tile_format.h"

namespace ridge::backend::cpu {

// Blocks of tokens that share one expansion of a panel: their sums must stay in the second-level
// cache.
inline constexpr int panel_chunk_blocks = 32;

// Sums of two strips and one block of tokens.
constexpr int64_t panel_sum_floats(int block_tokens) { return 2LL * strip_rows * block_tokens; }

// One step's activations, packed, a slice of a panel's columns after the other: all that meets one
// panel lies together. The last block may have fewer tokens than the others; what stands in its other
// rows only reaches sums that nobody reads.
struct PackedTokens {
  bf16_bits* values;  // [slices][blocks][panel_columns / 32][parts][block_tokens][32]
  int rows;
  int64_t columns;  // panel_padded
  int parts;
  int blocks = (rows + panel_token_block - 1) / panel_token_block;
  // As equal as can be: 33 tokens are 3 blocks of 11.
  int block_tokens = (rows + blocks - 1) / blocks;
  int64_t block_stride = static_cast<int64_t>(panel_columns(parts)) * parts * block_tokens;

  // Elements of `values` for so many rows, however they are cut into blocks.
  static int64_t elements(int rows, int64_t columns, int parts) {
    const int64_t slices = (columns + panel_columns(parts) - 1) / panel_columns(parts);
    // Blocks are filled up to be equal: a seventeenth row for 16.
    return (rows + rows / panel_token_block + 1) * slices * panel_columns(parts) * parts;
  }

  int in_block(int block) const { return std::min(block_tokens, rows - block * block_tokens); }
  // first_column: of a slice
  bf16_bits* at(int block, int64_t first_column) const {
    return values + (first_column / panel_columns(parts) * blocks + block) * block_stride;
  }
  // The place of a block's first token for columns from a multiple of 16 on; those of its other tokens lie
  // panel_group elements further each.
  bf16_bits* of_columns(int block, int64_t column) const {
    const int64_t slice = column / panel_columns(parts) * panel_columns(parts);
    const int64_t group = (column - slice) / panel_group;
    return at(block, slice) + group * parts * block_tokens * panel_group + column % panel_group;
  }
  // Packs a token's x[real_columns] into its place.
  void pack(const PanelKernels& kernels, int row, const float* x, int64_t real_columns) const {
    for (int64_t first = 0; first < real_columns; first += panel_columns(parts)) {
      kernels.pack[parts - 1](x + first, std::min<int64_t>(panel_columns(parts), real_columns - first),
                              block_tokens,
                              at(row / block_tokens, first) + row % block_tokens * panel_group);
    }
  }
};

}  // namespace ridge::backend::cpu
