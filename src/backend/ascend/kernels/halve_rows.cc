#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// Rows of float32 as the cube takes them: halves and a scale for each row, whose largest value
// becomes 2^14. So a row may be of any size; what is 2^38 times smaller than its largest value is
// lost. A row of zeros has the smallest normal scale and halves of 0. Behind a row come zeros up to whole
// fractals.
namespace ridge::backend::ascend {

class HalveRows {
 public:
  __aicore__ inline HalveRows(AscendC::TPipe& pipe, const HalveRowsTiling& tiling)
      : tiling_(tiling) {
    const uint32_t step = round_up(tiling.columns_per_step, c0);
    pipe.InitBuffer(x_in_, buffers, step * sizeof(float));
    pipe.InitBuffer(out_, buffers, step * sizeof(half));
    pipe.InitBuffer(scale_out_, buffers, floats_per_block * sizeof(float));
    pipe.InitBuffer(value_, step * sizeof(float));
    // ReduceMax's own need: one float for each 256 bytes, in whole blocks.
    pipe.InitBuffer(work_, round_up(step / floats_per_repeat + 1, floats_per_block) * sizeof(float));
    pipe.InitBuffer(part_, floats_per_block * sizeof(float));
    pipe.InitBuffer(blocks_, floats_per_block * floats_per_block * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR x, GM_ADDR out, GM_ADDR scales) {
    x_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(x));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(out));
    scales_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(scales), tiling_.rows);
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.rows_per_core;
    const uint32_t last = smaller(first + tiling_.rows_per_core, tiling_.rows);
    // A row that fits is read once.
    const bool fits = tiling_.columns <= tiling_.columns_per_step;
    for (uint32_t row = first; row < last; ++row) {
      AscendC::LocalTensor<float> scale = begin_scale();
      if (fits) {
        copy_in(row, 0);
        AscendC::LocalTensor<float> x = x_in_.DeQue<float>();
        raise(scale, x, tiling_.columns);
        end_scale(scale, row);
        halve(x, row, 0, tiling_.columns);
        x_in_.FreeTensor(x);
        continue;
      }
      for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
        const uint32_t columns = copy_in(row, column);
        AscendC::LocalTensor<float> x = x_in_.DeQue<float>();
        raise(scale, x, columns);
        x_in_.FreeTensor(x);
      }
      end_scale(scale, row);
      for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
        const uint32_t columns = copy_in(row, column);
        AscendC::LocalTensor<float> x = x_in_.DeQue<float>();
        halve(x, row, column, columns);
        x_in_.FreeTensor(x);
      }
    }
  }

 private:
  static constexpr uint32_t buffers = 2;
  static constexpr uint32_t c0 = 16;
  static constexpr float step_of_largest = 6.103515625e-05f;           // 2^-14
  static constexpr float smallest_normal = 1.1754943508222875e-38f;

  __aicore__ inline uint32_t copy_in(uint32_t row, uint32_t column) {
    const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
    AscendC::LocalTensor<float> x = x_in_.AllocTensor<float>();
    AscendC::DataCopyPad(x, x_gm_[static_cast<uint64_t>(row) * tiling_.x_stride + column],
                         AscendC::DataCopyExtParams{1, columns * 4, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
    x_in_.EnQue(x);
    return columns;
  }

  // A scale is found as the largest size so far, then divided.
  __aicore__ inline AscendC::LocalTensor<float> begin_scale() {
    AscendC::LocalTensor<float> scale = scale_out_.AllocTensor<float>();
    AscendC::Duplicate(scale, 0.0f, floats_per_block);
    AscendC::Duplicate(part_.Get<float>(), 0.0f, floats_per_block);
    AscendC::PipeBarrier<PIPE_V>();
    return scale;
  }

  __aicore__ inline void raise(const AscendC::LocalTensor<float>& scale,
                               const AscendC::LocalTensor<float>& x, uint32_t columns) {
    AscendC::LocalTensor<float> value = value_.Get<float>();
    AscendC::LocalTensor<float> part = part_.Get<float>();
    AscendC::Abs(value, x, columns);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::ReduceMax(part, value, work_.Get<float>(), columns);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Max(scale, scale, part, floats_per_block);
    AscendC::PipeBarrier<PIPE_V>();
  }

  // Leaves the row's scale in global memory and in the blocks by which its values are divided.
  __aicore__ inline void end_scale(AscendC::LocalTensor<float> scale, uint32_t row) {
    AscendC::Muls(scale, scale, step_of_largest, floats_per_block);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Maxs(scale, scale, smallest_normal, floats_per_block);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Brcb(blocks_.Get<float>(), scale, 1, AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
    scale_out_.EnQue(scale);
    scale = scale_out_.DeQue<float>();
    AscendC::DataCopyPad(scales_gm_[row], scale, AscendC::DataCopyExtParams{1, 4, 0, 0, 0});
    scale_out_.FreeTensor(scale);
  }

  __aicore__ inline void halve(const AscendC::LocalTensor<float>& x, uint32_t row, uint32_t column,
                               uint32_t columns) {
    AscendC::LocalTensor<half> out = out_.AllocTensor<half>();
    AscendC::LocalTensor<float> value = value_.Get<float>();
    const uint32_t padded = round_up(columns, c0);
    if (padded != columns) {
      AscendC::Duplicate(value, 0.0f, padded);
      AscendC::PipeBarrier<PIPE_V>();
    }
    scale_row<ByBlock::divide>(value, x, blocks_.Get<float>(), columns);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Cast(out, value, AscendC::RoundMode::CAST_RINT, padded);
    AscendC::PipeBarrier<PIPE_V>();
    out_.EnQue(out);
    out = out_.DeQue<half>();
    AscendC::DataCopyPad(out_gm_[static_cast<uint64_t>(row) * tiling_.out_stride + column], out,
                         AscendC::DataCopyExtParams{1, padded * 2, 0, 0, 0});
    out_.FreeTensor(out);
  }

  const HalveRowsTiling tiling_;
  AscendC::GlobalTensor<float> x_gm_, scales_gm_;
  AscendC::GlobalTensor<half> out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> x_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_, scale_out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> value_, work_, part_, blocks_;
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_halve_rows(GM_ADDR x, GM_ADDR out, GM_ADDR scales,
                                                       GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  HalveRows halves(pipe, read_tiling<HalveRowsTiling>(tiling));
  halves.run(x, out, scales);
}
