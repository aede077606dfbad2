#pragma once

#include <cstdint>

#include "backend/ascend/kernels/tiling_data.h"
#include "backend/ascend/soc.h"

// How each kernel's work is cut for a device: over its cores, and into steps that fit their local
// memories. All of it is decided here, on the host. There is at least one row, token or sequence.
// Functions throw unsupported for a shape that a kernel cannot take, saying what it could.
namespace ridge::backend::ascend {

template <typename Tiling>
struct Planned {
  Tiling tiling;
  uint32_t block_dim;
  uint64_t workspace_bytes = 0;  // of device memory that the kernel takes besides
};

struct RowShape {
  uint32_t rows;
  uint32_t columns;
  uint32_t element_bytes;  // of activations: 2 or 4
};

// ridge_rms_norm_*, and ridge_add_rms_norm_* with `adds`.
struct RmsNormShape {
  RowShape row;
  uint32_t x_stride;
  uint32_t residual_stride;  // with `adds`
  uint32_t out_stride;
  float epsilon;
  bool adds;
};
Planned<RmsNormTiling> plan_rms_norm(const Soc& soc, const RmsNormShape& shape);
// Whether rows of so many columns fit a core.
bool fits_rms_norm(uint32_t columns, uint32_t element_bytes, bool adds);

// ridge_gated_activation_*. `columns` are those of a run's half, F; a row of x has groups · 2F.
struct GatedActivationShape {
  RowShape row;
  uint32_t groups;
  uint32_t x_stride;
  uint32_t out_stride;
  GatedActivationTiling::Kind kind;
};
Planned<GatedActivationTiling> plan_gated_activation(const Soc& soc,
                                                     const GatedActivationShape& shape);

// ridge_add_*.
struct AddShape {
  RowShape row;
  uint32_t a_stride;
  uint32_t b_stride;
  uint32_t out_stride;
};
Planned<AddTiling> plan_add(const Soc& soc, const AddShape& shape);

// ridge_scale_rows_*; strides in elements of each side's type.
struct ScaleRowsShape {
  uint32_t rows;
  uint32_t columns;
  uint32_t x_bytes;  // of an element
  uint32_t out_bytes;
  uint32_t x_stride;
  uint32_t out_stride;
  float factor = 1;
  bool has_scales = false;
  bool has_bias = false;
  uint32_t padding = 0;  // zeros that are written behind each row; out has columns + padding
};
Planned<ScaleRowsTiling> plan_scale_rows(const Soc& soc, const ScaleRowsShape& shape);

// ridge_halve_rows. It writes zeros behind each row up to a multiple of 16 columns.
Planned<HalveRowsTiling> plan_halve_rows(const Soc& soc, uint32_t rows, uint32_t columns,
                                         uint32_t x_stride, uint32_t out_stride);

// ridge_top_k_*: k is at most 128 and not more than there are columns; values [rows, k] of the logits'
// type and ids [rows, k] of int32 are contiguous. ridge_sample_* with k = 1.
struct TopKShape {
  RowShape row;
  uint32_t k;
  uint32_t stride;
};
Planned<TopKTiling> plan_top_k(const Soc& soc, const TopKShape& shape);

// ridge_route_*: ids [rows, top_k] of int32 and weights [rows, top_k] of float32.
struct RouteShape {
  RowShape row;  // columns are experts
  uint32_t top_k;
  uint32_t groups;
  uint32_t top_groups;
  RouteTiling::Scoring scoring;
  bool normalizes;
  bool has_bias;
  float scale;
  uint32_t logits_stride;
  uint32_t ids_stride;
  uint32_t weights_stride;
};
Planned<RouteTiling> plan_route(const Soc& soc, const RouteShape& shape);

// ridge_sort_experts: of `choices` ids, contiguous, of which a row of x has choices_of_row, or 1.
Planned<SortExpertsTiling> plan_sort_experts(uint32_t experts, uint32_t choices,
                                             uint32_t choices_of_row);

// ridge_combine_experts_f32.
struct CombineExpertsShape {
  uint32_t rows;
  uint32_t columns;
  uint32_t top_k;
  uint32_t weights_stride;
  uint32_t y_stride;
  uint32_t out_stride;
};
Planned<CombineExpertsTiling> plan_combine_experts(const Soc& soc,
                                                   const CombineExpertsShape& shape);

// ridge_embed.
struct EmbedShape {
  uint32_t tokens;
  uint32_t row_bytes;
  uint32_t table_stride_bytes;
  uint32_t out_stride_bytes;
};
Planned<EmbedTiling> plan_embed(const Soc& soc, const EmbedShape& shape);

// A row of a quantised table, as ridge_embed_quantized reads it and pack_table writes it.
struct TableRow {
  uint32_t group;
  bool has_minimum;
  uint32_t padded_groups;
  uint32_t scales_at;
  uint32_t bytes;
};
TableRow table_row(const QuantizedFormat& format, uint32_t columns);
Planned<EmbedQuantizedTiling> plan_embed_quantized(const Soc& soc, const TableRow& row,
                                                   uint32_t tokens, uint32_t columns,
                                                   uint32_t out_stride);

// ridge_sample_rows.
Planned<SampleRowsTiling> plan_sample_rows(const Soc& soc, uint32_t rows, uint32_t columns,
                                           uint32_t stride);

// ridge_quantize_rows_*.
Planned<QuantizeRowsTiling> plan_quantize_rows(const Soc& soc, const RowShape& row,
                                               uint32_t x_stride, uint32_t codes_stride);

// ridge_rope_store_kv_*. Without a cache k is only rotated. MLA's rotary key is a k and its latent a v
// of one head, with or without rotation.
struct RopeStoreKvShape {
  uint32_t tokens;
  uint32_t heads;
  uint32_t kv_heads;
  uint32_t head_dim;
  uint32_t value_dim;  // of v, where it is stored
  uint32_t rotary_dim;
  uint32_t element_bytes;
  uint32_t q_stride;
  uint32_t k_stride;
  uint32_t v_stride;
  bool stores;
  uint32_t block_tokens;
  uint32_t k_block_stride;
  uint32_t k_token_stride;
  uint32_t v_block_stride;
  uint32_t v_token_stride;
};
Planned<RopeStoreKvTiling> plan_rope_store_kv(const Soc& soc, const RopeStoreKvShape& shape);

// ridge_linear_*: values of two bytes.
struct LinearShape {
  uint32_t m;
  uint32_t n;
  uint32_t k;
  uint32_t x_stride;
  uint32_t out_stride;
  LinearTiling::Layout layout;
  bool out_floats = false;  // out is float32
  // Several W, one after the other. By rows (ridge_expert_linear_*): group g has rows starts[g] to
  // starts[g + 1] of x and out, m are all of them. By columns (ridge_linear_*): columns g · k on of x
  // and g · n on of out.
  uint32_t groups = 1;
  LinearTiling::Grouping grouping = LinearTiling::by_rows;
  // A row's sums have one order whatever the other rows are: no kernels of their own for few rows.
  bool batch_invariant = false;
};
Planned<LinearTiling> plan_linear(const Soc& soc, const LinearShape& shape);
// ridge_linear_w8a8: x and W are int8, out is int32, which ridge_scale_products_* turns into numbers.
Planned<LinearTiling> plan_linear_w8a8(const Soc& soc, const LinearShape& shape);
struct ScaleProductsShape {
  RowShape row;  // element_bytes of out
  uint32_t sums_stride;
  uint32_t out_stride;
  uint32_t experts = 1;  // ridge_expert_scale_products_f32
};
Planned<ScaleProductsTiling> plan_scale_products(const Soc& soc, const ScaleProductsShape& shape);

// Linears with a quantised weight: `kernel` says which; it has `starts` where groups are of rows. x is half, k a multiple of the type's blocks.
struct QuantizedLinearPlan : Planned<QuantizedLinearTiling> {
  const char* kernel;
};
QuantizedLinearPlan plan_quantized_linear(const Soc& soc, const LinearShape& shape,
                                          const QuantizedFormat& format);

// What both kinds of attention take: parts of keys and values that are multiples of 16 numbers, keys up
// to 576 in all, values up to 512. MLA's latent is a part of the key and the value too.
bool fits_attention(uint32_t key_part, uint32_t other_key_part, uint32_t value_dim);

// ridge_attention_*: causal, over a paged cache of the same type.
struct AttentionShape {
  uint32_t sequences;
  uint32_t longest_query;  // tokens that a sequence has in this step, at most
  uint32_t heads;
  uint32_t kv_heads;
  uint32_t key_dim;
  uint32_t value_dim;
  uint32_t q_stride;
  uint32_t out_stride;
  uint32_t blocks_per_sequence;
  uint32_t block_tokens;
  uint32_t k_block_stride;
  uint32_t k_token_stride;
  uint32_t v_block_stride;
  uint32_t v_token_stride;
  float scale;
  uint32_t window = 0;    // as in ops.h
  float soft_cap = 0;
  bool has_sinks = false;
  // As of linears. Tiles of keys begin at the first that a unit's tokens see; with a window each token is
  // a unit of its own then.
  bool batch_invariant = false;
};
Planned<AttentionTiling> plan_attention(const Soc& soc, const AttentionShape& shape);

// ridge_mla_attention_*: all heads see the one latent (which is the value too) and rotary key of a
// token.
struct MlaAttentionShape {
  uint32_t sequences;
  uint32_t longest_query;
  uint32_t heads;
  uint32_t latent_dim;
  uint32_t rotary_dim;
  uint32_t q_latent_stride;
  uint32_t q_rope_stride;
  uint32_t out_stride;
  uint32_t blocks_per_sequence;
  uint32_t block_tokens;
  uint32_t latent_block_stride;
  uint32_t latent_token_stride;
  uint32_t rotary_block_stride;
  uint32_t rotary_token_stride;
  float scale;
};
Planned<AttentionTiling> plan_mla_attention(const Soc& soc, const MlaAttentionShape& shape);

}  // namespace ridge::backend::ascend
