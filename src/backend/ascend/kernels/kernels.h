#pragma once

#include "kernel_operator.h"

// All kernels: their entries, and the cores that run them. X(name, cores, parameters).
#define RIDGE_ASCEND_KERNELS_OF(X, suffix)                                                     \
  X(ridge_add_##suffix, AIV_ONLY, (GM_ADDR a, GM_ADDR b, GM_ADDR out, GM_ADDR tiling))         \
  X(ridge_rms_norm_##suffix, AIV_ONLY, (GM_ADDR x, GM_ADDR weight, GM_ADDR out, GM_ADDR tiling)) \
  X(ridge_add_rms_norm_##suffix, AIV_ONLY,                                                     \
    (GM_ADDR x, GM_ADDR residual, GM_ADDR weight, GM_ADDR out, GM_ADDR tiling))                \
  X(ridge_gated_activation_##suffix, AIV_ONLY, (GM_ADDR x, GM_ADDR out, GM_ADDR tiling))      \
  X(ridge_quantize_rows_##suffix, AIV_ONLY,                                                    \
    (GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR tiling))                                \
  X(ridge_route_##suffix, AIV_ONLY,                                                            \
    (GM_ADDR logits, GM_ADDR bias, GM_ADDR ids, GM_ADDR weights, GM_ADDR tiling))              \
  X(ridge_scale_products_##suffix, AIV_ONLY,                                                   \
    (GM_ADDR sums, GM_ADDR row_scales, GM_ADDR column_scales, GM_ADDR out, GM_ADDR tiling))    \
  X(ridge_top_k_##suffix, AIV_ONLY,                                                            \
    (GM_ADDR logits, GM_ADDR values, GM_ADDR ids, GM_ADDR tiling))                             \
  X(ridge_sample_##suffix, AIV_ONLY, (GM_ADDR logits, GM_ADDR ids, GM_ADDR tiling))            \
  RIDGE_ASCEND_ROPE_STORE_KV(X, suffix)

#define RIDGE_ASCEND_ROPE_STORE_KV(X, suffix)                                                  \
  X(ridge_rope_store_kv_##suffix, AIV_ONLY,                                                    \
    (GM_ADDR q, GM_ADDR k, GM_ADDR v, GM_ADDR positions, GM_ADDR slots, GM_ADDR rotations,     \
     GM_ADDR partners, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR tiling))

// Of one type into another.
#define RIDGE_ASCEND_SCALE_ROWS(X, suffix)          \
  X(ridge_scale_rows_##suffix, AIV_ONLY,            \
    (GM_ADDR x, GM_ADDR scales, GM_ADDR bias, GM_ADDR out, GM_ADDR tiling))

#define RIDGE_ASCEND_CUBE_KERNELS_OF(X, suffix)                                                 \
  X(ridge_attention_##suffix, MIX_AIC_1_2,                                                     \
    (GM_ADDR q, GM_ADDR k_cache, GM_ADDR v_cache, GM_ADDR query_starts,                        \
     GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR sinks, GM_ADDR out,                \
     GM_ADDR workspace, GM_ADDR tiling))                                                       \
  X(ridge_mla_attention_##suffix, MIX_AIC_1_2,                                                 \
    (GM_ADDR q_latent, GM_ADDR q_rope, GM_ADDR latents, GM_ADDR rotary_keys,                   \
     GM_ADDR query_starts, GM_ADDR context_lengths, GM_ADDR block_tables, GM_ADDR out,         \
     GM_ADDR workspace, GM_ADDR tiling))                                                       \
  X(ridge_linear_##suffix, AIC_ONLY,                                                           \
    (GM_ADDR x, GM_ADDR weight, GM_ADDR out, GM_ADDR tiling))                                  \
  X(ridge_expert_linear_##suffix, AIC_ONLY,                                                    \
    (GM_ADDR x, GM_ADDR weight, GM_ADDR starts, GM_ADDR out, GM_ADDR tiling))

#define RIDGE_ASCEND_QUANTIZED(X, suffix)                                                       \
  X(ridge_linear_##suffix, MIX_AIC_1_2,                                                        \
    (GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR out, GM_ADDR workspace,                 \
     GM_ADDR tiling))

#define RIDGE_ASCEND_QUANTIZED_EXPERTS(X, suffix)                                               \
  X(ridge_expert_linear_##suffix, MIX_AIC_1_2,                                                 \
    (GM_ADDR x, GM_ADDR codes, GM_ADDR scales, GM_ADDR starts, GM_ADDR out,                    \
     GM_ADDR workspace, GM_ADDR tiling))

#define RIDGE_ASCEND_KERNELS(X)                                                              \
  X(ridge_embed, AIV_ONLY, (GM_ADDR ids, GM_ADDR table, GM_ADDR out, GM_ADDR tiling))        \
  X(ridge_expert_scale_products_f32, AIV_ONLY,                                               \
    (GM_ADDR sums, GM_ADDR row_scales, GM_ADDR column_scales, GM_ADDR starts, GM_ADDR out,   \
     GM_ADDR tiling))                                                                        \
  X(ridge_combine_experts_f32, AIV_ONLY,                                                     \
    (GM_ADDR y, GM_ADDR places, GM_ADDR weights, GM_ADDR out, GM_ADDR tiling))               \
  X(ridge_sample_rows, AIV_ONLY, (GM_ADDR logits, GM_ADDR rows, GM_ADDR ids, GM_ADDR tiling)) \
  X(ridge_embed_quantized, AIV_ONLY,                                                         \
    (GM_ADDR ids, GM_ADDR table, GM_ADDR out, GM_ADDR tiling))                               \
  RIDGE_ASCEND_CUBE_KERNELS_OF(X, f16)                                                       \
  RIDGE_ASCEND_CUBE_KERNELS_OF(X, bf16)                                                      \
  RIDGE_ASCEND_QUANTIZED(X, i4)                                                              \
  RIDGE_ASCEND_QUANTIZED(X, i8)                                                              \
  RIDGE_ASCEND_QUANTIZED_EXPERTS(X, i4)                                                      \
  RIDGE_ASCEND_QUANTIZED_EXPERTS(X, i8)                                                      \
  X(ridge_linear_w8a8, AIC_ONLY, (GM_ADDR x, GM_ADDR weight, GM_ADDR out, GM_ADDR tiling))   \
  X(ridge_expert_linear_w8a8, AIC_ONLY,                                                      \
    (GM_ADDR x, GM_ADDR weight, GM_ADDR starts, GM_ADDR out, GM_ADDR tiling))                \
  X(ridge_sort_experts, AIV_ONLY,                                                            \
    (GM_ADDR ids, GM_ADDR starts, GM_ADDR rows, GM_ADDR places, GM_ADDR tiling))             \
  RIDGE_ASCEND_QUANTIZED(X, i4_few_rows)                                                     \
  RIDGE_ASCEND_QUANTIZED(X, i8_few_rows)                                                     \
  X(ridge_halve_rows, AIV_ONLY, (GM_ADDR x, GM_ADDR out, GM_ADDR scales, GM_ADDR tiling))    \
  RIDGE_ASCEND_SCALE_ROWS(X, f32_f32)                                                        \
  RIDGE_ASCEND_SCALE_ROWS(X, f32_f16)                                                        \
  RIDGE_ASCEND_SCALE_ROWS(X, f32_bf16)                                                       \
  RIDGE_ASCEND_SCALE_ROWS(X, f16_f32)                                                        \
  RIDGE_ASCEND_SCALE_ROWS(X, bf16_f32)                                                       \
  RIDGE_ASCEND_ROPE_STORE_KV(X, f32_f16)                                                     \
  RIDGE_ASCEND_ROPE_STORE_KV(X, f32_bf16)                                                    \
  RIDGE_ASCEND_KERNELS_OF(X, f16)    \
  RIDGE_ASCEND_KERNELS_OF(X, bf16)   \
  RIDGE_ASCEND_KERNELS_OF(X, f32)

#define RIDGE_DECLARE_KERNEL(name, cores, parameters) \
  extern "C" __global__ __aicore__ void name parameters;
RIDGE_ASCEND_KERNELS(RIDGE_DECLARE_KERNEL)
#undef RIDGE_DECLARE_KERNEL
