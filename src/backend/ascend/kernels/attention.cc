#include "backend/ascend/kernels/attention_cube.h"
#include "backend/ascend/kernels/attention_vector.h"

namespace ridge::backend::ascend {

template <typename T>
__aicore__ inline void attention(const AttentionSources& from, GM_ADDR query_starts,
                                 GM_ADDR context_lengths, GM_ADDR sinks, GM_ADDR out,
                                 GM_ADDR workspace, GM_ADDR tiling_address) {
  const AttentionTiling tiling = read_tiling<AttentionTiling>(tiling_address);
  AscendC::TPipe pipe;
  if ASCEND_IS_AIC {
    AttentionCube<T> cube(pipe, tiling, workspace);
    cube.open(from);
    for_each_unit(tiling, AscendC::GetBlockIdx(), query_starts, context_lengths, cube);
  }
  if ASCEND_IS_AIV {
    AttentionVector<T> vector(pipe, tiling, workspace);
    vector.open(sinks, out);
    for_each_unit(tiling, AscendC::GetBlockIdx() / 2, query_starts, context_lengths, vector);
  }
}

}  // namespace ridge::backend::ascend

#define RIDGE_ATTENTION(suffix, T)                                                               \
  extern "C" __global__ __aicore__ void ridge_attention_##suffix(                                \
      GM_ADDR q, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR query_starts,                         \
      GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR sinks, GM_ADDR out,                 \
      GM_ADDR workspace, GM_ADDR tiling) {                                                       \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                           \
    ridge::backend::ascend::attention<T>({{q, q}, {k_cache, k_cache}, v_cache, block_tables},    \
                                         query_starts, context_lengths, sinks, out, workspace,   \
                                         tiling);                                                \
  }                                                                                              \
  extern "C" __global__ __aicore__ void ridge_mla_attention_##suffix(                            \
      GM_ADDR q_latent, GM_ADDR q_rope, GM_ADDR latents, GM_ADDR rotary_keys,                    \
      GM_ADDR query_starts, GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR out,          \
      GM_ADDR workspace, GM_ADDR tiling) {                                                       \
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIC_1_2);                                           \
    ridge::backend::ascend::attention<T>(                                                        \
        {{q_latent, q_rope}, {latents, rotary_keys}, latents, block_tables}, query_starts,       \
        context_lengths, nullptr, out, workspace, tiling);                                       \
  }

RIDGE_ATTENTION(f16, half)
RIDGE_ATTENTION(bf16, bfloat16_t)
