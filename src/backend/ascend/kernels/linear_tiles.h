#pragma once

#include "backend/ascend/kernels/read_tiling.h"
#include "backend/ascend/kernels/tiling_data.h"

// out[m, n] = x[m, k] W[n, k]ᵀ on the cube; sums are float32, values T (half or bfloat16_t), and out T
// too or, as the tiling says, float32. Where the rows of W come from is the business of `Weights`.
//
// A tile of out needs m_tile rows of x and n_tile rows of W. Both come to L1 in columns of fractals
// (16 rows · 32 bytes), k_l1 elements of k at a time and twice buffered, and from there to L0 by k_l0.
// W needs no transposition: the columns of a fractal in L0B are the rows of W.
namespace ridge::backend::ascend {

inline constexpr uint32_t c0 = 16;            // elements of a fractal's row
inline constexpr uint32_t fractal = c0 * c0;  // elements

// A core's tiles, in the order in which it computes them.
class LinearTiles {
 public:
  __aicore__ inline LinearTiles(const LinearTiling& tiling, uint32_t block)
      : m_tiles_((tiling.m + tiling.m_tile - 1) / tiling.m_tile),
        tiles_(m_tiles_ * ((tiling.n + tiling.n_tile - 1) / tiling.n_tile)),
        tiling_(tiling),
        tile_(block) {}
  __aicore__ inline bool done() const { return tile_ >= tiles_; }
  __aicore__ inline void next() { tile_ += AscendC::GetBlockNum(); }
  __aicore__ inline uint32_t m() const { return tile_ % m_tiles_ * tiling_.m_tile; }
  __aicore__ inline uint32_t n() const { return tile_ / m_tiles_ * tiling_.n_tile; }
  __aicore__ inline uint32_t rows() const { return smaller(tiling_.m_tile, tiling_.m - m()); }
  __aicore__ inline uint32_t columns() const { return smaller(tiling_.n_tile, tiling_.n - n()); }

 private:
  const uint32_t m_tiles_;
  const uint32_t tiles_;
  const LinearTiling& tiling_;
  uint32_t tile_;
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

// `Weights` fills L1 with [depth up to 16][columns up to 16] of W in columns of fractals:
//   void load(const AscendC::LocalTensor<T>& to, uint32_t n, uint32_t columns, uint32_t k,
//             uint32_t depth);
// by instructions of MTE2; calls come in the order of LinearTiles, k ascending.
template <typename T, typename Weights>
class Linear {
 public:
  __aicore__ inline Linear(AscendC::TPipe& pipe, const LinearTiling& tiling, Weights& weights)
      : tiling_(tiling), weights_(weights) {
    pipe.InitBuffer(a1_, 2, tiling.m_tile * tiling.k_l1 * sizeof(T));
    pipe.InitBuffer(b1_, 2, tiling.n_tile * tiling.k_l1 * sizeof(T));
    pipe.InitBuffer(a2_, 2, tiling.m_tile * tiling.k_l0 * sizeof(T));
    pipe.InitBuffer(b2_, 2, tiling.n_tile * tiling.k_l0 * sizeof(T));
    pipe.InitBuffer(c_, tiling.accumulators, tiling.m_tile * tiling.n_tile * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR out) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    sums_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out));
    for (LinearTiles tile(tiling_, AscendC::GetBlockIdx()); !tile.done(); tile.next()) {
      compute_tile(tile.m(), tile.rows(), tile.n(), tile.columns());
    }
  }

 private:
  static constexpr uint32_t fractals_at_once = 10;   // fewer need a barrier between sums

  __aicore__ inline void compute_tile(uint32_t m, uint32_t rows, uint32_t n, uint32_t columns) {
    AscendC::LocalTensor<float> c = c_.template AllocTensor<float>();
    for (uint32_t k = 0; k < tiling_.k; k += tiling_.k_l1) {
      const uint32_t depth = smaller(tiling_.k_l1, tiling_.k - k);
      load_x(m, rows, k, depth);
      AscendC::LocalTensor<T> b = b1_.template AllocTensor<T>();
      weights_.load(b, n, columns, k, depth);
      b1_.EnQue(b);
      multiply(c, rows, columns, depth, k == 0);
    }
    c_.EnQue(c);
    store(m, rows, n, columns);
  }

  __aicore__ inline void load_x(uint32_t m, uint32_t rows, uint32_t k, uint32_t depth) {
    AscendC::LocalTensor<T> a = a1_.template AllocTensor<T>();
    const auto from = x_gm_[static_cast<uint64_t>(m) * tiling_.x_stride + k];
    const auto params = to_fractals(rows, depth, tiling_.x_stride, round_up(rows, c0));
    AscendC::DataCopy(a, from, params);
    // The cube takes a single row for a vector, in another layout; so there are two of it.
    if (rows == 1) AscendC::DataCopy(a[c0], from, params);
    a1_.EnQue(a);
  }

  __aicore__ inline void multiply(const AscendC::LocalTensor<float>& c, uint32_t rows,
                                  uint32_t columns, uint32_t depth, bool first) {
    AscendC::LocalTensor<T> a1 = a1_.template DeQue<T>();
    AscendC::LocalTensor<T> b1 = b1_.template DeQue<T>();
    const uint32_t row_fractals = (rows + c0 - 1) / c0;
    const uint32_t column_fractals = (columns + c0 - 1) / c0;
    for (uint32_t k = 0; k < depth; k += tiling_.k_l0) {
      const uint32_t part = smaller(tiling_.k_l0, depth - k);
      const uint32_t k_fractals = (part + c0 - 1) / c0;
      AscendC::LocalTensor<T> a2 = a2_.template AllocTensor<T>();
      for (uint32_t r = 0; r < row_fractals; ++r) {
        AscendC::LoadData(a2[r * k_fractals * fractal], a1,
                          AscendC::LoadData2DParams(k / c0 * row_fractals + r, k_fractals,
                                                    row_fractals, 0, 0, false, 0));
      }
      a2_.EnQue(a2);
      AscendC::LocalTensor<T> b2 = b2_.template AllocTensor<T>();
      AscendC::LoadData(b2, b1,
                        AscendC::LoadData2DParams(k / c0 * column_fractals,
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
    AscendC::LocalTensor<float> c = c_.template DeQue<float>();
    AscendC::FixpipeParamsV220 params;
    params.nSize = columns;
    params.mSize = rows;
    params.srcStride = round_up(rows, c0);
    params.dstStride = tiling_.out_stride;
    const uint64_t at = static_cast<uint64_t>(m) * tiling_.out_stride + n;
    if (tiling_.out_floats) {
      params.quantPre = NoQuant;
      AscendC::Fixpipe<float, float, AscendC::CFG_ROW_MAJOR>(sums_gm_[at], c, params);
    } else {
      params.quantPre = AscendC::IsSameType<T, half>::value ? F322F16 : F322BF16;
      AscendC::Fixpipe<T, float, AscendC::CFG_ROW_MAJOR>(out_gm_[at], c, params);
    }
    c_.FreeTensor(c);
  }

  const LinearTiling tiling_;
  Weights& weights_;
  AscendC::GlobalTensor<T> x_gm_, out_gm_;
  AscendC::GlobalTensor<float> sums_gm_;  // out where it is float32
  AscendC::TQue<AscendC::TPosition::A1, 2> a1_;
  AscendC::TQue<AscendC::TPosition::B1, 2> b1_;
  AscendC::TQue<AscendC::TPosition::A2, 2> a2_;
  AscendC::TQue<AscendC::TPosition::B2, 2> b2_;
  AscendC::TQue<AscendC::TPosition::CO1, 2> c_;
};

}  // namespace ridge::backend::ascend
