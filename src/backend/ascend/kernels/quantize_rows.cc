#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// For each row: scale = max|x| / 127, codes = x / scale to the nearest integer, ties to even. A row
// of zeros has scale 0 and codes 0. Rows that a core does not hold whole come in pieces of their columns, and
// twice: for the largest, and for the codes.
namespace ridge::backend::ascend {

template <typename T>
class QuantizeRows {
 public:
  __aicore__ inline QuantizeRows(AscendC::TPipe& pipe, const QuantizeRowsTiling& tiling)
      : tiling_(tiling), pitch_(round_up(tiling.columns_per_step, 32)) {
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
      quantize(row, smaller(tiling_.rows_per_step, last - row));
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ inline void quantize(uint32_t row, uint32_t rows) {
    const uint32_t columns = tiling_.columns, piece = tiling_.columns_per_step;
    AscendC::LocalTensor<float> scales = scales_out_.template AllocTensor<float>();
    AscendC::Duplicate(scales, 0.0f, round_up(rows, floats_per_block));
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t column = 0; column < columns; column += piece) {
      const uint32_t count = smaller(piece, columns - column);
      take(row, rows, column, count);
      find_largest(scales, rows, count, column > 0);
    }
    finish_scales(scales, rows);
    copy_scales_out(row, rows);
    for (uint32_t column = 0; column < columns; column += piece) {
      const uint32_t count = smaller(piece, columns - column);
      // Values of the only piece are there yet.
      if (piece < columns) take(row, rows, column, count);
      encode(rows, count);
      copy_codes_out(row, rows, column, count);
    }
  }

  // Some columns of rows to values_, as float32.
  __aicore__ inline void take(uint32_t row, uint32_t rows, uint32_t column, uint32_t columns) {
    AscendC::LocalTensor<T> x = x_in_.template AllocTensor<T>();
    AscendC::DataCopyPad(x, x_gm_[static_cast<uint64_t>(row) * tiling_.x_stride + column],
                         rows_in<T>({rows, columns, tiling_.x_stride, pitch_}),
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    x_in_.EnQue(x);
    x = x_in_.template DeQue<T>();
    AscendC::LocalTensor<float> values = values_.Get<float>();
    for (uint32_t r = 0; r < rows; ++r) {
      widen(values[r * pitch_], x[r * pitch_], columns);
    }
    AscendC::PipeBarrier<PIPE_V>();
    x_in_.FreeTensor(x);
  }

  // Of the absolute values of a piece, into `largest`; of one that is next, where it is larger than what is there.
  __aicore__ inline void find_largest(const AscendC::LocalTensor<float>& largest, uint32_t rows,
                                      uint32_t columns, bool is_next) {
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::LocalTensor<float> row = row_.Get<float>();
    AscendC::LocalTensor<float> found = is_next ? divisors_.Get<float>() : largest;
    const uint32_t all = round_up(rows, floats_per_block);
    if (is_next) {
      AscendC::Duplicate(found, 0.0f, all);
      AscendC::PipeBarrier<PIPE_V>();
    }
    for (uint32_t r = 0; r < rows; ++r) {
      AscendC::Abs(row, values[r * pitch_], columns);
      AscendC::PipeBarrier<PIPE_V>();
      AscendC::ReduceMax(found[r], row, work_.Get<float>(), columns);
      AscendC::PipeBarrier<PIPE_V>();
    }
    if (is_next) {
      AscendC::Max(largest, largest, found, all);
      AscendC::PipeBarrier<PIPE_V>();
    }
  }

  // Of the largest; what divides is in blocks_, a block for each row.
  __aicore__ inline void finish_scales(const AscendC::LocalTensor<float>& scales, uint32_t rows) {
    AscendC::LocalTensor<float> divisors = divisors_.Get<float>();
    const uint32_t all = round_up(rows, floats_per_block);
    AscendC::Duplicate(divisors, 127.0f, all);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Div(scales, scales, divisors, all);
    AscendC::PipeBarrier<PIPE_V>();
    // Zeros are divided by the smallest normal number instead.
    AscendC::Maxs(divisors, scales, 1.1754943508222875e-38f, all);
    AscendC::PipeBarrier<PIPE_V>();
    scales_out_.EnQue(scales);
    AscendC::Brcb(blocks_.Get<float>(), divisors, all / floats_per_block,
                  AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void copy_scales_out(uint32_t row, uint32_t rows) {
    AscendC::LocalTensor<float> scales = scales_out_.template DeQue<float>();
    AscendC::DataCopyPad(scales_gm_[row], scales,
                         AscendC::DataCopyExtParams{1, rows * 4, 0, 0, 0});
    scales_out_.FreeTensor(scales);
  }

  __aicore__ inline void encode(uint32_t rows, uint32_t columns) {
    AscendC::LocalTensor<int8_t> codes = codes_out_.template AllocTensor<int8_t>();
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::LocalTensor<half> halves = row_.Get<float>().template ReinterpretCast<half>();
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

  __aicore__ inline void copy_codes_out(uint32_t row, uint32_t rows, uint32_t column,
                                        uint32_t columns) {
    AscendC::LocalTensor<int8_t> codes = codes_out_.template DeQue<int8_t>();
    AscendC::DataCopyPad(codes_gm_[static_cast<uint64_t>(row) * tiling_.codes_stride + column], codes,
                         rows_out<int8_t>({rows, columns, tiling_.codes_stride, pitch_}));
    codes_out_.FreeTensor(codes);
  }

  const QuantizeRowsTiling tiling_;
  const uint32_t pitch_;  // elements from row to row in UB: whole blocks of codes
  AscendC::GlobalTensor<T> x_gm_;
  AscendC::GlobalTensor<int8_t> codes_gm_;
  AscendC::GlobalTensor<float> scales_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> x_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> codes_out_, scales_out_;
  // divisors_: before there are any, the largest of a further piece.
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
