#pragma once

#include "backend/cpu/equal_tiles.h"
#include "backend/cpu/kernels.h"

namespace ridge::backend::cpu {

// Tokens' activations quantised in tiles (see ActivationTile), over memory that somebody lends.
class QuantizedTokens {
 public:
  QuantizedTokens(std::byte* memory, int tokens, int64_t columns, int planes, int tile_rows)
      : groups_(groups_of(columns)), planes_(planes), tiles_(tokens, planes, tile_rows) {
    const int64_t groups = groups_ * tokens;
    codes_ = reinterpret_cast<int8_t*>(memory);
    scales_ = reinterpret_cast<float*>(codes_ + groups * planes * activation_group);
    code_sums_ = reinterpret_cast<int32_t*>(scales_ + groups);
    group_sums_ = reinterpret_cast<float*>(code_sums_ + groups * 2);
    half_sums_ = group_sums_ + groups;
  }

  // Codes, a scale, and sums of 32 and 16 columns' codes and values for each group.
  static size_t bytes(int tokens, int64_t columns, int planes) {
    const int64_t group_bytes = planes * activation_group + 24;
    return static_cast<size_t>(groups_of(columns) * tokens * group_bytes + 64);
  }

  int tiles() const { return tiles_.count(); }
  int64_t groups() const { return groups_; }  // of 32 columns, with the padding
  int first(int tile) const { return tiles_.first(tile); }
  ActivationTile tile(int index) const {
    const int64_t at = first(index) * groups_;
    return {codes_ + at * planes_ * activation_group,
            scales_ + at,
            code_sums_ + at * 2,
            group_sums_ + at,
            half_sums_ + at * 2,
            tiles_.tokens(index),
            planes_};
  }
  ActivationRows rows(int token) const {
    const int index = tiles_.tile_of(token);
    const ActivationTile t = tile(index);
    return {const_cast<int8_t*>(t.codes),
            const_cast<float*>(t.scales),
            const_cast<int32_t*>(t.code_sums),
            const_cast<float*>(t.group_sums),
            const_cast<float*>(t.half_sums),
            t.tokens,
            token - first(index),
            planes_};
  }

 private:
  // K is padded to a multiple of 256.
  static int64_t groups_of(int64_t columns) {
    return (columns + 255) / 256 * 256 / activation_group;
  }

  int64_t groups_;
  int planes_;
  EqualTiles tiles_;
  int8_t* codes_;
  float* scales_;
  int32_t* code_sums_;
  float* group_sums_;
  float* half_sums_;
};

}  // namespace ridge::backend::cpu
