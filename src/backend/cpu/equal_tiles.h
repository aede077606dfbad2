#pragma once

#include <cstdint>

namespace ridge::backend::cpu {

// Tokens in as few tiles as hold them, each as large as the others: 9 of at most 8 are 5 and 4, not
// 8 and 1.
class EqualTiles {
 public:
  // most: tokens of a tile
  EqualTiles(int tokens, int most) : EqualTiles(tokens, 1, most) {}
  // Each token takes `rows` rows, and a tile holds most_rows of these.
  EqualTiles(int tokens, int rows, int most_rows)
      : tokens_(tokens), count_((tokens * rows + most_rows - 1) / most_rows) {}

  int count() const { return count_; }
  // The first token of a tile; of count(): the number of tokens.
  int first(int tile) const { return static_cast<int>(tile * tokens_ / count_); }
  int tokens(int tile) const { return first(tile + 1) - first(tile); }
  int tile_of(int token) const {
    int tile = static_cast<int>(int64_t{token} * count_ / tokens_);
    while (first(tile) > token) --tile;
    while (first(tile + 1) <= token) ++tile;
    return tile;
  }

 private:
  int64_t tokens_;
  int count_;
};

}  // namespace ridge::backend::cpu
