#pragma once

#include "backend/ascend/kernels/row_math.h"

// The k largest of a row in descending order, equal ones by index. A row goes by steps: the vector unit
// finds the largest of a step, the scalar unit keeps it if it is among the k best so far, and so on until
// a step has nothing better.
namespace ridge::backend::ascend {

class Largest {
 public:
  static constexpr uint32_t minus_infinity = 0xff800000u;

  __aicore__ inline Largest(AscendC::TPipe& pipe, uint32_t most, uint32_t columns_per_step) {
    const uint32_t pitch = round_up(columns_per_step, floats_per_block);
    // Of ReduceMax with an index: two numbers for each 256 bytes.
    pipe.InitBuffer(work_, round_up(2 * (pitch / floats_per_repeat + 1), floats_per_block) * 4);
    pipe.InitBuffer(largest_, floats_per_block * sizeof(float));
    pipe.InitBuffer(best_, round_up(most, floats_per_repeat) * sizeof(float));
    pipe.InitBuffer(best_ids_, round_up(most, floats_per_repeat) * sizeof(int32_t));
  }

  // Of another row.
  __aicore__ inline void begin(uint32_t k) {
    k_ = k;
    count_ = 0;
  }

  // A step, which begins at `column` of the row; takes values out of it.
  __aicore__ inline void take(const AscendC::LocalTensor<float>& values, uint32_t column,
                              uint32_t columns) {
    AscendC::LocalTensor<float> largest = largest_.Get<float>();
    const AscendC::LocalTensor<uint32_t> index = largest.template ReinterpretCast<uint32_t>();
    // As many as a step has, at most k.
    for (uint32_t found = 0; found < smaller(k_, columns); ++found) {
      AscendC::ReduceMax(largest, values, work_.Get<float>(), columns, true);
      order<AscendC::HardEvent::V_S>();
      const float value = largest.GetValue(0);
      const uint32_t at = index.GetValue(1);
      const bool better = index.GetValue(0) != minus_infinity &&
                          (count_ < k_ || value > best_.Get<float>().GetValue(count_ - 1));
      if (better) {
        insert(value, column + at);
        values.template ReinterpretCast<uint32_t>().SetValue(at, minus_infinity);
      }
      order<AscendC::HardEvent::S_V>();
      if (!better) break;
    }
  }

  // All that is left is minus infinity.
  __aicore__ inline void fill_up() {
    AscendC::LocalTensor<int32_t> ids = best_ids_.Get<int32_t>();
    for (int32_t id = 0; count_ < k_; ++id) {
      bool taken = false;
      for (uint32_t i = 0; i < count_; ++i) taken = taken || ids.GetValue(i) == id;
      if (taken) continue;
      best_.Get<uint32_t>().SetValue(count_, minus_infinity);
      ids.SetValue(count_, id);
      ++count_;
    }
  }

  // Written by the scalar unit.
  __aicore__ inline AscendC::LocalTensor<float> values() { return best_.Get<float>(); }
  __aicore__ inline AscendC::LocalTensor<int32_t> ids() { return best_ids_.Get<int32_t>(); }

 private:
  // Behind those that are as large: they have smaller indices.
  __aicore__ inline void insert(float value, uint32_t id) {
    AscendC::LocalTensor<float> best = best_.Get<float>();
    AscendC::LocalTensor<int32_t> ids = best_ids_.Get<int32_t>();
    if (count_ < k_) ++count_;
    uint32_t place = count_ - 1;
    for (; place > 0 && best.GetValue(place - 1) < value; --place) {
      best.SetValue(place, best.GetValue(place - 1));
      ids.SetValue(place, ids.GetValue(place - 1));
    }
    best.SetValue(place, value);
    ids.SetValue(place, static_cast<int32_t>(id));
  }

  uint32_t k_ = 0;
  uint32_t count_ = 0;
  AscendC::TBuf<AscendC::TPosition::VECCALC> work_, largest_, best_, best_ids_;
};

}  // namespace ridge::backend::ascend
