#pragma once

#include <optional>

#include "backend/ascend/device/even_choices.h"
#include "backend/ascend/device/kernel_calls.h"
#include "backend/ascend/device/weight.h"

namespace ridge::backend::ascend {

// What a linear multiplies: rows of halves, or of int8 where its weight takes them, and a scale for each.
struct Halves {
  View values;
  uint64_t scales;
};

// Launches of linears of all kinds.
class LinearCalls : public KernelCalls {
 public:
  using KernelCalls::KernelCalls;

 protected:
  // Several linears in a row multiply the same value.
  Halves halve(const Value& x) {
    if (!halved_ || halved_->storage != x.storage || halved_->column != x.column ||
        halved_->columns != x.columns) {
      halve(view(x));
      halved_ = x;
    }
    return halves_of(view(x));
  }
  Halves halve(const View& x) {
    halved_.reset();
    const Halves halves = halves_of(x);
    plan_.halves_bytes = std::max(
        plan_.halves_bytes, uint64_t{x.rows} * halves.values.stride * half_bytes);
    plan_.scales_bytes = std::max(plan_.scales_bytes, uint64_t{x.rows} * float_bytes);
    const auto plan =
        plan_halve_rows(soc_, x.rows, x.columns, x.stride, halves.values.stride);
    call("ridge_halve_rows", plan, {x.address, halves.values.address, halves.scales});
    return halves;
  }

  // Sums of one part of a weight, from its expert or head `first` on; `starts` where groups are rows of
  // experts.
  void launch_linear(const WeightPart& part, uint32_t first, LinearShape shape, uint64_t x,
                     uint64_t out, uint64_t starts = 0) {
    shape.batch_invariant = context_.recording.limits.batch_invariant;
    const bool by_experts = shape.groups > 1 && shape.grouping == LinearTiling::by_rows;
    const uint64_t codes = part.codes->span().address + first * part.codes_of_expert();
    if (!part.format) {
      const auto plan = plan_linear(soc_, shape);
      if (by_experts) {
        call("ridge_expert_linear_f16", plan, {x, codes, starts, out});
      } else {
        call("ridge_linear_f16", plan, {x, codes, out});
      }
      return;
    }
    const uint64_t scales = part.scales->span().address + first * part.scales_of_expert();
    const QuantizedLinearPlan plan = plan_quantized_linear(soc_, shape, *part.format);
    if (by_experts) {
      call(plan.kernel, plan, {x, codes, scales, starts, out});
    } else {
      call(plan.kernel, plan, {x, codes, scales, out});
    }
  }

  // out = x Wᵀ + bias: each part of W by its kernel, then scales and bias over its columns.
  void multiply(const Halves& x, const AscendWeight& weight, const AscendWeight* bias,
                const View& out) {
    for (const WeightPart& part : weight.parts()) {
      launch_linear(part, /*first=*/0,
                    {.m = x.values.rows,
                     .n = part.rows,
                     .k = x.values.columns,
                     .x_stride = x.values.stride,
                     .out_stride = out.stride,
                     .layout = LinearTiling::nz,
                     .out_floats = true},
                    x.values.address, slice(out, part.first_row, part.rows).address);
    }
    const auto finish = [&](const View& to, uint32_t first, float factor) {
      const uint64_t from =
          bias == nullptr ? 0 : bias->vector().address + uint64_t{first} * float_bytes;
      scale_rows("f32_f32", float_bytes, float_bytes, to, to, factor, x.scales, from);
    };
    if (const auto factor = common_factor(weight)) {
      finish(out, 0, *factor);
      return;
    }
    for (const WeightPart& part : weight.parts()) {
      finish(slice(out, part.first_row, part.rows), part.first_row, part.factor);
    }
  }

  // Rows of int8, in scratch.
  Halves quantize(const View& x) {
    const View codes = scratch(x.rows, x.columns, 1);
    const View scales = scratch(x.rows, 1, float_bytes);
    call("ridge_quantize_rows_f32",
         plan_quantize_rows(soc_, {x.rows, x.columns, float_bytes}, x.stride, codes.stride),
         {x.address, codes.address, scales.address});
    return {codes, scales.address};
  }

  // Of rows of int8 and one part of a weight that takes_int8().
  auto plan_w8a8(const WeightPart& part, const View& codes, const View& sums) const {
    return plan_linear_w8a8(soc_, {.m = codes.rows,
                                   .n = part.rows,
                                   .k = codes.columns,
                                   .x_stride = codes.stride,
                                   .out_stride = sums.stride,
                                   .layout = LinearTiling::nz,
                                   .groups = static_cast<uint32_t>(part.experts)});
  }

  // The same of a weight that takes_int8(): rows of x become int8 with a scale for each, sums are whole
  // numbers.
  void multiply_int8(const View& x, const AscendWeight& weight, const AscendWeight* bias,
                     const View& out) {
    const auto [codes, scales] = quantize(x);
    const uint64_t used = scratch_used();
    for (const WeightPart& part : weight.parts()) {
      free_scratch(used);
      const View sums = scratch(x.rows, part.rows, float_bytes);
      const View to = slice(out, part.first_row, part.rows);
      call("ridge_linear_w8a8",
           plan_w8a8(part, codes, sums),
           {codes.address, part.codes->span().address, sums.address});
      call("ridge_scale_products_f32",
           plan_scale_products(soc_, {{x.rows, part.rows, float_bytes}, sums.stride, to.stride}),
           {sums.address, scales, part.scales->span().address, to.address});
    }
    if (bias != nullptr) {
      scale_rows("f32_f32", float_bytes, float_bytes, out, out, /*factor=*/1, /*scales=*/0,
                 bias->vector().address);
    }
  }

  // out = x Wᵀ + bias of rows that are not halves yet.
  void multiply(const Value& x, const AscendWeight& weight, const AscendWeight* bias,
                const View& out) {
    if (weight.takes_int8()) return multiply_int8(view(x), weight, bias, out);
    multiply(halve(x), weight, bias, out);
  }

  // Sums of one part of a weight that takes_int8(), of rows sorted by expert, with all scales.
  void multiply_int8_by_experts(const WeightPart& part, const View& x, uint64_t x_scales,
                                uint64_t starts, const View& out) {
    const auto experts = static_cast<uint32_t>(part.experts);
    const View sums = scratch(x.rows, part.rows, float_bytes);
    call("ridge_expert_linear_w8a8",
         plan_w8a8(part, x, sums),
         {x.address, part.codes->span().address, starts, sums.address});
    call("ridge_expert_scale_products_f32",
         plan_scale_products(
             soc_, {{x.rows, part.rows, float_bytes}, sums.stride, out.stride, experts}),
         {sums.address, x_scales, part.scales->span().address, starts, out.address});
  }

  // The rows of some tokens by their experts. `x` are their halves or int8, of each token or of each choice;
  // `weights` are those of choices, without rows where what comes out is not mixed.
  void multiply_by_experts(const Halves& x, bool has_row_for_choice, const AscendWeight& weight,
                           const View& ids, const View& weights, const View& out) {
    const auto experts = static_cast<uint32_t>(weight.experts());
    const auto n = static_cast<uint32_t>(weight.rows());
    const uint32_t top_k = ids.columns, choices = ids.rows * top_k;
    RIDGE_ASSERT(is_dense(ids) && is_dense(weights) && (weights.rows > 0 || is_dense(out)));
    const uint64_t starts = scratch(1, experts + 1, float_bytes).address;
    const uint64_t rows = scratch(1, choices, float_bytes).address;
    const uint64_t places = scratch(1, choices, float_bytes).address;
    const uint32_t choices_of_row = has_row_for_choice ? 1 : top_k;
    const bool only_counts = context_.hardware.only_counts;
    const EvenChoices even(only_counts ? experts : 0, choices, choices_of_row);
    if (only_counts) assume(ids.address, even.ids);
    call("ridge_sort_experts", plan_sort_experts(experts, choices, choices_of_row),
         {ids.address, starts, rows, places});
    if (only_counts) {
      assume(starts, even.starts);
      assume(rows, even.rows);
      assume(places, even.places);
    }
    const bool takes_int8 = weight.takes_int8();
    const uint32_t element_bytes = takes_int8 ? 1 : half_bytes;
    const View sorted = scratch(choices, x.values.stride, element_bytes);
    const uint32_t row_bytes = sorted.columns * element_bytes;
    call("ridge_embed", plan_embed(soc_, {choices, row_bytes, row_bytes, row_bytes}),
         {rows, x.values.address, sorted.address});
    // Those of halves are for the sums, or for the weights that mix them.
    uint64_t sorted_scales = 0;
    if (takes_int8) {
      sorted_scales = scratch(1, choices, float_bytes).address;
      call("ridge_embed", plan_embed(soc_, {choices, float_bytes, float_bytes, float_bytes}),
           {rows, x.scales, sorted_scales});
    }
    const View sums = scratch(choices, n, float_bytes);
    const std::optional<float> factor = common_factor(weight);
    for (const WeightPart& part : weight.parts()) {
      const View to = slice(sums, part.first_row, part.rows);
      if (takes_int8) {
        multiply_int8_by_experts(part, sorted, sorted_scales, starts, to);
        continue;
      }
      launch_linear(part, /*first=*/0,
                    {.m = choices,
                     .n = part.rows,
                     .k = x.values.columns,
                     .x_stride = sorted.stride,
                     .out_stride = sums.stride,
                     .layout = LinearTiling::nz,
                     .out_floats = true,
                     .groups = experts},
                    sorted.address, to.address, starts);
      if (!factor) scale_rows("f32_f32", float_bytes, float_bytes, to, to, part.factor);
    }
    // What has the scales of rows of x: of each choice its own, or of each token for all its choices.
    const auto scale = [&](const View& from, const View& to, uint32_t columns) {
      const uint32_t count = has_row_for_choice ? choices : ids.rows;
      const uint32_t width = has_row_for_choice ? columns : top_k * columns;
      scale_rows("f32_f32", float_bytes, float_bytes, {from.address, count, width, width},
                 {to.address, count, width, width}, factor.value_or(1), x.scales);
    };
    if (weights.rows == 0) {
      const uint32_t bytes = n * float_bytes;
      call("ridge_embed", plan_embed(soc_, {choices, bytes, bytes, bytes}),
           {places, sums.address, out.address});
      if (!takes_int8) scale(out, out, n);
      return;
    }
    View scaled = weights;
    if (!takes_int8) {
      scaled = scratch(ids.rows, top_k, float_bytes);
      scale(weights, scaled, 1);
    }
    call("ridge_combine_experts_f32",
         plan_combine_experts(soc_, {ids.rows, n, top_k, top_k, n, out.stride}),
         {sums.address, places, scaled.address, out.address});
  }

  // out += the bias [experts · n] of each choice's expert, `weights` as above. A launch more than to add it where
  // sums are scaled, but those rows lie sorted by expert, and kernels that gather and mix rows are there.
  void add_expert_bias(const AscendWeight& bias, const View& ids, const View& weights,
                       const View& out) {
    const uint32_t top_k = ids.columns;
    const bool mixes = weights.rows > 0;
    const View to = mixes ? out : runs_of(out, out.columns / top_k);
    const View added = scratch(to.rows, to.columns, float_bytes);
    if (mixes) {
      call("ridge_combine_experts_f32",
           plan_combine_experts(soc_, {ids.rows, out.columns, top_k, top_k,
                                       /*y_stride=*/out.columns, added.stride}),
           {bias.vector().address, ids.address, weights.address, added.address});
    } else {
      gather(ids.address, bias.vector().address, added.columns, added);
    }
    add(to, added, to);
  }

  // Another value is there now.
  void forget_halves(const Value& value) {
    if (halved_ && halved_->storage == value.storage) halved_.reset();
  }

 private:
  static std::optional<float> common_factor(const AscendWeight& weight) {
    const float factor = weight.parts().front().factor;
    for (const WeightPart& part : weight.parts()) {
      if (part.factor != factor) return std::nullopt;
    }
    return factor;
  }
  Halves halves_of(const View& x) const {
    return {{context_.memory.halves.address, x.rows, x.columns, to_fractals_of(x.columns)},
            context_.memory.scales.address};
  }

  std::optional<Value> halved_;  // what the halves are of
};

}  // namespace ridge::backend::ascend
