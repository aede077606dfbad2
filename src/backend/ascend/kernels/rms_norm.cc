#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out = x / sqrt(mean(x²) + epsilon) · weight for each row; with a residual, residual += x first and
// the norm is of the sum. Values are T, sums and the weight float32.
namespace ridge::backend::ascend {

template <typename T, bool adds>
class RmsNorm {
 public:
  __aicore__ inline RmsNorm(AscendC::TPipe& pipe, const RmsNormTiling& tiling)
      : tiling_(tiling), pitch_(row_pitch<T>(tiling.columns)) {
    const uint32_t step = tiling.rows_per_step * pitch_;
    pipe.InitBuffer(x_in_, tiling.buffers, step * sizeof(T));
    pipe.InitBuffer(out_, tiling.buffers, step * sizeof(T));
    if constexpr (adds) {
      pipe.InitBuffer(residual_in_, tiling.buffers, step * sizeof(T));
      pipe.InitBuffer(residual_out_, tiling.buffers, step * sizeof(T));
    }
    pipe.InitBuffer(weight_, pitch_ * sizeof(float));
    pipe.InitBuffer(values_, step * sizeof(float));
    pipe.InitBuffer(squares_, pitch_ * sizeof(float));
    // ReduceSum's own need: one float for each 256 bytes, in whole blocks.
    pipe.InitBuffer(work_, round_up(pitch_ / floats_per_repeat + 1, floats_per_block) * sizeof(float));
    const uint32_t sums = round_up(tiling.rows_per_step, floats_per_block);
    pipe.InitBuffer(sums_, sums * sizeof(float));
    pipe.InitBuffer(scales_, sums * floats_per_block * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR residual, GM_ADDR weight, GM_ADDR out) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    if constexpr (adds) residual_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(residual));
    load_weight(weight);
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.rows_per_core;
    const uint32_t last = smaller(first + tiling_.rows_per_core, tiling_.rows);
    for (uint32_t row = first; row < last; row += tiling_.rows_per_step) {
      const uint32_t rows = smaller(tiling_.rows_per_step, last - row);
      copy_in(row, rows);
      compute(rows);
      copy_out(row, rows);
    }
  }

 private:
  static constexpr uint32_t buffers = 2;  // at most

  __aicore__ inline void load_weight(GM_ADDR weight) {
    AscendC::GlobalTensor<float> from;
    from.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weight), tiling_.columns);
    const uint32_t bytes = tiling_.columns * sizeof(float);
    AscendC::DataCopyPad(weight_.Get<float>(), from, AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0.0f});
    order<AscendC::HardEvent::MTE2_V>();
  }

  template <typename Queue>
  __aicore__ inline void copy_rows_in(Queue& queue, const AscendC::GlobalTensor<T>& from,
                                      uint32_t row, uint32_t rows, uint32_t stride) {
    AscendC::LocalTensor<T> to = queue.template AllocTensor<T>();
    AscendC::DataCopyPad(to, from[static_cast<uint64_t>(row) * stride],
                         rows_in<T>({rows, tiling_.columns, stride, pitch_}),
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    queue.EnQue(to);
  }
  template <typename Queue>
  __aicore__ inline void copy_rows_out(Queue& queue, const AscendC::GlobalTensor<T>& to,
                                       uint32_t row, uint32_t rows, uint32_t stride) {
    AscendC::LocalTensor<T> from = queue.template DeQue<T>();
    AscendC::DataCopyPad(to[static_cast<uint64_t>(row) * stride], from,
                         rows_out<T>({rows, tiling_.columns, stride, pitch_}));
    queue.FreeTensor(from);
  }

  __aicore__ inline void copy_in(uint32_t row, uint32_t rows) {
    copy_rows_in(x_in_, x_gm_, row, rows, tiling_.x_stride);
    if constexpr (adds) {
      copy_rows_in(residual_in_, residual_gm_, row, rows, tiling_.residual_stride);
    }
  }

  __aicore__ inline void compute(uint32_t rows) {
    AscendC::LocalTensor<T> x = x_in_.template DeQue<T>();
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::LocalTensor<float> squares = squares_.Get<float>();
    AscendC::LocalTensor<float> sums = sums_.Get<float>();
    AscendC::LocalTensor<float> scales = scales_.Get<float>();
    AscendC::LocalTensor<T> residual;
    AscendC::LocalTensor<T> sum;
    if constexpr (adds) {
      residual = residual_in_.template DeQue<T>();
      sum = residual_out_.template AllocTensor<T>();
    }
    const uint32_t all_sums = round_up(rows, floats_per_block);
    AscendC::Duplicate(sums, 0.0f, all_sums);
    for (uint32_t r = 0; r < rows; ++r) {
      const uint32_t at = r * pitch_;
      AscendC::LocalTensor<float> row = values[at];
      widen(row, x[at], tiling_.columns);
      if constexpr (adds) {
        widen(squares, residual[at], tiling_.columns);
        AscendC::PipeBarrier<PIPE_V>();
        AscendC::Add(row, row, squares, tiling_.columns);
        AscendC::PipeBarrier<PIPE_V>();
        // The norm is of what the residual holds, rounded.
        narrow(sum[at], row, tiling_.columns);
        AscendC::PipeBarrier<PIPE_V>();
        widen(row, sum[at], tiling_.columns);
      }
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Mul(squares, row, row, tiling_.columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::ReduceSum(sums[r], squares, work_.Get<float>(), tiling_.columns);
    }
    x_in_.FreeTensor(x);
    if constexpr (adds) {
      residual_in_.FreeTensor(residual);
      residual_out_.EnQue(sum);
    }
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(sums, sums, tiling_.inverse_columns, all_sums);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Adds(sums, sums, tiling_.epsilon, all_sums);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Sqrt(sums, sums, all_sums);
    AscendC::PipeBarrier<PIPE_V>();
    // One block of 32 bytes for each row.
    AscendC::Brcb(scales, sums, all_sums / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t r = 0; r < rows; ++r) {
      const uint32_t at = r * pitch_;
      AscendC::LocalTensor<float> row = values[at];
      scale_row<ByBlock::divide>(row, row, scales[r * floats_per_block], tiling_.columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Mul(row, row, weight_.Get<float>(), tiling_.columns);
      AscendC::PipeBarrier<PIPE_V>();
      narrow(out[at], row, tiling_.columns);
    }
    // The next step writes what this one still reads.
    AscendC::PipeBarrier<PIPE_V>();
    out_.EnQue(out);
  }

  __aicore__ inline void copy_out(uint32_t row, uint32_t rows) {
    if constexpr (adds) {
      copy_rows_out(residual_out_, residual_gm_, row, rows, tiling_.residual_stride);
    }
    copy_rows_out(out_, out_gm_, row, rows, tiling_.out_stride);
  }

  const RmsNormTiling tiling_;
  const uint32_t pitch_;
  AscendC::GlobalTensor<T> x_gm_, residual_gm_, out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> x_in_, residual_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_, residual_out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> weight_, values_, squares_, work_, sums_, scales_;
};

template <typename T, bool adds>
__aicore__ inline void rms_norm(GM_ADDR x, GM_ADDR residual, GM_ADDR weight, GM_ADDR out,
                                GM_ADDR tiling) {
  AscendC::TPipe pipe;
  RmsNorm<T, adds> norm(pipe, read_tiling<RmsNormTiling>(tiling));
  norm.run(x, residual, weight, out);
}

}  // namespace ridge::backend::ascend

#define RIDGE_RMS_NORM(suffix, T)                                                                \
  extern "C" __global__ __aicore__ void ridge_rms_norm_##suffix(GM_ADDR x, GM_ADDR weight,       \
                                                                GM_ADDR out, GM_ADDR tiling) {   \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                              \
    ridge::backend::ascend::rms_norm<T, false>(x, nullptr, weight, out, tiling);                 \
  }                                                                                              \
  extern "C" __global__ __aicore__ void ridge_add_rms_norm_##suffix(                             \
      GM_ADDR x, GM_ADDR residual, GM_ADDR weight, GM_ADDR out, GM_ADDR tiling) {                \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                              \
    ridge::backend::ascend::rms_norm<T, true>(x, residual, weight, out, tiling);                 \
  }

RIDGE_RMS_NORM(f16, half)
RIDGE_RMS_NORM(bf16, bfloat16_t)
RIDGE_RMS_NORM(f32, float)
