#pragma once

#include "backend/ascend/kernels/few_rows_space.h"

// What the cube core of a block does for ridge_linear_*_few_rows: codes by digits.
namespace ridge::backend::ascend {

template <typename Code>
class FewRowsCube {
  using D = Digits<Code>;
  using P = typename Product<Code>::type;

 public:
  __aicore__ inline FewRowsCube(AscendC::TPipe& pipe, const QuantizedLinearTiling& tiling,
                                GM_ADDR workspace)
      : tiling_(tiling), space_(workspace, tiling, AscendC::GetBlockIdx()) {
    const uint32_t rows = space_.padded_rows() * fractal_row_bytes;
    const uint32_t columns = tiling.linear.n_tile * fractal_row_bytes;
    pipe.InitBuffer(a1_, 2, tiling.chunk / D::fractal_k * rows);
    pipe.InitBuffer(b1_, 2, tiling.chunk / D::fractal_k * columns);
    pipe.InitBuffer(a2_, 2, tiling.step_fractals * rows);
    pipe.InitBuffer(b2_, 2, tiling.step_fractals * columns);
    pipe.InitBuffer(c_, 2,
                    tiling.step_fractals * space_.padded_rows() * tiling.linear.n_tile *
                        sizeof(int32_t));
  }

  __aicore__ inline void run(GM_ADDR codes) {
    codes_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int8_t*>(codes));
    digits_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int8_t*>(space_.digits()));
    uint32_t load = 0;
    for (LinearTiles tile(tiling_.linear, AscendC::GetBlockIdx()); !tile.done(); tile.next()) {
      const uint32_t columns = round_up(tile.columns(), quantized_columns);
      for (uint32_t k = 0; k < tiling_.linear.k; k += tiling_.chunk, ++load) {
        load_codes(tile.n(), columns, k);
        if (load == 0) AscendC::CrossCoreWaitFlag(digits_ready);
        load_digits(k);
        if (space_.waits_for_slot(load)) AscendC::CrossCoreWaitFlag(products_taken);
        multiply(load, columns, k);
        AscendC::CrossCoreSetFlag<2, PIPE_FIX>(products_full);
      }
    }
  }

 private:
  __aicore__ inline void load_codes(uint32_t n, uint32_t columns, uint32_t k) {
    AscendC::LocalTensor<int8_t> b = b1_.template AllocTensor<int8_t>();
    AscendC::DataCopyParams params;
    params.blockCount = space_.fractals(k);
    params.blockLen = columns;
    params.srcStride = tiling_.linear.n_padded - columns;
    params.dstStride = 0;
    const uint64_t row = static_cast<uint64_t>(k / D::fractal_k) * tiling_.linear.n_padded + n;
    AscendC::DataCopy(b, codes_gm_[row * fractal_row_bytes], params);
    b1_.EnQue(b);
  }

  __aicore__ inline void load_digits(uint32_t k) {
    AscendC::LocalTensor<int8_t> a = a1_.template AllocTensor<int8_t>();
    const uint32_t column_bytes = space_.padded_rows() * fractal_row_bytes;
    AscendC::DataCopy(a, digits_gm_[static_cast<uint64_t>(k / D::fractal_k) * column_bytes],
                      space_.fractals(k) * column_bytes);
    a1_.EnQue(a);
  }

  __aicore__ inline void multiply(uint32_t load, uint32_t columns, uint32_t k) {
    const uint32_t rows = space_.padded_rows();
    const uint32_t fractals = space_.fractals(k);
    AscendC::LocalTensor<int8_t> a1 = a1_.template DeQue<int8_t>();
    AscendC::LocalTensor<int8_t> b1 = b1_.template DeQue<int8_t>();
    for (uint32_t done = 0; done < fractals; done += tiling_.step_fractals) {
      const uint32_t step = smaller(tiling_.step_fractals, fractals - done);
      AscendC::LocalTensor<int8_t> a2 = a2_.template AllocTensor<int8_t>();
      copy_fractals(a2, a1, done * (rows / c0), step * (rows / c0));
      a2_.EnQue(a2);
      AscendC::LocalTensor<int8_t> b2 = b2_.template AllocTensor<int8_t>();
      copy_fractals(b2, b1, done * (columns / c0), step * (columns / c0));
      b2_.EnQue(b2);
      a2 = a2_.template DeQue<int8_t>();
      b2 = b2_.template DeQue<int8_t>();
      // Every column of fractals has accumulators of its own.
      AscendC::LocalTensor<int32_t> c = c_.template AllocTensor<int32_t>();
      for (uint32_t f = 0; f < step; ++f) {
        AscendC::Mmad(c[f * rows * columns],
                      a2[f * rows * fractal_row_bytes].template ReinterpretCast<Code>(),
                      b2[f * columns * fractal_row_bytes].template ReinterpretCast<Code>(),
                      AscendC::MmadParams(tiling_.digit_rows, columns, D::fractal_k, 0, false,
                                          true));
      }
      a2_.FreeTensor(a2);
      b2_.FreeTensor(b2);
      c_.EnQue(c);
      store(load, done * columns, step * columns);
    }
    a1_.FreeTensor(a1);
    b1_.FreeTensor(b1);
  }

  __aicore__ inline void copy_fractals(const AscendC::LocalTensor<int8_t>& to,
                                       const AscendC::LocalTensor<int8_t>& from, uint32_t first,
                                       uint32_t count) {
    AscendC::LoadData(to, from, AscendC::LoadData2DParams(first, count, 1, 0, 0, false, 0));
  }

  __aicore__ inline void store(uint32_t load, uint32_t at, uint32_t count) {
    AscendC::LocalTensor<int32_t> c = c_.template DeQue<int32_t>();
    AscendC::GlobalTensor<P> to;
    to.SetGlobalBuffer(reinterpret_cast<__gm__ P*>(space_.products(load)));
    AscendC::FixpipeParamsV220 params;
    params.nSize = count;
    params.mSize = tiling_.digit_rows;
    params.srcStride = space_.padded_rows();
    params.dstStride = space_.product_pitch();
    params.quantPre = D::is_int4 ? DEQF16 : NoQuant;
    params.deqScalar = 0x3f800000u;  // 1
    AscendC::Fixpipe<P, int32_t, AscendC::CFG_ROW_MAJOR>(to[at], c, params);
    c_.FreeTensor(c);
  }

  const QuantizedLinearTiling tiling_;
  const FewRowsSpace<Code> space_;
  AscendC::GlobalTensor<int8_t> codes_gm_, digits_gm_;
  AscendC::TQue<AscendC::TPosition::A1, 2> a1_;
  AscendC::TQue<AscendC::TPosition::B1, 2> b1_;
  AscendC::TQue<AscendC::TPosition::A2, 2> a2_;
  AscendC::TQue<AscendC::TPosition::B2, 2> b2_;
  AscendC::TQue<AscendC::TPosition::CO1, 2> c_;
};

}  // namespace ridge::backend::ascend
