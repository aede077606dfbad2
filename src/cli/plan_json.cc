#include "cli/plan_report.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;
using planner::Figure;
using planner::Limit;
using planner::StepCost;

Json figure_json(const Figure& figure) {
  return {{"value", figure.value}, {"source", figure.source}};
}

Json step_json(const StepCost& step) {
  Json kinds = Json::array();
  for (const planner::KindCost& kind : step.kinds) {
    kinds.push_back({{"kind", planner::name(kind.kind)},
                     {"flops", kind.flops},
                     {"weight_bytes", kind.weight_bytes},
                     {"cache_bytes", kind.cache_bytes},
                     {"compute_ms", 1e3 * kind.compute_s},
                     {"memory_ms", 1e3 * kind.memory_s},
                     {"ms", 1e3 * kind.seconds}});
  }
  return {{"ms", 1e3 * step.seconds},
          {"work_ms", 1e3 * step.work_s},
          {"transfer_ms", 1e3 * step.transfer_s},
          {"latency_ms", 1e3 * step.latency_s},
          {"limit", planner::name(step.limit)},
          {"kinds", kinds}};
}

Json estimates_json(const PlanEntry& entry) {
  Json list = Json::array();
  const planner::Plan& plan = *entry.plan;
  for (const PlanEstimate& each : entry.estimates) {
    list.push_back(
        {{"stack", each.stack},
         {"efficiency", each.efficiency},
         {"prefill_tokens_per_second", each.efficiency * plan.prefill.tokens_per_second},
         {"decode_tokens_per_second", each.efficiency * plan.decode.tokens_per_second},
         {"mixed_output_tokens_per_second", each.efficiency * plan.mixed.output_tokens_per_second},
         {"tpot_ms", plan.decode.tpot_ms / each.efficiency},
         {"ttft_ms", plan.ttft_ms / each.efficiency}});
  }
  return list;
}

Json entry_json(const PlanEntry& entry) {
  Json body = {{"device", entry.device.name}, {"title", entry.device.title}};
  if (!entry.plan) {
    body["lacking"] = entry.why_not;
    return body;
  }
  const planner::Plan& plan = *entry.plan;
  const double ranks = entry.device.ranks;
  body["devices"] = plan.devices;
  body["layout"] = {{"tensor_parallel", plan.layout.tensor_parallel},
                    {"replicas", plan.layout.replicas},
                    {"ranks", plan.layout.ranks()},
                    {"spreads_experts", plan.layout.spreads_experts}};
  body["memory"] = {{"device_bytes", entry.device.memory_gb.value * 1e9},
                    {"usable_bytes", plan.memory.usable_bytes * ranks},
                    {"weight_bytes", plan.memory.weight_bytes * ranks},
                    {"cache_bytes_per_token_of_a_rank", plan.memory.cache_bytes_per_token},
                    {"largest_batch", plan.largest_batch}};
  body["batch"] = plan.batch;
  body["batch_limit"] = planner::name(plan.batch_limit);
  body["prefill"] = {{"tokens_per_second", plan.prefill.tokens_per_second},
                     {"step", step_json(plan.prefill.step)}};
  body["ttft_ms"] = plan.ttft_ms;
  body["decode"] = {{"tokens_per_second", plan.decode.tokens_per_second},
                    {"tpot_ms", plan.decode.tpot_ms},
                    {"step", step_json(plan.decode.step)}};
  body["mixed"] = {{"output_tokens_per_second", plan.mixed.output_tokens_per_second},
                   {"total_tokens_per_second", plan.mixed.total_tokens_per_second},
                   {"prefill_share", plan.mixed.prefill_share}};
  body["estimates"] = estimates_json(entry);
  if (entry.price_per_hour > 0) {
    body["price_per_hour"] = entry.price_per_hour;
    body["price_per_million_input_tokens"] =
        entry.price_per_million(plan.prefill.tokens_per_second);
    body["price_per_million_output_tokens"] =
        entry.price_per_million(plan.decode.tokens_per_second);
  }
  return body;
}

}  // namespace

Json device_json(const planner::Device& device) {
  Json body = {{"name", device.name},
               {"title", device.title},
               {"ranks", device.ranks},
               {"link_devices", device.link_devices}};
  if (!device.note.empty()) body["note"] = device.note;
  const std::pair<const char*, const Figure*> figures[] = {
      {"f16_tflops", &device.f16_tflops},   {"f8_tflops", &device.f8_tflops},
      {"i8_tops", &device.i8_tops},         {"memory_gb", &device.memory_gb},
      {"memory_gbps", &device.memory_gbps}, {"link_gbps", &device.link_gbps},
      {"link_us", &device.link_us},         {"network_gbps", &device.network_gbps},
      {"network_us", &device.network_us}};
  for (const auto& [key, figure] : figures) {
    if (figure->value > 0) body[key] = figure_json(*figure);
  }
  return body;
}

Json plan_json(const PlanReport& report) {
  const planner::Question& question = report.question;
  Json body = {{"model", report.shape.name},
               {"source", report.shape.source},
               {"parameters", report.shape.parameters()},
               {"active_parameters", report.shape.active_parameters()},
               {"weights", question.formats.weights.name},
               {"kv_dtype", question.formats.cache.name},
               {"prompt_tokens", question.prompt_tokens},
               {"output_tokens", question.output_tokens},
               {"cached_share", question.cached_share},
               {"drafts", question.speculation.drafts},
               {"tokens_of_a_step", question.speculation.accepted},
               {"devices", Json::array()}};
  if (question.tpot_ms > 0) body["most_tpot_ms"] = question.tpot_ms;
  for (const PlanEntry& entry : report.entries) body["devices"].push_back(entry_json(entry));
  return body;
}

Json validation_json(const planner::Validation& validation) {
  Json body = {{"stacks", Json::array()}, {"rows", Json::array()}};
  for (const auto& [stack, efficiency] : validation.efficiencies) {
    Json one = {{"name", stack.name}, {"title", stack.title}};
    if (efficiency > 0) one["efficiency"] = efficiency;
    body["stacks"].push_back(std::move(one));
  }
  for (const planner::Comparison& each : validation.rows) {
    const planner::PublishedRow& row = *each.row;
    Json one = {{"stack", row.stack},
                {"name", row.name},
                {"reported", row.reported},
                {"source", row.source}};
    if (!row.assumed.empty()) one["assumed"] = row.assumed;
    if (!each.is_compared()) {
      one["unusable"] = row.unusable;
    } else {
      one["published"] = row.tokens_per_second;
      one["bound"] = each.bound;
      one["ideal"] = each.ideal;
      one["share_of_bound"] = row.tokens_per_second / each.bound;
      one["limit"] = planner::name(each.limit);
      one["fitted"] = row.is_fitted;
      one["estimate"] = each.estimate;
      one["error"] = each.error;
      one["within"] = each.is_within();
      if (!row.miss.empty()) one["miss"] = row.miss;
    }
    body["rows"].push_back(std::move(one));
  }
  return body;
}

Json ratios_json(const std::vector<planner::RatioRow>& rows) {
  Json body = Json::array();
  for (const planner::RatioRow& row : rows) {
    body.push_back({{"regime", row.regime},
                    {"weights", row.weights},
                    {"first_tokens_per_second", row.first},
                    {"second_tokens_per_second", row.second},
                    {"first_limit", planner::name(row.first_limit)},
                    {"second_limit", planner::name(row.second_limit)},
                    {"ratio", row.ratio()}});
  }
  return body;
}

}  // namespace ridge::cli
