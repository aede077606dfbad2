#pragma once

#include <algorithm>

namespace ridge::backend::cpu {

// Tokens in as few tiles as hold them, each as large as the others or smaller by one: 9 of at most
// 8 are 5 and 4, not 8 and 1. No divisions where tiles are walked over: with few columns these
// would take longer than some of a tile's products.
class EqualTiles {
 public:
  // most: tokens of a tile
  EqualTiles(int tokens, int most) : EqualTiles(tokens, 1, most) {}
  // Each token takes `rows` rows, and a tile holds most_rows of these.
  EqualTiles(int tokens, int rows, int most_rows)
      : count_((tokens * rows + most_rows - 1) / most_rows),
        small_(tokens / std::max(count_, 1)),
        larger_(tokens - count_ * small_) {}

  int count() const { return count_; }
  // The first token of a tile; of count(): the number of tokens.
  int first(int tile) const { return tile * small_ + std::min(tile, larger_); }
  int tokens(int tile) const { return small_ + (tile < larger_ ? 1 : 0); }
  int tile_of(int token) const {
    const int in_larger = larger_ * (small_ + 1);
    return token < in_larger ? token / (small_ + 1) : larger_ + (token - in_larger) / small_;
  }

 private:
  int count_;
  int small_;   // tokens of a tile, least
  int larger_;  // tiles that have one more, the first ones
};

}  // namespace ridge::backend::cpu
