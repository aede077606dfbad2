#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out = sums · row_scales[row] · column_scales[column]: what ridge_linear_w8a8 gives, as numbers. Of experts,
// whose rows follow each other from starts[e] to starts[e + 1], column scales are [experts][columns].
namespace ridge::backend::ascend {

template <typename T>
class ScaleProducts {
 public:
  __aicore__ inline ScaleProducts(AscendC::TPipe& pipe, const ScaleProductsTiling& tiling)
      : tiling_(tiling) {
    const uint32_t pitch = row_pitch<T>(tiling.columns_per_step);
    pipe.InitBuffer(sums_in_, 2, pitch * sizeof(int32_t));
    pipe.InitBuffer(scales_in_, 1, pitch * sizeof(float));
    pipe.InitBuffer(out_, 2, pitch * sizeof(T));
    pipe.InitBuffer(values_, pitch * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR sums, GM_ADDR row_scales, GM_ADDR column_scales, GM_ADDR starts,
                             GM_ADDR out) {
    starts_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(starts), tiling_.experts + 1);
    sums_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(sums));
    rows_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(row_scales), tiling_.rows);
    columns_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(column_scales),
                                tiling_.experts * tiling_.columns);
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    const uint32_t steps =
        (tiling_.columns + tiling_.columns_per_step - 1) / tiling_.columns_per_step;
    const uint32_t row_parts = (tiling_.rows + tiling_.rows_per_step - 1) / tiling_.rows_per_step;
    for (uint32_t unit = AscendC::GetBlockIdx(); unit < steps * row_parts;
         unit += AscendC::GetBlockNum()) {
      const uint32_t column = unit % steps * tiling_.columns_per_step;
      const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
      const uint32_t first = unit / steps * tiling_.rows_per_step;
      uint32_t expert = expert_of(first, 0);
      AscendC::LocalTensor<float> scales = copy_scales(expert, column, columns);
      for (uint32_t row = first; row < smaller(first + tiling_.rows_per_step, tiling_.rows); ++row) {
        if (const uint32_t own = expert_of(row, expert); own != expert) {
          scales_in_.FreeTensor(scales);
          expert = own;
          scales = copy_scales(expert, column, columns);
        }
        scale(row, column, columns, scales);
      }
      scales_in_.FreeTensor(scales);
    }
  }

 private:
  // From `least` on.
  __aicore__ inline uint32_t expert_of(uint32_t row, uint32_t least) {
    if (tiling_.experts == 1) return 0;
    uint32_t expert = least;
    while (static_cast<int32_t>(row) >= starts_gm_.GetValue(expert + 1)) ++expert;
    return expert;
  }

  __aicore__ inline AscendC::LocalTensor<float> copy_scales(uint32_t expert, uint32_t column,
                                                            uint32_t columns) {
    return copy_in(scales_in_, columns_gm_[expert * tiling_.columns + column], columns);
  }

  template <typename Queue, typename V>
  __aicore__ inline AscendC::LocalTensor<V> copy_in(Queue& queue,
                                                    const AscendC::GlobalTensor<V>& from,
                                                    uint32_t columns) {
    const uint32_t bytes = columns * sizeof(V);
    AscendC::LocalTensor<V> to = queue.template AllocTensor<V>();
    AscendC::DataCopyPad(to, from, AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<V>{false, 0, 0, 0});
    queue.EnQue(to);
    return queue.template DeQue<V>();
  }

  __aicore__ inline void scale(uint32_t row, uint32_t column, uint32_t columns,
                               const AscendC::LocalTensor<float>& scales) {
    const uint64_t at = static_cast<uint64_t>(row) * tiling_.sums_stride + column;
    AscendC::LocalTensor<int32_t> sums = copy_in(sums_in_, sums_gm_[at], columns);
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::Cast(values, sums, AscendC::RoundMode::CAST_RINT, columns);
    AscendC::PipeBarrier<PIPE_V>();
    sums_in_.FreeTensor(sums);
    AscendC::Mul(values, values, scales, columns);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::Muls(values, values, rows_gm_.GetValue(row), columns);
    AscendC::PipeBarrier<PIPE_V>();
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    narrow(out, values, columns);
    AscendC::PipeBarrier<PIPE_V>();
    out_.EnQue(out);
    out = out_.template DeQue<T>();
    const uint32_t bytes = columns * sizeof(T);
    AscendC::DataCopyPad(out_gm_[static_cast<uint64_t>(row) * tiling_.out_stride + column], out,
                         AscendC::DataCopyExtParams{1, bytes, 0, 0, 0});
    out_.FreeTensor(out);
  }

  const ScaleProductsTiling tiling_;
  AscendC::GlobalTensor<int32_t> sums_gm_, starts_gm_;
  AscendC::GlobalTensor<float> rows_gm_, columns_gm_;
  AscendC::GlobalTensor<T> out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> sums_in_;
  AscendC::TQue<AscendC::TPosition::VECIN, 1> scales_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> values_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_SCALE_PRODUCTS(suffix, T)                                                          \
  extern "C" __global__ __aicore__ void ridge_scale_products_##suffix(                           \
      GM_ADDR sums, GM_ADDR row_scales, GM_ADDR column_scales, GM_ADDR out, GM_ADDR tiling) {    \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                              \
    using namespace ridge::backend::ascend;                                                      \
    AscendC::TPipe pipe;                                                                         \
    ScaleProducts<T> products(pipe, read_tiling<ScaleProductsTiling>(tiling));                   \
    products.run(sums, row_scales, column_scales, sums, out);                                    \
  }

RIDGE_SCALE_PRODUCTS(f16, half)
RIDGE_SCALE_PRODUCTS(bf16, bfloat16_t)
RIDGE_SCALE_PRODUCTS(f32, float)

extern "C" __global__ __aicore__ void ridge_expert_scale_products_f32(
    GM_ADDR sums, GM_ADDR row_scales, GM_ADDR column_scales, GM_ADDR starts, GM_ADDR out,
    GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  ScaleProducts<float> products(pipe, read_tiling<ScaleProductsTiling>(tiling));
  products.run(sums, row_scales, column_scales, starts, out);
}
