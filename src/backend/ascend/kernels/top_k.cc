#include "backend/ascend/kernels/largest.h"
#include "backend/ascend/kernels/tiling_data.h"

// The k largest of each row in descending order, equal ones by index; with k = 1 the greedy choice.
namespace ridge::backend::ascend {

template <typename T, bool wants_values>
class TopK {
 public:
  __aicore__ inline TopK(AscendC::TPipe& pipe, const TopKTiling& tiling)
      : tiling_(tiling), largest_(pipe, tiling.k, tiling.columns_per_step) {
    const uint32_t pitch = row_pitch<T>(tiling.columns_per_step);
    pipe.InitBuffer(in_, buffers, pitch * sizeof(T));
    pipe.InitBuffer(values_, pitch * sizeof(float));
    pipe.InitBuffer(narrowed_, round_up(tiling.k, floats_per_repeat) * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR logits, GM_ADDR values, GM_ADDR ids) {
    logits_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(logits));
    values_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(values));
    ids_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids));
    for (uint32_t row = AscendC::GetBlockIdx(); row < tiling_.rows;
         row += AscendC::GetBlockNum()) {
      largest_.begin(tiling_.k);
      for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
        const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
        load(static_cast<uint64_t>(row) * tiling_.stride + column, columns);
        largest_.take(values_.Get<float>(), column, columns);
      }
      largest_.fill_up();
      store(row);
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ inline void load(uint64_t at, uint32_t columns) {
    const uint32_t bytes = columns * sizeof(T);
    AscendC::LocalTensor<T> in = in_.template AllocTensor<T>();
    AscendC::DataCopyPad(in, logits_gm_[at], AscendC::DataCopyExtParams{1, bytes, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<T>{false, 0, 0, 0});
    in_.EnQue(in);
    in = in_.template DeQue<T>();
    widen(values_.Get<float>(), in, columns);
    AscendC::PipeBarrier<PIPE_V>();
    in_.FreeTensor(in);
  }

  __aicore__ inline void store(uint32_t row) {
    const uint64_t at = static_cast<uint64_t>(row) * tiling_.k;
    order<AscendC::HardEvent::S_MTE3>();
    AscendC::DataCopyPad(ids_gm_[at], largest_.ids(),
                         AscendC::DataCopyExtParams{1, tiling_.k * 4, 0, 0, 0});
    if constexpr (wants_values) {
      order<AscendC::HardEvent::S_V>();
      narrow(narrowed_.Get<T>(), largest_.values(), tiling_.k);
      order<AscendC::HardEvent::V_MTE3>();
      const uint32_t bytes = tiling_.k * sizeof(T);
      AscendC::DataCopyPad(values_gm_[at], narrowed_.Get<T>(),
                           AscendC::DataCopyExtParams{1, bytes, 0, 0, 0});
      order<AscendC::HardEvent::MTE3_V>();
      order<AscendC::HardEvent::V_S>();
    }
    // The next row writes them anew.
    order<AscendC::HardEvent::MTE3_S>();
  }

  const TopKTiling tiling_;
  Largest largest_;
  AscendC::GlobalTensor<T> logits_gm_, values_gm_;
  AscendC::GlobalTensor<int32_t> ids_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> in_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> values_, narrowed_;
};

}  // namespace ridge::backend::ascend

#define RIDGE_TOP_K(suffix, T)                                                                   \
  extern "C" __global__ __aicore__ void ridge_top_k_##suffix(GM_ADDR logits, GM_ADDR values,     \
                                                             GM_ADDR ids, GM_ADDR tiling) {      \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                              \
    using namespace ridge::backend::ascend;                                                      \
    AscendC::TPipe pipe;                                                                         \
    TopK<T, true> top_k(pipe, read_tiling<TopKTiling>(tiling));                                  \
    top_k.run(logits, values, ids);                                                              \
  }                                                                                              \
  extern "C" __global__ __aicore__ void ridge_sample_##suffix(GM_ADDR logits, GM_ADDR ids,       \
                                                              GM_ADDR tiling) {                  \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);                                              \
    using namespace ridge::backend::ascend;                                                      \
    AscendC::TPipe pipe;                                                                         \
    TopK<T, false> greedy(pipe, read_tiling<TopKTiling>(tiling));                                \
    greedy.run(logits, nullptr, ids);                                                            \
  }

RIDGE_TOP_K(f16, half)
RIDGE_TOP_K(bf16, bfloat16_t)
RIDGE_TOP_K(f32, float)
