#include "backend/ascend/kernels/read_tiling.h"
#include "backend/ascend/kernels/tiling_data.h"

// out[t] = table[ids[t]]: rows of bytes, of whatever type the table is, or a part of its rows.
namespace ridge::backend::ascend {

class Embed {
 public:
  __aicore__ inline Embed(AscendC::TPipe& pipe, const EmbedTiling& tiling) : tiling_(tiling) {
    pipe.InitBuffer(rows_, buffers, tiling.bytes_per_step);
  }

  __aicore__ inline void run(GM_ADDR ids, GM_ADDR table, GM_ADDR out) {
    AscendC::GlobalTensor<int32_t> ids_gm;
    ids_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids), tiling_.tokens);
    table_gm_.SetGlobalBuffer(table);
    out_gm_.SetGlobalBuffer(out);
    const uint32_t first = AscendC::GetBlockIdx() * tiling_.tokens_per_core;
    const uint32_t last = smaller(first + tiling_.tokens_per_core, tiling_.tokens);
    for (uint32_t token = first; token < last; ++token) {
      const uint64_t from = static_cast<uint64_t>(ids_gm.GetValue(token)) * tiling_.table_stride_bytes;
      const uint64_t to = static_cast<uint64_t>(token) * tiling_.out_stride_bytes;
      for (uint32_t done = 0; done < tiling_.row_bytes; done += tiling_.bytes_per_step) {
        copy(to + done, from + done, smaller(tiling_.bytes_per_step, tiling_.row_bytes - done));
      }
    }
  }

 private:
  static constexpr uint32_t buffers = 4;

  __aicore__ inline void copy(uint64_t to, uint64_t from, uint32_t bytes) {
    const AscendC::DataCopyExtParams shape{1, bytes, 0, 0, 0};
    AscendC::LocalTensor<uint8_t> row = rows_.AllocTensor<uint8_t>();
    AscendC::DataCopyPad(row, table_gm_[from], shape,
                         AscendC::DataCopyPadExtParams<uint8_t>{false, 0, 0, 0});
    rows_.EnQue(row);
    row = rows_.DeQue<uint8_t>();
    AscendC::DataCopyPad(out_gm_[to], row, shape);
    rows_.FreeTensor(row);
  }

  const EmbedTiling tiling_;
  AscendC::GlobalTensor<uint8_t> table_gm_, out_gm_;
  AscendC::TQueBind<AscendC::TPosition::VECIN, AscendC::TPosition::VECOUT, buffers> rows_;
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_embed(GM_ADDR ids, GM_ADDR table, GM_ADDR out,
                                                  GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  Embed embed(pipe, read_tiling<EmbedTiling>(tiling));
  embed.run(ids, table, out);
}
