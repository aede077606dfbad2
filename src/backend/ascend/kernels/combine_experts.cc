#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out[t] = Σ_j weights[t, j] · y[places[t, j]]: what the experts of a token gave, in the order in which
// ridge_sort_experts put it, or their biases where places are the experts themselves. All float32.
namespace ridge::backend::ascend {

class CombineExperts {
 public:
  __aicore__ inline CombineExperts(AscendC::TPipe& pipe, const CombineExpertsTiling& tiling)
      : tiling_(tiling) {
    const uint32_t bytes = row_pitch<float>(tiling.columns_per_step) * sizeof(float);
    pipe.InitBuffer(in_, buffers, bytes);
    pipe.InitBuffer(out_, buffers, bytes);
  }

  __aicore__ inline void run(GM_ADDR y, GM_ADDR places, GM_ADDR weights, GM_ADDR out) {
    y_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(y));
    places_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(places));
    weights_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weights));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out));
    const uint32_t steps = (tiling_.columns + tiling_.columns_per_step - 1) / tiling_.columns_per_step;
    for (uint32_t unit = AscendC::GetBlockIdx(); unit < tiling_.rows * steps;
         unit += AscendC::GetBlockNum()) {
      const uint32_t column = unit % steps * tiling_.columns_per_step;
      combine(unit / steps, column, smaller(tiling_.columns_per_step, tiling_.columns - column));
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ inline void combine(uint32_t row, uint32_t column, uint32_t columns) {
    const AscendC::DataCopyExtParams shape{1, columns * 4, 0, 0, 0};
    AscendC::LocalTensor<float> sum = out_.AllocTensor<float>();
    AscendC::Duplicate(sum, 0.0f, columns);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t j = 0; j < tiling_.top_k; ++j) {
      const uint64_t place = places_gm_.GetValue(static_cast<uint64_t>(row) * tiling_.top_k + j);
      const float weight =
          weights_gm_.GetValue(static_cast<uint64_t>(row) * tiling_.weights_stride + j);
      AscendC::LocalTensor<float> in = in_.AllocTensor<float>();
      AscendC::DataCopyPad(in, y_gm_[place * tiling_.y_stride + column], shape,
                           AscendC::DataCopyPadExtParams<float>{false, 0, 0, 0});
      in_.EnQue(in);
      in = in_.DeQue<float>();
      AscendC::Axpy(sum, in, weight, columns);
      AscendC::PipeBarrier<PIPE_V>();
      in_.FreeTensor(in);
    }
    out_.EnQue(sum);
    sum = out_.DeQue<float>();
    AscendC::DataCopyPad(out_gm_[static_cast<uint64_t>(row) * tiling_.out_stride + column], sum, shape);
    out_.FreeTensor(sum);
  }

  const CombineExpertsTiling tiling_;
  AscendC::GlobalTensor<float> y_gm_, weights_gm_, out_gm_;
  AscendC::GlobalTensor<int32_t> places_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_;
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_combine_experts_f32(
    GM_ADDR y, GM_ADDR places, GM_ADDR weights, GM_ADDR out, GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  CombineExperts combine(pipe, read_tiling<CombineExpertsTiling>(tiling));
  combine.run(y, places, weights, out);
}
