#pragma once

#include <span>

#include "backend/cpu/equal_tiles.h"
#include "backend/cpu/word_panel.h"

namespace ridge::backend::cpu {

// Tokens' activations for word panels, in tiles, over memory that somebody lends.
class WordTokens {
 public:
  WordTokens(std::byte* memory, int tokens, int64_t columns)
      : columns_(columns), groups_(groups_of(columns)), tiles_(tokens, word_panel_rows) {
    const int64_t rows = groups_ * tokens;
    all_.codes = reinterpret_cast<int16_t*>(memory);
    all_.products = reinterpret_cast<int32_t*>(all_.codes + word_panel_group * rows);
    all_.half_products = all_.products + rows;
    all_.scales = reinterpret_cast<float*>(all_.half_products + rows);
    all_.sums = all_.scales + rows;
  }

  static size_t bytes(int tokens, int64_t columns) {
    return static_cast<size_t>(groups_of(columns) * tokens * (2 * word_panel_group + 16));
  }

  int tiles() const { return tiles_.count(); }
  int first(int tile) const { return tiles_.first(tile); }
  int count(int tile) const { return tiles_.tokens(tile); }
  WordTile tile(int index) const {
    const int64_t rows = first(index) * groups_;
    return {all_.codes + word_panel_group * rows,
            all_.products + rows,
            all_.half_products + rows,
            all_.scales + rows,
            all_.sums + rows,
            count(index)};
  }
  // Tiles [first, last), at most word_panel_tiles, from a column on that is the first of 32.
  std::span<const WordTile> tiles(int first, int last, int64_t column,
                                  WordTile (&memory)[word_panel_tiles]) const {
    for (int i = first; i < last; ++i) memory[i - first] = tile(i).from_column(column);
    return {memory, static_cast<size_t>(last - first)};
  }
  // Quantises x[columns] as one of the tokens.
  void quantize(const WordPanelKernels& kernels, int token, const float* x) const {
    const int index = tiles_.tile_of(token);
    kernels.quantize(x, columns_, tile(index), token - first(index));
  }

 private:
  // K is padded to whole units of tile_format.h.
  static int64_t groups_of(int64_t columns) { return (columns + 63) / 64 * 2; }

  int64_t columns_;
  int64_t groups_;
  EqualTiles tiles_;
  WordTile all_{};
};

}  // namespace ridge::backend::cpu
