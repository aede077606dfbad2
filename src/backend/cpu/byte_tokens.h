#pragma once

#include "backend/cpu/byte_panel.h"

namespace ridge::backend::cpu {

// Tokens' activations for byte panels, in tiles as equal as can be, over memory that somebody
// lends.
class ByteTokens {
 public:
  ByteTokens(std::byte* memory, int tokens, int64_t columns)
      : tokens_(tokens),
        groups_(groups_of(columns)),
        tiles_((tokens + byte_panel_rows - 1) / byte_panel_rows) {
    const int64_t rows = groups_ * tokens;
    auto* codes = reinterpret_cast<int8_t*>(memory);
    auto* code_sums = reinterpret_cast<int32_t*>(codes + 32 * rows);
    auto* shifts = code_sums + 2 * rows;
    auto* sums = reinterpret_cast<float*>(shifts + rows);
    auto* steps = sums + rows;
    auto* pair_sums = reinterpret_cast<int16_t*>(steps + rows / 8);
    all_ = {codes, code_sums, shifts, sums, pair_sums, steps, tokens};
  }

  static size_t bytes(int tokens, int64_t columns) {
    return static_cast<size_t>(groups_of(columns) * tokens) * (32 + 8 + 4 + 4 + 2) +
           static_cast<size_t>(groups_of(columns) / 8 * tokens) * 4;
  }

  int tiles() const { return tiles_; }
  int first(int tile) const {
    return static_cast<int>(static_cast<int64_t>(tile) * tokens_ / tiles_);
  }
  int count(int tile) const { return first(tile + 1) - first(tile); }
  ByteTile tile(int index) const {
    const int64_t rows = first(index) * groups_;
    return {all_.codes + 32 * rows, all_.code_sums + 2 * rows, all_.shifts + rows, all_.sums + rows,
            all_.pair_sums + rows,  all_.steps + rows / 8,     count(index)};
  }
  // Quantises x[columns] as one of the tokens.
  void quantize(const BytePanelKernels& kernels, int token, const float* x, int64_t columns) const {
    int index = static_cast<int>(static_cast<int64_t>(token) * tiles_ / tokens_);
    while (first(index) > token) --index;
    while (first(index + 1) <= token) ++index;
    kernels.quantize(x, columns, tile(index), token - first(index));
  }

 private:
  // K is padded to a multiple of 256.
  static int64_t groups_of(int64_t columns) { return (columns + 255) / 256 * 8; }

  int64_t tokens_;
  int64_t groups_;  // of 32 columns
  int tiles_;
  ByteTile all_;
};

}  // namespace ridge::backend::cpu
