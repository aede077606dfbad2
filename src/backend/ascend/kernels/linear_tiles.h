#pragma once

#include "backend/ascend/kernels/read_tiling.h"
#include "backend/ascend/kernels/tiling_data.h"

// out[m, n] = x[m, k] W[n, k]ᵀ on the cube; sums are float32, values T (half or bfloat16_t), and out T
// too or, as the tiling says, float32. Of int8_t sums and out are int32. Where the rows of W come from is
// the business of `Weights`.
//
// A tile of out needs m_tile rows of x and n_tile rows of W. Both come to L1 in columns of fractals
// (16 rows · 32 bytes), k_l1 elements of k at a time and twice buffered, and from there to L0 by k_l0.
// W needs no transposition: the columns of a fractal in L0B are the rows of W.
namespace ridge::backend::ascend {

inline constexpr uint32_t c0 = 16;            // elements of a fractal's row
inline constexpr uint32_t fractal = c0 * c0;  // elements

// A core's tiles, in the order in which it computes them. `starts` are the first rows of each group,
// [groups + 1], where groups are of rows.
class LinearTiles {
 public:
  __aicore__ inline LinearTiles(const LinearTiling& tiling, uint32_t block,
                                GM_ADDR starts = nullptr)
      : tiling_(tiling), tile_(block) {
    starts_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(starts));
    by_rows_ = tiling.groups > 1 && tiling.grouping == LinearTiling::by_rows;
    enter_group();
    find_group();
  }
  __aicore__ inline bool done() const { return group_ >= tiling_.groups; }
  __aicore__ inline void next() {
    tile_ += AscendC::GetBlockNum();
    find_group();
  }
  __aicore__ inline uint32_t group() const { return group_; }
  // Of x and out.
  __aicore__ inline uint32_t m() const { return first_row_ + m_of_group(); }
  __aicore__ inline uint32_t rows() const {
    return smaller(tiling_.m_tile, rows_of_group_ - m_of_group());
  }
  // Of the group's W.
  __aicore__ inline uint32_t n() const { return tile_ / m_tiles_ * tiling_.n_tile; }
  __aicore__ inline uint32_t columns() const { return smaller(tiling_.n_tile, tiling_.n - n()); }
  // The group's first columns of x and out.
  __aicore__ inline uint32_t x_column() const { return by_rows_ ? 0 : group_ * tiling_.k; }
  __aicore__ inline uint32_t out_column() const { return by_rows_ ? 0 : group_ * tiling_.n; }

 private:
  __aicore__ inline uint32_t m_of_group() const { return tile_ % m_tiles_ * tiling_.m_tile; }
  __aicore__ inline void enter_group() {
    first_row_ = by_rows_ ? starts_.GetValue(group_) : 0;
    rows_of_group_ = by_rows_ ? starts_.GetValue(group_ + 1) - first_row_ : tiling_.m;
    m_tiles_ = (rows_of_group_ + tiling_.m_tile - 1) / tiling_.m_tile;
  }
  __aicore__ inline void find_group() {
    const uint32_t n_tiles = (tiling_.n + tiling_.n_tile - 1) / tiling_.n_tile;
    while (group_ < tiling_.groups && tile_ >= m_tiles_ * n_tiles) {
      tile_ -= m_tiles_ * n_tiles;
      if (++group_ < tiling_.groups) enter_group();
    }
  }

  const LinearTiling& tiling_;
  AscendC::GlobalTensor<int32_t> starts_;
  bool by_rows_ = false;
  uint32_t group_ = 0;
  uint32_t first_row_ = 0;
  uint32_t rows_of_group_ = 0;
  uint32_t m_tiles_ = 0;
  uint32_t tile_;  // within the group
};

// A matrix in global memory into columns of fractals of L1.
__aicore__ inline AscendC::Nd2NzParams to_fractals(uint32_t rows, uint32_t columns,
                                                   uint32_t stride, uint32_t padded_rows) {
  AscendC::Nd2NzParams params;
  params.ndNum = 1;
  params.nValue = rows;
  params.dValue = columns;
  params.srcNdMatrixStride = 0;
  params.srcDValue = stride;
  params.dstNzC0Stride = padded_rows;
  params.dstNzNStride = 1;
  params.dstNzMatrixStride = 0;
  return params;
}

template <typename T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<int8_t> {
  using type = int32_t;
};

// `Weights` fills L1 with [depth up to 16][columns up to 16] of W in columns of fractals:
//   void load(const AscendC::LocalTensor<T>& to, uint32_t group, uint32_t n, uint32_t columns,
//             uint32_t k, uint32_t depth);
// by instructions of MTE2; calls come in the order of LinearTiles, k ascending.
template <typename T, typename Weights>
class Linear {
  using Sum = typename SumOf<T>::type;
  static constexpr uint32_t k0 = 32 / sizeof(T);  // elements of a fractal's row

 public:
  __aicore__ inline Linear(AscendC::TPipe& pipe, const LinearTiling& tiling, Weights& weights)
      : tiling_(tiling), weights_(weights) {
    pipe.InitBuffer(a1_, 2, tiling.m_tile * tiling.k_l1 * sizeof(T));
    pipe.InitBuffer(b1_, 2, tiling.n_tile * tiling.k_l1 * sizeof(T));
    pipe.InitBuffer(a2_, 2, tiling.m_tile * tiling.k_l0 * sizeof(T));
    pipe.InitBuffer(b2_, 2, tiling.n_tile * tiling.k_l0 * sizeof(T));
    pipe.InitBuffer(c_, tiling.accumulators, tiling.m_tile * tiling.n_tile * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR out, GM_ADDR starts = nullptr) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    sums_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ Sum*>(out));
    for (LinearTiles tile(tiling_, AscendC::GetBlockIdx(), starts); !tile.done(); tile.next()) {
      compute_tile(tile);
    }
  }

 private:
  static constexpr uint32_t fractals_at_once = 10;   // fewer need a barrier between sums

  __aicore__ inline void compute_tile(const LinearTiles& tile) {
    AscendC::LocalTensor<Sum> c = c_.template AllocTensor<Sum>();
    for (uint32_t k = 0; k < tiling_.k; k += tiling_.k_l1) {
      const uint32_t depth = smaller(tiling_.k_l1, tiling_.k - k);
      load_x(tile.m(), tile.rows(), tile.x_column() + k, depth);
      AscendC::LocalTensor<T> b = b1_.template AllocTensor<T>();
      weights_.load(b, tile.group(), tile.n(), tile.columns(), k, depth);
      b1_.EnQue(b);
      multiply(c, tile.rows(), tile.columns(), depth, k == 0);
    }
    c_.EnQue(c);
    store(tile.m(), tile.rows(), tile.out_column() + tile.n(), tile.columns());
  }

  __aicore__ inline void load_x(uint32_t m, uint32_t rows, uint32_t k, uint32_t depth) {
    AscendC::LocalTensor<T> a = a1_.template AllocTensor<T>();
    const auto from = x_gm_[static_cast<uint64_t>(m) * tiling_.x_stride + k];
    const auto params = to_fractals(rows, depth, tiling_.x_stride, round_up(rows, c0));
    AscendC::DataCopy(a, from, params);
    // The cube takes a single row for a vector, in another layout; so there are two of it.
    if (rows == 1) AscendC::DataCopy(a[k0], from, params);
    a1_.EnQue(a);
  }

  __aicore__ inline void multiply(const AscendC::LocalTensor<Sum>& c, uint32_t rows,
                                  uint32_t columns, uint32_t depth, bool first) {
    AscendC::LocalTensor<T> a1 = a1_.template DeQue<T>();
    AscendC::LocalTensor<T> b1 = b1_.template DeQue<T>();
    const uint32_t row_fractals = (rows + c0 - 1) / c0;
    const uint32_t column_fractals = (columns + c0 - 1) / c0;
    for (uint32_t k = 0; k < depth; k += tiling_.k_l0) {
      const uint32_t part = smaller(tiling_.k_l0, depth - k);
      const uint32_t k_fractals = (part + k0 - 1) / k0;
      AscendC::LocalTensor<T> a2 = a2_.template AllocTensor<T>();
      for (uint32_t r = 0; r < row_fractals; ++r) {
        AscendC::LoadData(a2[r * k_fractals * c0 * k0], a1,
                          AscendC::LoadData2DParams(k / k0 * row_fractals + r, k_fractals,
                                                    row_fractals, 0, 0, false, 0));
      }
      a2_.EnQue(a2);
      AscendC::LocalTensor<T> b2 = b2_.template AllocTensor<T>();
      AscendC::LoadData(b2, b1,
                        AscendC::LoadData2DParams(k / k0 * column_fractals,
                                                  k_fractals * column_fractals, 1, 0, 0, false,
                                                  0));
      b2_.EnQue(b2);
      a2 = a2_.template DeQue<T>();
      b2 = b2_.template DeQue<T>();
      AscendC::Mmad(c, a2, b2,
                    AscendC::MmadParams(rows == 1 ? 2 : rows, columns, part, 0, false,
                                        first && k == 0));
      if (row_fractals * column_fractals < fractals_at_once) AscendC::PipeBarrier<PIPE_M>();
      a2_.FreeTensor(a2);
      b2_.FreeTensor(b2);
    }
    a1_.FreeTensor(a1);
    b1_.FreeTensor(b1);
  }

  __aicore__ inline void store(uint32_t m, uint32_t rows, uint32_t n, uint32_t columns) {
    AscendC::LocalTensor<Sum> c = c_.template DeQue<Sum>();
    AscendC::FixpipeParamsV220 params;
    params.nSize = columns;
    params.mSize = rows;
    params.srcStride = round_up(rows, c0);
    params.dstStride = tiling_.out_stride;
    const uint64_t at = static_cast<uint64_t>(m) * tiling_.out_stride + n;
    if (AscendC::IsSameType<T, int8_t>::value || tiling_.out_floats) {
      params.quantPre = NoQuant;
      AscendC::Fixpipe<Sum, Sum, AscendC::CFG_ROW_MAJOR>(sums_gm_[at], c, params);
    } else if constexpr (!AscendC::IsSameType<T, int8_t>::value) {
      params.quantPre = AscendC::IsSameType<T, half>::value ? F322F16 : F322BF16;
      AscendC::Fixpipe<T, float, AscendC::CFG_ROW_MAJOR>(out_gm_[at], c, params);
    }
    c_.FreeTensor(c);
  }

  const LinearTiling tiling_;
  Weights& weights_;
  AscendC::GlobalTensor<T> x_gm_, out_gm_;
  AscendC::GlobalTensor<Sum> sums_gm_;  // out where it is of sums
  AscendC::TQue<AscendC::TPosition::A1, 2> a1_;
  AscendC::TQue<AscendC::TPosition::B1, 2> b1_;
  AscendC::TQue<AscendC::TPosition::A2, 2> a2_;
  AscendC::TQue<AscendC::TPosition::B2, 2> b2_;
  AscendC::TQue<AscendC::TPosition::CO1, 2> c_;
};

}  // namespace ridge::backend::ascend
