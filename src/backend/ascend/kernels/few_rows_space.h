#pragma once

#include "backend/ascend/kernels/group_scales.h"
#include "backend/ascend/kernels/linear_tiles.h"

// out[m, n] = x[m, k] W[n, k]ᵀ with a quantised W (QuantizedFormat), for few rows. Here reading W is the
// work, so the cube core takes its codes as they are, int4 or int8, and x is what is made to fit: a row
// of x becomes, for each group of k, a float32 scale and integers of 16 bits, and these become digits
// of the codes' own type (base 16 or 256, each from -base / 2 to base / 2 - 1). A matrix of few rows
// leaves most of a fractal's 16 rows idle; the digits fill them.
//
// A group has a scale in W too, so products may be summed within groups only. A fractal of int4 has
// 64 elements of k, which are two groups of 32 or four of 16: each digit has a row for each of them, zeros
// elsewhere. So the cube core gives [digits][m][groups] rows of exact integers for each column of
// fractals, and the vector cores put digits together, multiply by both scales and add up. W's minima
// meet the sum of a group's x.
//
// Against the exact result: x is rounded to 2^-16 of its group's largest value, all else is float32.
namespace ridge::backend::ascend {

inline constexpr uint16_t digits_ready = 1;
inline constexpr uint16_t statistics_ready = 2;
inline constexpr uint16_t products_full = 3;
inline constexpr uint16_t products_taken = 4;

template <typename Code>
struct Digits {
  static constexpr bool is_int4 = AscendC::IsSameType<Code, AscendC::int4b_t>::value;
  static constexpr uint32_t fractal_k = is_int4 ? 64 : 32;
  static constexpr uint32_t count = is_int4 ? 4 : 2;
  static constexpr float base = is_int4 ? 16 : 256;
  // The largest number all of whose digits are base / 2 - 1.
  static constexpr float largest = is_int4 ? 30583 : 32639;
};
// What the cube core's int32 become on their way out: sums of int4 products are at most 32 · 8 · 8, which
// half holds exactly.
template <typename Code>
struct Product {
  using type = int32_t;
};
template <>
struct Product<AscendC::int4b_t> {
  using type = half;
};

// A block's part of the workspace, and what both kinds of core have to agree on.
template <typename Code>
class FewRowsSpace {
 public:
  __aicore__ inline FewRowsSpace(GM_ADDR workspace, const QuantizedLinearTiling& tiling,
                                 uint32_t block)
      : tiling_(tiling),
        base_(workspace + static_cast<uint64_t>(block) *
                              (tiling.digit_bytes + 2 * static_cast<uint64_t>(tiling.statistic_bytes) +
                               static_cast<uint64_t>(tiling.slots) * tiling.slot_bytes)) {
    uint32_t tiles = 0;
    for (LinearTiles tile(tiling.linear, block); !tile.done(); tile.next()) ++tiles;
    loads_ = tiles * ((tiling.linear.k + tiling.chunk - 1) / tiling.chunk);
  }
  // [columns of fractals][digit_rows up to 16][32 bytes].
  __aicore__ inline GM_ADDR digits() const { return base_; }
  // [m][groups of k up to a chunk], float32; of x's scales and of its sums.
  __aicore__ inline GM_ADDR scales() const { return base_ + tiling_.digit_bytes; }
  __aicore__ inline GM_ADDR sums() const { return scales() + tiling_.statistic_bytes; }
  // [digit_rows][chunk / fractal_k · n_tile].
  __aicore__ inline GM_ADDR products(uint32_t load) const {
    return sums() + tiling_.statistic_bytes +
           static_cast<uint64_t>(load % tiling_.slots) * tiling_.slot_bytes;
  }
  __aicore__ inline uint32_t product_pitch() const {
    return tiling_.chunk / Digits<Code>::fractal_k * tiling_.linear.n_tile;
  }
  // Of a chunk.
  __aicore__ inline uint32_t fractals(uint32_t k) const {
    const uint32_t depth = smaller(tiling_.chunk, tiling_.linear.k - k);
    return (depth + Digits<Code>::fractal_k - 1) / Digits<Code>::fractal_k;
  }
  __aicore__ inline uint32_t padded_rows() const { return round_up(tiling_.digit_rows, c0); }
  __aicore__ inline bool waits_for_slot(uint32_t load) const { return load >= tiling_.slots; }
  // Nobody waits for the last slots to be free again.
  __aicore__ inline bool frees_slot(uint32_t load) const { return load + tiling_.slots < loads_; }

 private:
  const QuantizedLinearTiling tiling_;
  GM_ADDR base_;
  uint32_t loads_ = 0;
};

}  // namespace ridge::backend::ascend
