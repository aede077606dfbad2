#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out = x · factor, and where the tiling says so · scales[row] + bias; with a factor of 1 alone a
// change of type. Values are From and To, arithmetic, scales and bias float32. out may be x.
namespace ridge::backend::ascend {

template <typename From, typename To>
class ScaleRows {
 public:
  __aicore__ inline ScaleRows(AscendC::TPipe& pipe, const ScaleRowsTiling& tiling)
      : tiling_(tiling), pitch_(pitch_of(tiling.columns_per_step + tiling.padding)) {
    const uint32_t step = tiling.rows_per_step * pitch_;
    pipe.InitBuffer(in_, buffers, step * sizeof(From));
    pipe.InitBuffer(out_, buffers, step * sizeof(To));
    pipe.InitBuffer(value_, pitch_ * sizeof(float));
    if (tiling.has_bias) pipe.InitBuffer(bias_in_, buffers, pitch_ * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR scales, GM_ADDR bias, GM_ADDR out) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ From*>(x));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ To*>(out));
    if (tiling_.has_scales) {
      scales_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(scales), tiling_.rows);
    }
    if (tiling_.has_bias) {
      bias_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(bias), tiling_.columns);
    }
    // Units go through the columns first, so that few rows have work for all cores.
    const uint32_t of_row =
        (tiling_.columns + tiling_.columns_per_step - 1) / tiling_.columns_per_step;
    const uint32_t row_steps = (tiling_.rows + tiling_.rows_per_step - 1) / tiling_.rows_per_step;
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.units_per_core;
    const uint32_t last = smaller(first + tiling_.units_per_core, row_steps * of_row);
    for (uint32_t unit = first; unit < last; ++unit) {
      const uint32_t row = unit / of_row * tiling_.rows_per_step;
      const uint32_t column = unit % of_row * tiling_.columns_per_step;
      const uint32_t rows = smaller(tiling_.rows_per_step, tiling_.rows - row);
      const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
      copy_in(row, rows, column, columns);
      compute(row, rows, columns);
      copy_out(row, rows, column, columns);
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ static inline uint32_t pitch_of(uint32_t columns) {
    return sizeof(From) < sizeof(To) ? row_pitch<From>(columns) : row_pitch<To>(columns);
  }
  __aicore__ static inline uint64_t place(uint32_t row, uint32_t stride, uint32_t column) {
    return static_cast<uint64_t>(row) * stride + column;
  }

  __aicore__ inline void copy_in(uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
    AscendC::LocalTensor<From> x = in_.template AllocTensor<From>();
    AscendC::DataCopyPad(x, x_gm_[place(row, tiling_.x_stride, column)],
                         rows_in<From>({rows, columns, tiling_.x_stride, pitch_}),
                         AscendC::DataCopyPadExtParams<From>{false, 0, 0, 0});
    in_.EnQue(x);
    if (!tiling_.has_bias) return;
    AscendC::LocalTensor<float> bias = bias_in_.template AllocTensor<float>();
    AscendC::DataCopyPad(bias, bias_gm_[column],
                         AscendC::DataCopyExtParams{1, columns * 4, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
    bias_in_.EnQue(bias);
  }

  __aicore__ inline void compute(uint32_t row, uint32_t rows, uint32_t columns) {
    AscendC::LocalTensor<From> x = in_.template DeQue<From>();
    AscendC::LocalTensor<float> bias;
    if (tiling_.has_bias) bias = bias_in_.template DeQue<float>();
    AscendC::LocalTensor<To> out = out_.template AllocTensor<To>();
    AscendC::LocalTensor<float> value = value_.Get<float>();
    const uint32_t padded = columns + tiling_.padding;
    for (uint32_t r = 0; r < rows; ++r) {
      if (tiling_.padding > 0) {
        AscendC::Duplicate(value, 0.0f, padded);
        AscendC::PipeBarrier<PIPE_V>();
      }
      widen(value, x[r * pitch_], columns);
      AscendC::PipeBarrier<PIPE_V>();
      if (tiling_.has_scales) {
        AscendC::Muls(value, value, scales_gm_.GetValue(row + r), columns);
        AscendC::PipeBarrier<PIPE_V>();
      }
      if (tiling_.factor != 1.0f) {
        AscendC::Muls(value, value, tiling_.factor, columns);
        AscendC::PipeBarrier<PIPE_V>();
      }
      if (tiling_.has_bias) {
        AscendC::Add(value, value, bias, columns);
        AscendC::PipeBarrier<PIPE_V>();
      }
      narrow(out[r * pitch_], value, padded);
      AscendC::PipeBarrier<PIPE_V>();
    }
    in_.FreeTensor(x);
    if (tiling_.has_bias) bias_in_.FreeTensor(bias);
    out_.EnQue(out);
  }

  __aicore__ inline void copy_out(uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
    AscendC::LocalTensor<To> out = out_.template DeQue<To>();
    AscendC::DataCopyPad(out_gm_[place(row, tiling_.out_stride, column)], out,
                         rows_out<To>({rows, columns + tiling_.padding, tiling_.out_stride, pitch_}));
    out_.FreeTensor(out);
  }

  const ScaleRowsTiling tiling_;
  const uint32_t pitch_;  // elements from row to row in UB
  AscendC::GlobalTensor<From> x_gm_;
  AscendC::GlobalTensor<To> out_gm_;
  AscendC::GlobalTensor<float> scales_gm_, bias_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> in_, bias_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> value_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_SCALE_ROWS(suffix, From, To)                                              \
  extern "C" __global__ __aicore__ void ridge_scale_rows_##suffix(                      \
      GM_ADDR x, GM_ADDR scales, GM_ADDR bias, GM_ADDR out, GM_ADDR tiling) {           \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                     \
    using namespace ridge::backend::ascend;                                             \
    AscendC::TPipe pipe;                                                                \
    ScaleRows<From, To> scale(pipe, read_tiling<ScaleRowsTiling>(tiling));              \
    scale.run(x, scales, bias, out);                                                    \
  }

RIDGE_SCALE_ROWS(f32_f32, float, float)
RIDGE_SCALE_ROWS(f32_f16, float, half)
RIDGE_SCALE_ROWS(f32_bf16, float, bfloat16_t)
RIDGE_SCALE_ROWS(f16_f32, half, float)
RIDGE_SCALE_ROWS(bf16_f32, bfloat16_t, float)
