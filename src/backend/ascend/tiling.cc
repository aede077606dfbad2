#include "backend/ascend/tiling.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

// As row_pitch in kernels/row_math.h.
uint32_t row_pitch(uint32_t columns, uint32_t element_bytes) {
  return up_to(columns, std::max(32 / element_bytes, 8u));
}

[[noreturn]] void too_wide(const char* kernel, uint32_t columns, uint32_t bytes) {
  throw Error(ErrorCode::unsupported,
              fmt::format("{}: rows of {} columns need {} bytes of UB; an Ascend core has {}",
                          kernel, columns, bytes, usable_unified_buffer_bytes));
}

// Rows of one step: as many as make a transfer of full speed, but not more than a core has, nor than
// fit beside `fixed` bytes at `bytes_per_row` each.
uint32_t rows_per_step(uint32_t rows_per_core, uint32_t row_bytes, uint32_t bytes_per_row,
                       uint32_t fixed) {
  const uint32_t room = (usable_unified_buffer_bytes - fixed) / bytes_per_row;
  return std::max(1u, std::min({rows_per_core, room, up(full_speed_bytes, row_bytes),
                                most_rows_per_copy}));
}

// What both kinds of attention share, once the tiling says where keys and values are.
Planned<AttentionTiling> cut_attention(const Soc& soc, AttentionTiling tiling,
                                       uint32_t longest_query, bool has_single_tokens = false) {
  if (!fits_attention(tiling.keys[0].dim, tiling.keys[1].dim, tiling.value_dim)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("attention: keys of {} values, values of {}; the Ascend kernel takes "
                            "multiples of 16 up to {} and {}",
                            tiling.keys[0].dim + tiling.keys[1].dim, tiling.value_dim, attention_key_dim, attention_value_dim));
  }
  const uint32_t parts = up(tiling.group, attention_rows);
  tiling.heads_per_unit = up(tiling.group, parts);
  tiling.q_tokens = has_single_tokens ? 1
                                      : std::min(attention_rows / tiling.heads_per_unit,
                                                 std::max(1u, longest_query));
  uint32_t widest = tiling.value_token_stride;
  for (const AttentionKeys& keys : tiling.keys) {
    widest = std::max({widest, keys.token_stride, tiling.q_tokens > 1 ? keys.q_stride : 0});
  }
  if (widest > most_stride) {
    throw Error(ErrorCode::unsupported,
                fmt::format("attention: queries or keys {} values apart; an Ascend core copies rows "
                            "at most {} apart",
                            widest, most_stride));
  }
  const uint32_t units =
      tiling.sequences * up(longest_query, tiling.q_tokens) * tiling.kv_heads * parts;
  const uint32_t block_dim = std::max(1u, std::min(units, soc.cube_cores));
  const uint64_t slot_bytes =
      attention_rows * (attention_key_tile * (4 + 2) + uint64_t{tiling.value_dim} * 4);
  return {tiling, block_dim, block_dim * attention_slots * slot_bytes};
}

}  // namespace

namespace {

struct RmsNormMemory {
  uint32_t fixed;
  uint32_t per_row_once;  // with one buffer of each row that comes or goes
  uint32_t per_row_twice;
};

RmsNormMemory memory_of_rms_norm(uint32_t columns, uint32_t element_bytes, bool adds) {
  const uint32_t pitch = row_pitch(columns, element_bytes);
  // As the kernel's buffers: of x and out, and of the residual both ways; values of a step, the
  // weight, the squares and ReduceSum's needs of one row. Sums take a block for each row.
  const uint32_t transfers = (adds ? 4 : 2) * pitch * element_bytes;
  const uint32_t others = pitch * 4 + 4 + 32;
  const uint32_t fixed = 2 * pitch * 4 + up_to(pitch / 64 + 1, 8) * 4 + 8 * 4 + 8 * 32;
  return {fixed, transfers + others, 2 * transfers + others};
}

}  // namespace

bool fits_rms_norm(uint32_t columns, uint32_t element_bytes, bool adds) {
  const RmsNormMemory memory = memory_of_rms_norm(columns, element_bytes, adds);
  return memory.fixed + memory.per_row_once <= usable_unified_buffer_bytes;
}

Planned<RmsNormTiling> plan_rms_norm(const Soc& soc, const RmsNormShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  const uint32_t pitch = row_pitch(columns, element_bytes);
  const auto [fixed, once, twice] = memory_of_rms_norm(columns, element_bytes, shape.adds);
  if (fixed + once > usable_unified_buffer_bytes) too_wide("rms_norm", columns, fixed + once);
  RmsNormTiling tiling{};
  tiling.buffers = fixed + twice <= usable_unified_buffer_bytes ? 2 : 1;
  const uint32_t per_row = tiling.buffers == 2 ? twice : once;
  tiling.rows = rows;
  tiling.columns = columns;
  tiling.rows_per_core = up(rows, soc.vector_cores);
  tiling.rows_per_step = rows_per_step(tiling.rows_per_core, pitch * element_bytes, per_row, fixed);
  tiling.x_stride = shape.x_stride;
  tiling.residual_stride = shape.residual_stride;
  tiling.out_stride = shape.out_stride;
  tiling.epsilon = shape.epsilon;
  tiling.inverse_columns = 1.0f / static_cast<float>(columns);
  return {tiling, up(rows, tiling.rows_per_core)};
}

Planned<GatedActivationTiling> plan_gated_activation(const Soc& soc,
                                                     const GatedActivationShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  const uint32_t runs = rows * shape.groups;
  // Gate, up and out twice each; three rows of float32.
  const uint32_t bytes_per_element = 6 * element_bytes + 3 * 4;
  const uint32_t most_columns =
      usable_unified_buffer_bytes / bytes_per_element / 64 * 64;
  GatedActivationTiling tiling{};
  tiling.runs = runs;
  tiling.groups = shape.groups;
  tiling.columns = columns;
  tiling.runs_per_core = up(runs, soc.vector_cores);
  tiling.columns_per_step = std::min(columns, most_columns);
  const uint32_t pitch = row_pitch(tiling.columns_per_step, element_bytes);
  const bool even = shape.groups == 1 || (shape.x_stride == shape.groups * 2 * columns &&
                                          shape.out_stride == shape.groups * columns);
  tiling.runs_per_step =
      even && tiling.columns_per_step == columns
          ? rows_per_step(tiling.runs_per_core, pitch * element_bytes, pitch * bytes_per_element, 0)
          : 1;
  tiling.x_stride = shape.x_stride;
  tiling.out_stride = shape.out_stride;
  tiling.kind = shape.kind;
  return {tiling, up(runs, tiling.runs_per_core)};
}

Planned<AddTiling> plan_add(const Soc& soc, const AddShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  // a, b and out twice; one row of each as float32.
  const uint32_t per_element = 6 * element_bytes;
  const uint32_t most_columns = usable_unified_buffer_bytes / (per_element + 2 * 4) / 64 * 64;
  AddTiling tiling{};
  tiling.rows = rows;
  tiling.columns = columns;
  tiling.rows_per_core = up(rows, soc.vector_cores);
  tiling.columns_per_step = std::min(columns, most_columns);
  const uint32_t pitch = row_pitch(tiling.columns_per_step, element_bytes);
  tiling.rows_per_step =
      tiling.columns_per_step == columns
          ? rows_per_step(tiling.rows_per_core, pitch * element_bytes, pitch * per_element,
                          pitch * 2 * 4)
          : 1;
  tiling.a_stride = shape.a_stride;
  tiling.b_stride = shape.b_stride;
  tiling.out_stride = shape.out_stride;
  return {tiling, up(rows, tiling.rows_per_core)};
}

Planned<ScaleRowsTiling> plan_scale_rows(const Soc& soc, const ScaleRowsShape& shape) {
  // x and out twice; one row of float32, and the bias twice.
  const uint32_t per_element = 2 * (shape.x_bytes + shape.out_bytes);
  const uint32_t per_column = 4 + (shape.has_bias ? 2 * 4 : 0);
  const uint32_t most_columns =
      usable_unified_buffer_bytes / (per_element + per_column) / 64 * 64;
  // Few rows are cut into columns for the cores that would else have none.
  constexpr uint32_t fewest_columns = 1024;
  const uint32_t cores_of_row = std::max(1u, soc.vector_cores / shape.rows);
  const uint32_t share = up_to(up(shape.columns, cores_of_row), 64);
  ScaleRowsTiling tiling{};
  tiling.rows = shape.rows;
  tiling.columns = shape.columns;
  if (shape.padding > 0 && shape.columns + shape.padding > most_columns) {
    throw Error(ErrorCode::unsupported,
                fmt::format("scale_rows: zeros behind rows of {} columns; an Ascend core adds them to "
                            "rows of up to {}",
                            shape.columns, most_columns));
  }
  tiling.columns_per_step =
      shape.padding > 0 ? shape.columns
                        : std::min({shape.columns, most_columns, std::max(share, fewest_columns)});
  tiling.padding = shape.padding;
  const uint32_t pitch = row_pitch(tiling.columns_per_step + shape.padding,
                                   std::min(shape.x_bytes, shape.out_bytes));
  tiling.rows_per_step = rows_per_step(up(shape.rows, soc.vector_cores),
                                       pitch * std::max(shape.x_bytes, shape.out_bytes),
                                       pitch * per_element, pitch * per_column);
  const uint32_t units =
      up(shape.rows, tiling.rows_per_step) * up(shape.columns, tiling.columns_per_step);
  tiling.units_per_core = up(units, soc.vector_cores);
  tiling.x_stride = shape.x_stride;
  tiling.out_stride = shape.out_stride;
  tiling.factor = shape.factor;
  tiling.has_scales = shape.has_scales ? 1 : 0;
  tiling.has_bias = shape.has_bias ? 1 : 0;
  return {tiling, up(units, tiling.units_per_core)};
}

Planned<HalveRowsTiling> plan_halve_rows(const Soc& soc, uint32_t rows, uint32_t columns,
                                         uint32_t x_stride, uint32_t out_stride) {
  // x twice and once more as it is made smaller, halves twice: 16 bytes each, of 192 KB.
  constexpr uint32_t most_columns = 8192;
  RIDGE_ASSERT(out_stride >= up_to(columns, 16));
  HalveRowsTiling tiling{};
  tiling.rows = rows;
  tiling.columns = columns;
  tiling.rows_per_core = up(rows, soc.vector_cores);
  tiling.columns_per_step = std::min(columns, most_columns);
  tiling.x_stride = x_stride;
  tiling.out_stride = out_stride;
  return {tiling, up(rows, tiling.rows_per_core)};
}

Planned<TopKTiling> plan_top_k(const Soc& soc, const TopKShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  if (shape.k == 0 || shape.k > most_top_k || shape.k > columns) {
    throw Error(ErrorCode::unsupported,
                fmt::format("top_k: the {} largest of {}; the Ascend kernel gives 1 to {}", shape.k,
                            columns, most_top_k));
  }
  // Logits twice and as float32, with what ReduceMax needs, take 12 KiB for each thousand.
  TopKTiling tiling{rows, columns, shape.k, std::min(columns, 8192u), shape.stride};
  return {tiling, std::min(rows, soc.vector_cores)};
}

Planned<SampleRowsTiling> plan_sample_rows(const Soc& soc, uint32_t rows, uint32_t columns,
                                           uint32_t stride) {
  // Sums of 2048 digits below 1024 are whole numbers that float32 holds. They take ten times 8 KiB.
  return {{rows, columns, std::min(columns, 2048u), stride}, std::min(rows, soc.vector_cores)};
}

Planned<RouteTiling> plan_route(const Soc& soc, const RouteShape& shape) {
  const auto& [rows, experts, element_bytes] = shape.row;
  constexpr uint32_t most_experts = 4096;
  if (experts > most_experts || shape.top_k > experts || experts % shape.groups != 0) {
    throw Error(ErrorCode::unsupported,
                fmt::format("route: {} of {} experts in {} groups; the Ascend kernel takes up to {} "
                            "experts, in groups of one size",
                            shape.top_k, experts, shape.groups, most_experts));
  }
  RouteTiling tiling{};
  tiling.rows = rows;
  tiling.experts = experts;
  tiling.top_k = shape.top_k;
  tiling.groups = shape.groups;
  tiling.top_groups = shape.top_groups;
  tiling.scoring = shape.scoring;
  tiling.normalizes = shape.normalizes ? 1 : 0;
  tiling.has_bias = shape.has_bias ? 1 : 0;
  tiling.scale = shape.scale;
  tiling.logits_stride = shape.logits_stride;
  tiling.ids_stride = shape.ids_stride;
  tiling.weights_stride = shape.weights_stride;
  return {tiling, std::min(rows, soc.vector_cores)};
}

Planned<SortExpertsTiling> plan_sort_experts(uint32_t experts, uint32_t choices,
                                             uint32_t choices_of_row) {
  if (choices > most_sorted_choices) {
    throw Error(ErrorCode::unsupported,
                fmt::format("experts: {} choices in a step; an Ascend core sorts up to {}", choices,
                            most_sorted_choices));
  }
  return {{experts, choices, choices_of_row}, 1};
}

Planned<CombineExpertsTiling> plan_combine_experts(const Soc& soc,
                                                   const CombineExpertsShape& shape) {
  const uint32_t rows = shape.rows, columns = shape.columns;
  // Values in and out twice. Few rows are cut for the cores that would have none.
  const uint32_t most_columns = usable_unified_buffer_bytes / (4 * 4) / 64 * 64;
  constexpr uint32_t fewest_columns = 512;
  const uint32_t share = up_to(up(columns, std::max(1u, soc.vector_cores / rows)), 64);
  CombineExpertsTiling tiling{};
  tiling.rows = rows;
  tiling.columns = columns;
  tiling.top_k = shape.top_k;
  tiling.columns_per_step = std::min({columns, most_columns, std::max(share, fewest_columns)});
  tiling.weights_stride = shape.weights_stride;
  tiling.y_stride = shape.y_stride;
  tiling.out_stride = shape.out_stride;
  return {tiling, std::min(rows * up(columns, tiling.columns_per_step), soc.vector_cores)};
}

Planned<EmbedTiling> plan_embed(const Soc& soc, const EmbedShape& shape) {
  EmbedTiling tiling{};
  tiling.tokens = shape.tokens;
  tiling.row_bytes = shape.row_bytes;
  tiling.table_stride_bytes = shape.table_stride_bytes;
  tiling.tokens_per_core = up(shape.tokens, soc.vector_cores);
  // Four buffers.
  tiling.bytes_per_step = std::min(up_to(shape.row_bytes, 32), 2 * full_speed_bytes);
  tiling.out_stride_bytes = shape.out_stride_bytes;
  return {tiling, up(shape.tokens, tiling.tokens_per_core)};
}

TableRow table_row(const QuantizedFormat& format, uint32_t columns) {
  TableRow row{};
  row.group = format.group;
  row.has_minimum = format.has_minimum != 0;
  row.padded_groups = up_to(up(columns, row.group), 8);
  row.scales_at = up_to(columns, 32);
  row.bytes = row.scales_at + (row.has_minimum ? 2 : 1) * row.padded_groups * 4;
  return row;
}

Planned<EmbedQuantizedTiling> plan_embed_quantized(const Soc& soc, const TableRow& row,
                                                   uint32_t tokens, uint32_t columns,
                                                   uint32_t out_stride) {
  EmbedQuantizedTiling tiling{};
  tiling.tokens = tokens;
  tiling.columns = columns;
  tiling.group = row.group;
  tiling.has_minimum = row.has_minimum ? 1 : 0;
  tiling.padded_groups = row.padded_groups;
  tiling.scales_at = row.scales_at;
  tiling.row_bytes = row.bytes;
  // Whole eights of groups; at most 128 of them, of 255 that an instruction repeats for.
  tiling.columns_per_step = std::min(2048u, up_to(columns, 8 * row.group));
  tiling.out_stride = out_stride;
  return {tiling, std::min(tokens * up(columns, tiling.columns_per_step), soc.vector_cores)};
}

Planned<QuantizeRowsTiling> plan_quantize_rows(const Soc& soc, const RowShape& row,
                                               uint32_t x_stride, uint32_t codes_stride) {
  // x and codes twice, values, and besides one row of float32.
  const uint32_t bytes_per_element = 2 * row.element_bytes + 2 + 4;
  constexpr uint32_t row_bytes_per_element = 4;
  // For each row its scale twice, its divisor and a block.
  constexpr uint32_t bytes_per_row = 3 * 4 + 32;
  // Besides ReduceMax's needs, at most as of a row that fills UB, and what rounding up to 8 rows adds.
  constexpr uint32_t others = usable_unified_buffer_bytes / 10 / 64 * 4 + 32 + 8 * bytes_per_row;
  const uint32_t most_columns = (usable_unified_buffer_bytes - others) /
                                (bytes_per_element + row_bytes_per_element) / 64 * 64;
  QuantizeRowsTiling tiling{};
  tiling.rows = row.rows;
  tiling.columns = row.columns;
  tiling.rows_per_core = up(row.rows, soc.vector_cores);
  tiling.columns_per_step =
      std::min(row.columns, up_to(up(row.columns, up(row.columns, most_columns)), 64));
  tiling.rows_per_step = 1;
  if (tiling.columns_per_step == row.columns) {
    const uint32_t pitch = up_to(row.columns, 32);
    tiling.rows_per_step =
        rows_per_step(tiling.rows_per_core, pitch * row.element_bytes,
                      pitch * bytes_per_element + bytes_per_row, pitch * row_bytes_per_element + others);
  }
  tiling.x_stride = x_stride;
  tiling.codes_stride = codes_stride;
  return {tiling, up(row.rows, tiling.rows_per_core)};
}

Planned<RopeStoreKvTiling> plan_rope_store_kv(const Soc& soc, const RopeStoreKvShape& shape) {
  RopeStoreKvTiling tiling{};
  tiling.tokens = shape.tokens;
  tiling.heads = shape.heads;
  tiling.kv_heads = shape.kv_heads;
  tiling.head_dim = shape.head_dim;
  tiling.value_dim = shape.stores ? shape.value_dim : shape.head_dim;
  tiling.rotary_dim = shape.rotary_dim;
  // A step's transfer is of full speed where there are enough heads, and smaller where that would
  // leave cores idle. Of float32, as which heads rotate, UB has not more.
  const uint32_t head_bytes = std::max(tiling.head_dim, tiling.value_dim) *
                              (tiling.rotary_dim > 0 ? 4 : shape.element_bytes);
  const uint32_t most_heads = std::max(shape.heads, shape.kv_heads);
  const uint32_t all_heads = shape.tokens * (shape.heads + 2 * shape.kv_heads);
  tiling.heads_per_step =
      std::max(1u, std::min({most_heads, full_speed_bytes / head_bytes,
                             up(all_heads, soc.vector_cores), 255u}));
  const uint32_t units_of_token =
      up(shape.heads, tiling.heads_per_step) +
      (shape.stores ? 2 : 1) * up(shape.kv_heads, tiling.heads_per_step);
  const uint32_t units = shape.tokens * units_of_token;
  tiling.units_per_core = up(units, soc.vector_cores);
  tiling.q_stride = shape.q_stride;
  tiling.k_stride = shape.k_stride;
  tiling.v_stride = shape.v_stride;
  tiling.stores = shape.stores ? 1 : 0;
  tiling.block_tokens = shape.block_tokens;
  tiling.k_block_stride = shape.k_block_stride;
  tiling.k_token_stride = shape.k_token_stride;
  tiling.v_block_stride = shape.v_block_stride;
  tiling.v_token_stride = shape.v_token_stride;
  return {tiling, up(units, tiling.units_per_core)};
}

Planned<ScaleProductsTiling> plan_scale_products(const Soc& soc, const ScaleProductsShape& shape) {
  const auto& [rows, columns, element_bytes] = shape.row;
  ScaleProductsTiling tiling{};
  tiling.rows = rows;
  tiling.experts = shape.experts;
  tiling.columns = columns;
  // Few rows are cut into columns for the cores that would else have none; 8192 columns take 160 KB.
  const uint32_t cores_of_row = std::max(1u, soc.vector_cores / rows);
  tiling.columns_per_step =
      std::min({columns, 8192u, std::max(1024u, up_to(up(columns, cores_of_row), 64))});
  tiling.rows_per_step = up(rows, soc.vector_cores);
  tiling.sums_stride = shape.sums_stride;
  tiling.out_stride = shape.out_stride;
  const uint32_t units = up(rows, tiling.rows_per_step) * up(columns, tiling.columns_per_step);
  return {tiling, std::min(units, soc.vector_cores)};
}

bool fits_attention(uint32_t key_part, uint32_t other_key_part, uint32_t value_dim) {
  return key_part % 16 == 0 && other_key_part % 16 == 0 && value_dim % 16 == 0 &&
         key_part + other_key_part <= attention_key_dim && value_dim <= attention_value_dim;
}

Planned<AttentionTiling> plan_attention(const Soc& soc, const AttentionShape& shape) {
  AttentionTiling tiling{};
  tiling.sequences = shape.sequences;
  tiling.kv_heads = shape.kv_heads;
  tiling.group = shape.heads / shape.kv_heads;
  tiling.keys[0] = {shape.key_dim, shape.q_stride, shape.k_block_stride, shape.k_token_stride};
  tiling.value_dim = shape.value_dim;
  tiling.value_block_stride = shape.v_block_stride;
  tiling.value_token_stride = shape.v_token_stride;
  tiling.out_stride = shape.out_stride;
  tiling.blocks_per_sequence = shape.blocks_per_sequence;
  tiling.block_tokens = shape.block_tokens;
  tiling.window = shape.window;
  tiling.has_sinks = shape.has_sinks ? 1 : 0;
  tiling.scale = shape.scale;
  tiling.soft_cap = shape.soft_cap;
  return cut_attention(soc, tiling, shape.longest_query,
                       shape.batch_invariant && shape.window > 0);
}

Planned<AttentionTiling> plan_mla_attention(const Soc& soc, const MlaAttentionShape& shape) {
  AttentionTiling tiling{};
  tiling.sequences = shape.sequences;
  tiling.kv_heads = 1;
  tiling.group = shape.heads;
  tiling.keys[0] = {shape.latent_dim, shape.q_latent_stride, shape.latent_block_stride,
                    shape.latent_token_stride};
  tiling.keys[1] = {shape.rotary_dim, shape.q_rope_stride, shape.rotary_block_stride,
                    shape.rotary_token_stride};
  tiling.value_dim = shape.latent_dim;
  tiling.value_block_stride = shape.latent_block_stride;
  tiling.value_token_stride = shape.latent_token_stride;
  tiling.out_stride = shape.out_stride;
  tiling.blocks_per_sequence = shape.blocks_per_sequence;
  tiling.block_tokens = shape.block_tokens;
  tiling.scale = shape.scale;
  return cut_attention(soc, tiling, shape.longest_query);
}

}  // namespace ridge::backend::ascend
