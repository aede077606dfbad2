#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// out[t] = Σ_j weights[t, j] · y[places[t, j]]: what the experts of a token gave, in the order in which
// ridge_sort_experts put it. Values are T, weights and sums float32.
namespace ridge::backend::ascend {

template <typename T>
class CombineExperts {
 public:
  __aicore__ inline CombineExperts(AscendC::TPipe& pipe, const CombineExpertsTiling& tiling)
      : tiling_(tiling) {
    const uint32_t pitch = row_pitch<T>(tiling.columns_per_step);
    pipe.InitBuffer(in_, 2, pitch * sizeof(T));
    pipe.InitBuffer(out_, 2, pitch * sizeof(T));
    pipe.InitBuffer(value_, pitch * sizeof(float));
    pipe.InitBuffer(sum_, pitch * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR y, GM_ADDR places, GM_ADDR weights, GM_ADDR out) {
    y_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(y));
    places_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(places));
    weights_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(weights));
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(out));
    const uint32_t steps = (tiling_.columns + tiling_.columns_per_step - 1) / tiling_.columns_per_step;
    for (uint32_t unit = AscendC::GetBlockIdx(); unit < tiling_.rows * steps;
         unit += AscendC::GetBlockNum()) {
      const uint32_t column = unit % steps * tiling_.columns_per_step;
      combine(unit / steps, column, smaller(tiling_.columns_per_step, tiling_.columns - column));
    }
  }

 private:
  __aicore__ inline void combine(uint32_t row, uint32_t column, uint32_t columns) {
    const uint32_t bytes = columns * sizeof(T);
    AscendC::LocalTensor<float> sum = sum_.Get<float>();
    AscendC::LocalTensor<float> value = value_.Get<float>();
    AscendC::Duplicate(sum, 0.0f, columns);
    AscendC::PipeBarrier<PIPE_V>();
    for (uint32_t j = 0; j < tiling_.top_k; ++j) {
      const uint64_t place = places_gm_.GetValue(static_cast<uint64_t>(row) * tiling_.top_k + j);
      const float weight =
          weights_gm_.GetValue(static_cast<uint64_t>(row) * tiling_.weights_stride + j);
      AscendC::LocalTensor<T> in = in_.template AllocTensor<T>();
      AscendC::DataCopyPad(in, y_gm_[place * tiling_.y_stride + column],
                           AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                           AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
      in_.EnQue(in);
      in = in_.template DeQue<T>();
      widen(value, in, columns);
      AscendC::PipeBarrier<PIPE_V>();
      in_.FreeTensor(in);
      AscendC::Axpy(sum, value, weight, columns);
      AscendC::PipeBarrier<PIPE_V>();
    }
    AscendC::LocalTensor<T> out = out_.template AllocTensor<T>();
    narrow(out, sum, columns);
    AscendC::PipeBarrier<PIPE_V>();
    out_.EnQue(out);
    out = out_.template DeQue<T>();
    AscendC::DataCopyPad(out_gm_[static_cast<uint64_t>(row) * tiling_.out_stride + column], out,
                         AscendC::DataCopyExtParams{1, bytes, 0, 0, 0});
    out_.FreeTensor(out);
  }

  const CombineExpertsTiling tiling_;
  AscendC::GlobalTensor<T> y_gm_, out_gm_;
  AscendC::GlobalTensor<int32_t> places_gm_;
  AscendC::GlobalTensor<float> weights_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, 2> in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, 2> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> value_, sum_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_COMBINE_EXPERTS(suffix, T)                                                         \
  extern "C" __global__ __aicore__ void ridge_combine_experts_##suffix(                          \
      GM_ADDR y, GM_ADDR places, GM_ADDR weights, GM_ADDR out, GM_ADDR tiling) {                 \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                              \
    using namespace ridge::backend::ascend;                                                      \
    AscendC::TPipe pipe;                                                                         \
    CombineExperts<T> combine(pipe, read_tiling<CombineExpertsTiling>(tiling));                  \
    combine.run(y, places, weights, out);                                                        \
  }

RIDGE_COMBINE_EXPERTS(f16, half)
RIDGE_COMBINE_EXPERTS(bf16, bfloat16_t)
RIDGE_COMBINE_EXPERTS(f32, float)
