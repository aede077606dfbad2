#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// For each row: scale = max|x| / 127, codes = x / scale to the nearest integer, ties to even. A row
// of zeros has scale 0 and codes 0.
namespace ridge::backend::ascend {

template <typename T>
class QuantizeRows {
 public:
  __aicore__ inline QuantizeRows(AscendC::TPipe& pipe, const QuantizeRowsTiling& tiling)
      : tiling_(tiling), pitch_(round_up(tiling.columns, 32)) {
    const uint32_t step = tiling.rows_per_step * pitch_;
    pipe.InitBuffer(x_in_, buffers, step * sizeof(T));
    pipe.InitBuffer(codes_out_, buffers, step);
    pipe.InitBuffer(scales_out_, buffers, round_up(tiling.rows_per_step, floats_per_block) * 4);
    pipe.InitBuffer(values_, step * sizeof(float));
    pipe.InitBuffer(row_, pitch_ * sizeof(float));
    pipe.InitBuffer(work_, round_up(pitch_ / floats_per_repeat + 1, floats_per_block) * 4);
    const uint32_t divisors = round_up(tiling.rows_per_step, floats_per_block);
    pipe.InitBuffer(divisors_, divisors * sizeof(float));
    pipe.InitBuffer(blocks_, divisors * floats_per_block * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR codes, GM_ADDR scales) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(x));
    codes_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int8_t*>(codes));
    scales_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(scales), tiling_.rows);
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
  static constexpr uint32_t buffers = 2;

  __aicore__ inline void copy_in(uint32_t row, uint32_t rows) {
    AscendC::LocalTensor<T> x = x_in_.template AllocTensor<T>();
    AscendC::DataCopyPad(x, x_gm_[static_cast<uint64_t>(row) * tiling_.x_stride],
                         rows_in<T>({rows, tiling_.columns, tiling_.x_stride, pitch_}),
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    x_in_.EnQue(x);
  }

  __aicore__ inline void compute(uint32_t rows) {
    AscendC::LocalTensor<T> x = x_in_.template DeQue<T>();
    AscendC::LocalTensor<int8_t> codes = codes_out_.template AllocTensor<int8_t>();
    AscendC::LocalTensor<float> scales = scales_out_.template AllocTensor<float>();
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::LocalTensor<float> row = row_.Get<float>();
    AscendC::LocalTensor<float> divisors = divisors_.Get<float>();
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    const uint32_t columns = tiling_.columns;
    const uint32_t all = round_up(rows, floats_per_block);
    AscendC::Duplicate(scales, 0.0f, all);
    AscendC::Duplicate(divisors, 127.0f, all);
    for (uint32_t r = 0; r < rows; ++r) {
      widen(values[r * pitch_], x[r * pitch_], columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Abs(row, values[r * pitch_], columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::ReduceMax(scales[r], row, work_.Get<float>(), columns);
      AscendC::PipeBarrier<PIPE_V>();
    }
    x_in_.FreeTensor(x);
    AscendC::Div(scales, scales, divisors, all);
    AscendC::PipeBarrier<PIPE_V>();
    // Zeros are divided by the smallest normal number instead.
    AscendC::Maxs(divisors, scales, 1.1754943508222875e-38f, all);
    AscendC::PipeBarrier<PIPE_V>();
    scales_out_.EnQue(scales);
    AscendC::Brcb(blocks, divisors, all / floats_per_block, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::LocalTensor<half> halves = row.template ReinterpretCast<half>();
    for (uint32_t r = 0; r < rows; ++r) {
      AscendC::LocalTensor<float> value = values[r * pitch_];
      scale_row<ByBlock::divide>(value, value, blocks[r * floats_per_block], columns);
      AscendC::PipeBarrier<PIPE_V>();
      // Rounded as float32; what follows is exact.
      AscendC::Cast(value, value, AscendC::RoundMode::CAST_RINT, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Mins(value, value, 127.0f, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Maxs(value, value, -127.0f, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(halves, value, AscendC::RoundMode::CAST_RINT, columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::Cast(codes[r * pitch_], halves, AscendC::RoundMode::CAST_RINT, columns);
      AscendC::PipeBarrier<PIPE_V>();
    }
    codes_out_.EnQue(codes);
  }

  __aicore__ inline void copy_out(uint32_t row, uint32_t rows) {
    AscendC::LocalTensor<float> scales = scales_out_.template DeQue<float>();
    AscendC::DataCopyPad(scales_gm_[row], scales,
                         AscendC::DataCopyExtParams{1, rows * 4, 0, 0, 0});
    scales_out_.FreeTensor(scales);
    AscendC::LocalTensor<int8_t> codes = codes_out_.template DeQue<int8_t>();
    AscendC::DataCopyPad(codes_gm_[static_cast<uint64_t>(row) * tiling_.codes_stride], codes,
                         rows_out<int8_t>({rows, tiling_.columns, tiling_.codes_stride, pitch_}));
    codes_out_.FreeTensor(codes);
  }

  const QuantizeRowsTiling tiling_;
  const uint32_t pitch_;  // elements from row to row in UB: whole blocks of codes
  AscendC::GlobalTensor<T> x_gm_;
  AscendC::GlobalTensor<int8_t> codes_gm_;
  AscendC::GlobalTensor<float> scales_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> x_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> codes_out_, scales_out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> values_, row_, work_, divisors_, blocks_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_QUANTIZE_ROWS(suffix, T)                                                          \
  extern "C" __global__ __aicore__ void ridge_quantize_rows_##suffix(                           \
      GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR tiling) {                               \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                             \
    using namespace ridge::backend::ascend;                                                     \
    AscendC::TPipe pipe;                                                                        \
    QuantizeRows<T> quantize(pipe, read_tiling<QuantizeRowsTiling>(tiling));                    \
    quantize.run(x, codes, scales);                                                             \
  }

RIDGE_QUANTIZE_ROWS(f16, half)
RIDGE_QUANTIZE_ROWS(bf16, bfloat16_t)
RIDGE_QUANTIZE_ROWS(f32, float)
