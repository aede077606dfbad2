#include "backend/ascend/kernels/read_tiling.h"
#include "backend/ascend/kernels/tiling_data.h"

// cache[to] = cache[from] for each pair, in order: a later pair may take what an earlier one wrote.
// Each core copies its own bytes of the blocks for all pairs, so cores need not wait for each other.
namespace ridge::backend::ascend {

class CopyBlocks {
 public:
  __aicore__ inline CopyBlocks(AscendC::TPipe& pipe, const CopyBlocksTiling& tiling)
      : tiling_(tiling) {
    pipe.InitBuffer(bytes_, buffers, tiling.units_per_step * unit_bytes);
  }

  __aicore__ inline void run(GM_ADDR pairs, GM_ADDR cache) {
    AscendC::GlobalTensor<int32_t> pairs_gm;
    pairs_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(pairs), 2 * tiling_.pairs);
    cache_gm_.SetGlobalBuffer(cache);
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.units_per_core;
    const uint32_t last =
        smaller(first + tiling_.units_per_core, tiling_.planes * tiling_.units);
    for (uint32_t pair = 0; pair < tiling_.pairs; ++pair) {
      const uint32_t from = pairs_gm.GetValue(2 * pair);
      const uint32_t to = pairs_gm.GetValue(2 * pair + 1);
      if (pair > 0) wait_for_writes();
      for (uint32_t unit = first; unit < last;) {
        const uint32_t plane = unit / tiling_.units;
        const uint32_t within = unit % tiling_.units;
        const uint32_t count = smaller(smaller(tiling_.units_per_step, last - unit),
                                       tiling_.units - within);
        copy(place(plane, to, within), place(plane, from, within), count * unit_bytes);
        unit += count;
      }
    }
  }

 private:
  static constexpr uint32_t buffers = 4;
  static constexpr uint32_t unit_bytes = 32;

  __aicore__ inline uint64_t place(uint32_t plane, uint32_t block, uint32_t unit) const {
    const uint64_t blocks = static_cast<uint64_t>(plane) * tiling_.plane_blocks + block;
    return (blocks * tiling_.units + unit) * unit_bytes;
  }

  __aicore__ inline void wait_for_writes() {
    const auto written = AscendC::GetTPipePtr()->FetchEventID(AscendC::HardEvent::MTE3_MTE2);
    AscendC::SetFlag<AscendC::HardEvent::MTE3_MTE2>(written);
    AscendC::WaitFlag<AscendC::HardEvent::MTE3_MTE2>(written);
  }

  __aicore__ inline void copy(uint64_t to, uint64_t from, uint32_t bytes) {
    AscendC::LocalTensor<uint8_t> buffer = bytes_.AllocTensor<uint8_t>();
    AscendC::DataCopy(buffer, cache_gm_[from], bytes);
    bytes_.EnQue(buffer);
    buffer = bytes_.DeQue<uint8_t>();
    AscendC::DataCopy(cache_gm_[to], buffer, bytes);
    bytes_.FreeTensor(buffer);
  }

  const CopyBlocksTiling tiling_;
  AscendC::GlobalTensor<uint8_t> cache_gm_;
  AscendC::TQueBind<AscendC::TPosition::VECIN, AscendC::TPosition::VECOUT, buffers> bytes_;
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_copy_blocks(GM_ADDR pairs, GM_ADDR cache,
                                                        GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  CopyBlocks blocks(pipe, read_tiling<CopyBlocksTiling>(tiling));
  blocks.run(pairs, cache);
}
