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

// One step's activations, packed. The last block may have fewer tokens than the others; what stands
// in its other rows only reaches sums that nobody reads.
struct PackedTokens {
  bf16_bits* values;  // [blocks][columns / 32][block_tokens][32]
  int rows;
  int64_t columns;
  int blocks = (rows + panel_token_block - 1) / panel_token_block;
  // As equal as can be: 33 tokens are 3 blocks of 11.
  int block_tokens = (rows + blocks - 1) / blocks;
  int64_t block_stride = columns * block_tokens;

  int in_block(int block) const { return std::min(block_tokens, rows - block * block_tokens); }
  bf16_bits* at(int block, int64_t column) const {
    return values + block * block_stride + column * block_tokens;
  }
};

}  // namespace ridge::backend::cpu
