#include "backend/ascend/kernels/row_math.h"
#include "backend/ascend/kernels/tiling_data.h"

// Choices of experts (ids[tokens, top_k]) in the order of the experts, so that each expert's rows of x
// lie together: starts[e] is the place of the first that chose e, rows[place] the row of x that
// belongs there, places[choice] where a choice went. One core counts and places by its scalar unit.
namespace ridge::backend::ascend {

class SortExperts {
 public:
  __aicore__ inline SortExperts(AscendC::TPipe& pipe, const SortExpertsTiling& tiling)
      : tiling_(tiling) {
    pipe.InitBuffer(next_, round_up(tiling.experts + 1, floats_per_block) * 4);
    pipe.InitBuffer(rows_, round_up(tiling.choices, floats_per_block) * 4);
    pipe.InitBuffer(places_, sort_experts_step * 4);
  }

  __aicore__ inline void run(GM_ADDR ids, GM_ADDR starts, GM_ADDR rows, GM_ADDR places) {
    AscendC::GlobalTensor<int32_t> ids_gm, starts_gm, rows_gm, places_gm;
    ids_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids), tiling_.choices);
    starts_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(starts), tiling_.experts + 1);
    rows_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(rows), tiling_.choices);
    places_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(places), tiling_.choices);
    AscendC::LocalTensor<int32_t> next = next_.Get<int32_t>();
    for (uint32_t e = 0; e <= tiling_.experts; ++e) next.SetValue(e, 0);
    for (uint32_t c = 0; c < tiling_.choices; ++c) {
      const uint32_t behind = ids_gm.GetValue(c) + 1;
      next.SetValue(behind, next.GetValue(behind) + 1);
    }
    for (uint32_t e = 0; e < tiling_.experts; ++e) {
      next.SetValue(e + 1, next.GetValue(e) + next.GetValue(e + 1));
    }
    store(starts_gm, next, tiling_.experts + 1);
    // From now on, where the next choice of each expert goes.
    AscendC::LocalTensor<int32_t> sorted = rows_.Get<int32_t>();
    AscendC::LocalTensor<int32_t> placed = places_.Get<int32_t>();
    for (uint32_t first = 0; first < tiling_.choices; first += sort_experts_step) {
      const uint32_t count = smaller(sort_experts_step, tiling_.choices - first);
      for (uint32_t i = 0; i < count; ++i) {
        const uint32_t expert = ids_gm.GetValue(first + i);
        const int32_t place = next.GetValue(expert);
        next.SetValue(expert, place + 1);
        placed.SetValue(i, place);
        sorted.SetValue(place, static_cast<int32_t>((first + i) / tiling_.choices_of_row));
      }
      store(places_gm[first], placed, count);
    }
    store(rows_gm, sorted, tiling_.choices);
  }

 private:
  __aicore__ inline void store(const AscendC::GlobalTensor<int32_t>& to,
                               const AscendC::LocalTensor<int32_t>& from, uint32_t count) {
    order<AscendC::HardEvent::S_MTE3>();
    AscendC::DataCopyPad(to, from, AscendC::DataCopyExtParams{1, count * 4, 0, 0, 0});
    order<AscendC::HardEvent::MTE3_S>();
  }

  const SortExpertsTiling tiling_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> next_, rows_, places_;
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_sort_experts(GM_ADDR ids, GM_ADDR starts, GM_ADDR rows,
                                                         GM_ADDR places, GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  SortExperts sort(pipe, read_tiling<SortExpertsTiling>(tiling));
  sort.run(ids, starts, rows, places);
}
