#pragma once

#include <span>

#include "backend/cpu/byte_panel.h"
#include "backend/cpu/equal_tiles.h"

namespace ridge::backend::cpu {

// Tokens' activations for byte panels, in tiles, over memory that somebody lends.
class ByteTokens {
 public:
  ByteTokens(std::byte* memory, int tokens, int64_t columns)
      : columns_(columns), tiles_(tokens, byte_panel_rows) {
    const int64_t rows = columns / 32 * tokens;
    all_.codes = reinterpret_cast<int8_t*>(memory);
    all_.code_sums = reinterpret_cast<int32_t*>(all_.codes + 32 * rows);
    all_.shifts = all_.code_sums + 2 * rows;
    all_.steps = reinterpret_cast<float*>(all_.shifts + rows);
    all_.pair_sums = reinterpret_cast<int16_t*>(all_.steps + rows / 8);
  }

  static size_t bytes(int tokens, int64_t columns) {
    const auto rows = static_cast<size_t>(columns / 32 * tokens);
    return rows * (32 + 8 + 4 + 2) + rows / 8 * 4;
  }

  int tiles() const { return tiles_.count(); }
  int first(int tile) const { return tiles_.first(tile); }
  int count(int tile) const { return tiles_.tokens(tile); }
  ByteTile tile(int index) const {
    const int64_t rows = first(index) * (columns_ / 32);
    return {all_.codes + 32 * rows, all_.code_sums + 2 * rows, all_.shifts + rows,
            all_.pair_sums + rows,  all_.steps + rows / 8,     count(index)};
  }
  // Tiles [first, last), at most byte_panel_tiles, from a column on that is the first of 256.
  std::span<const ByteTile> tiles(int first, int last, int64_t column,
                                  ByteTile (&memory)[byte_panel_tiles]) const {
    for (int i = first; i < last; ++i) memory[i - first] = tile(i).from_column(column);
    return {memory, static_cast<size_t>(last - first)};
  }
  // Quantises x[columns] as one of the tokens.
  void quantize(const BytePanelKernels& kernels, int token, const float* x) const {
    const int index = tiles_.tile_of(token);
    kernels.quantize(x, columns_, tile(index), token - first(index));
  }

 private:
  int64_t columns_;
  EqualTiles tiles_;
  ByteTile all_{};
};

}  // namespace ridge::backend::cpu
