#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// The k largest of each row in descending order, equal ones by index; with k = 1 the greedy choice.
// A row goes by steps: the vector unit finds the largest of a step, the scalar unit keeps it if it is
// among the k best so far, and so on until a step has nothing better.
namespace ridge::backend::ascend {

template <typename T, bool wants_values>
class TopK {
 public:
  __aicore__ inline TopK(AscendC::TPipe& pipe, const TopKTiling& tiling) : tiling_(tiling) {
    const uint32_t pitch = row_pitch<T>(tiling.columns_per_step);
    pipe.InitBuffer(in_, buffers, pitch * sizeof(T));
    pipe.InitBuffer(values_, pitch * sizeof(float));
    // Of ReduceMax with an index: two numbers for each 256 bytes.
    pipe.InitBuffer(work_, round_up(2 * (pitch / floats_per_repeat + 1), floats_per_block) * 4);
    pipe.InitBuffer(largest_, floats_per_block * sizeof(float));
    pipe.InitBuffer(best_, round_up(tiling.k, floats_per_repeat) * sizeof(float));
    pipe.InitBuffer(best_ids_, round_up(tiling.k, floats_per_repeat) * sizeof(int32_t));
    pipe.InitBuffer(narrowed_, round_up(tiling.k, floats_per_repeat) * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR logits, GM_ADDR values, GM_ADDR ids) {
    logits_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(logits));
    values_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(values));
    ids_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids));
    for (uint32_t row = AscendC::GetBlockIdx(); row < tiling_.rows;
         row += AscendC::GetBlockNum()) {
      count_ = 0;
      for (uint32_t column = 0; column < tiling_.columns; column += tiling_.columns_per_step) {
        const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
        load(static_cast<uint64_t>(row) * tiling_.stride + column, columns);
        take_best(column, columns);
      }
      fill_up();
      store(row);
    }
  }

 private:
  static constexpr uint32_t buffers = 2;
  static constexpr uint32_t minus_infinity = 0xff800000u;

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

  __aicore__ inline void take_best(uint32_t column, uint32_t columns) {
    AscendC::LocalTensor<float> values = values_.Get<float>();
    AscendC::LocalTensor<float> largest = largest_.Get<float>();
    const AscendC::LocalTensor<uint32_t> index = largest.template ReinterpretCast<uint32_t>();
    // As many as a step has, at most k.
    for (uint32_t found = 0; found < smaller(tiling_.k, columns); ++found) {
      AscendC::ReduceMax(largest, values, work_.Get<float>(), columns, true);
      order<AscendC::HardEvent::V_S>();
      const float value = largest.GetValue(0);
      const uint32_t at = index.GetValue(1);
      const bool better = index.GetValue(0) != minus_infinity &&
                          (count_ < tiling_.k || value > best_.Get<float>().GetValue(count_ - 1));
      if (better) {
        insert(value, column + at);
        values.template ReinterpretCast<uint32_t>().SetValue(at, minus_infinity);
      }
      order<AscendC::HardEvent::S_V>();
      if (!better) break;
    }
  }

  // Behind those that are as large: they have smaller indices.
  __aicore__ inline void insert(float value, uint32_t id) {
    AscendC::LocalTensor<float> best = best_.Get<float>();
    AscendC::LocalTensor<int32_t> ids = best_ids_.Get<int32_t>();
    if (count_ < tiling_.k) ++count_;
    uint32_t place = count_ - 1;
    for (; place > 0 && best.GetValue(place - 1) < value; --place) {
      best.SetValue(place, best.GetValue(place - 1));
      ids.SetValue(place, ids.GetValue(place - 1));
    }
    best.SetValue(place, value);
    ids.SetValue(place, static_cast<int32_t>(id));
  }

  // All that is left is minus infinity.
  __aicore__ inline void fill_up() {
    AscendC::LocalTensor<int32_t> ids = best_ids_.Get<int32_t>();
    for (int32_t id = 0; count_ < tiling_.k; ++id) {
      bool taken = false;
      for (uint32_t i = 0; i < count_; ++i) taken = taken || ids.GetValue(i) == id;
      if (taken) continue;
      best_.Get<uint32_t>().SetValue(count_, minus_infinity);
      ids.SetValue(count_, id);
      ++count_;
    }
  }

  __aicore__ inline void store(uint32_t row) {
    const uint64_t at = static_cast<uint64_t>(row) * tiling_.k;
    order<AscendC::HardEvent::S_MTE3>();
    AscendC::DataCopyPad(ids_gm_[at], best_ids_.Get<int32_t>(),
                         AscendC::DataCopyExtParams{1, tiling_.k * 4, 0, 0, 0});
    if constexpr (wants_values) {
      order<AscendC::HardEvent::S_V>();
      narrow(narrowed_.Get<T>(), best_.Get<float>(), tiling_.k);
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
  uint32_t count_ = 0;
  AscendC::GlobalTensor<T> logits_gm_, values_gm_;
  AscendC::GlobalTensor<int32_t> ids_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> in_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> values_, work_, largest_, best_, best_ids_, narrowed_;
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
