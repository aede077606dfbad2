#include "planner/published.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ridge::planner {
namespace {

struct RowBound {
  double tokens_per_second = 0;
  Limit limit = Limit::compute;
};

RowBound bound_of(const PublishedRow& row, const ModelShape& shape, const Device& device,
                  bool is_ideal) {
  const Formats formats{find_weight_format(row.weights), find_kv_format(row.cache)};
  const int ranks = row.devices * device.ranks;
  const Layout layout{
      .tensor_parallel = row.tensor_parallel,
      .replicas = ranks / row.tensor_parallel,
      .spreads_experts = row.spreads_experts && shape.experts.has_value() && ranks > 1,
      .shared_apart = row.shared_apart,
      .sends_directly = row.sends_directly && !is_ideal,
      .overlaps_transfers = row.overlaps_transfers || is_ideal};
  const double cached = row.cached_share * row.prompt_tokens;
  // The sequences of one replica, of which a device may hold several or a part.
  const double batch = row.batch * row.tensor_parallel / device.ranks;
  switch (row.phase) {
    case PublishedRow::Phase::prefill: {
      const PrefillBound bound = prefill_bound(shape, formats, layout, device, row.prompt_tokens,
                                               cached, row.prefill_batch_tokens);
      return {bound.tokens_per_second, bound.step.limit};
    }
    case PublishedRow::Phase::decode: {
      const DecodeBound bound =
          decode_bound(shape, formats, layout, device, batch,
                       row.prompt_tokens + row.output_tokens / 2, row.speculation);
      return {bound.tokens_per_second, bound.step.limit};
    }
    case PublishedRow::Phase::mixed: {
      const MixedBound bound = mixed_bound(shape, formats, layout, device, batch, row.prompt_tokens,
                                           cached, row.output_tokens, row.speculation);
      return {row.unit == PublishedRow::Unit::total ? bound.total_tokens_per_second
                                                    : bound.output_tokens_per_second,
              bound.prefill_share > 0.5 ? bound.prefill.step.limit : bound.decode.step.limit};
    }
  }
  return {};
}

const ModelShape& model_of(const PublishedRow& row, const ModelTable& models) {
  if (const ModelShape* shape = models.find(row.model)) return *shape;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("row {}: model '{}' is not known", row.name, row.model));
}

}  // namespace

double Validation::efficiency(std::string_view stack) const {
  for (const auto& [each, efficiency] : efficiencies) {
    if (each.name == stack) return efficiency;
  }
  return 0;
}

Validation validate(const PublishedTable& table, const DeviceTable& devices,
                    const ModelTable& models) {
  Validation validation;
  for (const Stack& stack : table.stacks) validation.efficiencies.emplace_back(stack, 0);
  for (const PublishedRow& row : table.rows) {
    Comparison comparison{.row = &row};
    if (comparison.is_compared()) {
      const ModelShape& shape = model_of(row, models);
      const Device& device = devices.get(row.device);
      const RowBound bound = bound_of(row, shape, device, /*is_ideal=*/false);
      comparison.bound = bound.tokens_per_second;
      comparison.limit = bound.limit;
      comparison.ideal = bound_of(row, shape, device, /*is_ideal=*/true).tokens_per_second;
    }
    if (row.is_fitted) {
      for (auto& [stack, efficiency] : validation.efficiencies) {
        if (stack.name == row.stack) efficiency = row.tokens_per_second / comparison.bound;
      }
    }
    validation.rows.push_back(comparison);
  }
  for (Comparison& each : validation.rows) {
    if (!each.is_compared()) continue;
    each.estimate = each.bound * validation.efficiency(each.row->stack);
    each.error = each.row->is_fitted ? 0 : each.estimate / each.row->tokens_per_second - 1;
  }
  return validation;
}

}  // namespace ridge::planner
