#include "backend/ascend/kernels/group_scales.h"

// out[t] = row ids[t] of a quantised table (pack_table of ../layouts.h has its rows) as float32: codes ·
// scale, and plus a minimum where the type has some. Only the last sum rounds.
namespace ridge::backend::ascend {

class EmbedQuantized {
 public:
  __aicore__ inline EmbedQuantized(AscendC::TPipe& pipe, const EmbedQuantizedTiling& tiling)
      : tiling_(tiling) {
    const uint32_t columns = tiling.columns_per_step;
    const uint32_t groups = round_up(columns / tiling.group, floats_per_block);
    pipe.InitBuffer(codes_in_, buffers, columns);
    pipe.InitBuffer(scales_in_, buffers, 2 * groups * sizeof(float));
    pipe.InitBuffer(out_, buffers, columns * sizeof(float));
    pipe.InitBuffer(halves_, columns * sizeof(half));
    pipe.InitBuffer(blocks_, groups * floats_per_block * sizeof(float));
  }

  __aicore__ inline void run(GM_ADDR ids, GM_ADDR table, GM_ADDR out) {
    AscendC::GlobalTensor<int32_t> ids_gm;
    ids_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int32_t*>(ids), tiling_.tokens);
    out_gm_.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(out));
    const uint32_t steps =
        (tiling_.columns + tiling_.columns_per_step - 1) / tiling_.columns_per_step;
    for (uint32_t unit = AscendC::GetBlockIdx(); unit < tiling_.tokens * steps;
         unit += AscendC::GetBlockNum()) {
      const uint32_t token = unit / steps;
      const uint32_t column = unit % steps * tiling_.columns_per_step;
      const uint32_t columns = smaller(tiling_.columns_per_step, tiling_.columns - column);
      load(table + static_cast<uint64_t>(ids_gm.GetValue(token)) * tiling_.row_bytes, column,
           columns);
      compute(columns);
      store(static_cast<uint64_t>(token) * tiling_.out_stride + column, columns);
    }
  }

 private:
  static constexpr uint32_t buffers = 2;

  __aicore__ inline void load(GM_ADDR row, uint32_t column, uint32_t columns) {
    AscendC::GlobalTensor<int8_t> codes_gm;
    codes_gm.SetGlobalBuffer(reinterpret_cast<__gm__ int8_t*>(row));
    AscendC::GlobalTensor<float> scales_gm;
    scales_gm.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(row + tiling_.scales_at));
    AscendC::LocalTensor<int8_t> codes = codes_in_.AllocTensor<int8_t>();
    AscendC::DataCopyPad(codes, codes_gm[column], AscendC::DataCopyExtParams{1, columns, 0, 0, 0},
                         AscendC::DataCopyPadExtParams<int8_t>{false, 0, 0, 0});
    codes_in_.EnQue(codes);
    // In eights, as Brcb reads them; so many stand in a row.
    const uint32_t groups = round_up(columns / tiling_.group, floats_per_block);
    const uint32_t most_groups = round_up(tiling_.columns_per_step / tiling_.group, floats_per_block);
    const AscendC::DataCopyExtParams shape{1, static_cast<uint32_t>(groups * sizeof(float)), 0, 0,
                                           0};
    const AscendC::DataCopyPadExtParams<float> bare{false, 0, 0, 0};
    AscendC::LocalTensor<float> scales = scales_in_.AllocTensor<float>();
    AscendC::DataCopyPad(scales, scales_gm[column / tiling_.group], shape, bare);
    if (tiling_.has_minimum) {
      AscendC::DataCopyPad(scales[most_groups],
                           scales_gm[tiling_.padded_groups + column / tiling_.group], shape, bare);
    }
    scales_in_.EnQue(scales);
  }

  __aicore__ inline void compute(uint32_t columns) {
    const uint32_t group = tiling_.group;
    const uint32_t groups = columns / group;
    const uint32_t most_groups = round_up(tiling_.columns_per_step / group, floats_per_block);
    const AscendC::LocalTensor<half> halves = halves_.Get<half>();
    const AscendC::LocalTensor<float> blocks = blocks_.Get<float>();
    AscendC::LocalTensor<int8_t> codes = codes_in_.DeQue<int8_t>();
    AscendC::LocalTensor<float> out = out_.AllocTensor<float>();
    AscendC::Cast(halves, codes, AscendC::RoundMode::CAST_NONE, columns);
    AscendC::PipeBarrier<PIPE_V>();
    codes_in_.FreeTensor(codes);
    AscendC::Cast(out, halves, AscendC::RoundMode::CAST_NONE, columns);
    AscendC::LocalTensor<float> scales = scales_in_.DeQue<float>();
    spread(blocks, scales, groups);
    multiply_by_blocks(out, out, blocks, groups, group);
    AscendC::PipeBarrier<PIPE_V>();
    if (tiling_.has_minimum) {
      spread(blocks, scales[most_groups], groups);
      AscendC::Add(out, out, blocks, static_cast<uint64_t>(group), static_cast<uint8_t>(groups),
                   AscendC::BinaryRepeatParams{
                       1, 1, 0, static_cast<uint8_t>(group / floats_per_block),
                       static_cast<uint8_t>(group / floats_per_block), 1});
      AscendC::PipeBarrier<PIPE_V>();
    }
    scales_in_.FreeTensor(scales);
    out_.EnQue(out);
  }

  // A block of 32 bytes for each value.
  __aicore__ inline void spread(const AscendC::LocalTensor<float>& blocks,
                                const AscendC::LocalTensor<float>& values, uint32_t count) {
    AscendC::Brcb(blocks, values, round_up(count, floats_per_block) / floats_per_block,
                  AscendC::BrcbRepeatParams{1, 8});
    AscendC::PipeBarrier<PIPE_V>();
  }

  __aicore__ inline void store(uint64_t at, uint32_t columns) {
    AscendC::LocalTensor<float> out = out_.DeQue<float>();
    const uint32_t bytes = columns * sizeof(float);
    AscendC::DataCopyPad(out_gm_[at], out, AscendC::DataCopyExtParams{1, bytes, 0, 0, 0});
    out_.FreeTensor(out);
  }

  const EmbedQuantizedTiling tiling_;
  AscendC::GlobalTensor<float> out_gm_;
  AscendC::TQue<AscendC::TPosition::VECIN, buffers> codes_in_, scales_in_;
  AscendC::TQue<AscendC::TPosition::VECOUT, buffers> out_;
  AscendC::TBuf<AscendC::TPosition::VECCALC> halves_, blocks_;
};

}  // namespace ridge::backend::ascend

extern "C" __global__ __aicore__ void ridge_embed_quantized(GM_ADDR ids, GM_ADDR table, GM_ADDR out,
                                                            GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
  using namespace ridge::backend::ascend;
  AscendC::TPipe pipe;
  EmbedQuantized embed(pipe, read_tiling<EmbedQuantizedTiling>(tiling));
  embed.run(ids, table, out);
}
