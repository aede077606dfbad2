#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/plan_report.h"

namespace ridge::cli {
namespace {

Table::Column number_column(std::string title) { return {std::move(title), Alignment::right}; }

// Three digits that count, without a fraction from 100 on.
std::string plan_number(double value) {
  if (value >= 100) return fmt::format("{:.0f}", value);
  return value >= 10 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

std::string gigabytes_text(double bytes) {
  return bytes < 10e9 ? fmt::format("{:.1f} GB", bytes / 1e9)
                      : fmt::format("{:.0f} GB", bytes / 1e9);
}

std::string layout_text(const planner::Layout& layout) {
  std::string text = fmt::format("TP{}", layout.tensor_parallel);
  if (layout.replicas > 1) text += fmt::format(" DP{}", layout.replicas);
  if (layout.spreads_experts) text += fmt::format(" EP{}", layout.ranks());
  return text;
}

// As planner::name, short enough for a column.
std::string_view short_name(planner::Limit limit) {
  switch (limit) {
    case planner::Limit::compute:
      return "compute";
    case planner::Limit::weights:
      return "weights";
    case planner::Limit::cache:
      return "KV cache";
    case planner::Limit::interconnect:
      return "network";
  }
  return "";
}

// Of each stack with results on the device, the least and the most.
std::string estimate_text(const PlanEntry& entry, double bound) {
  if (entry.estimates.empty()) return "-";
  const auto [least, most] =
      std::minmax_element(entry.estimates.begin(), entry.estimates.end(),
                          [](const auto& a, const auto& b) { return a.efficiency < b.efficiency; });
  if (least == most) return plan_number(bound * least->efficiency);
  return fmt::format("{}-{}", plan_number(bound * least->efficiency),
                     plan_number(bound * most->efficiency));
}

void print_question(const Context& context, const PlanReport& report) {
  const planner::Question& question = report.question;
  const planner::WeightFormat& weights = question.formats.weights;
  std::string bits = fmt::format("{:.2f} bits", weights.bits);
  if (report.shape.experts && weights.expert_bits != weights.bits) {
    bits += fmt::format(", experts {:.2f}", weights.expert_bits);
  }
  context.print(fmt::format(
      "{}: {:.1f} billion parameters, {:.1f} of them for a token; weights {} ({}), KV "
      "cache {} ({:.1f} kB a token)",
      printable(report.shape.name), report.shape.parameters() / 1e9,
      report.shape.active_parameters() / 1e9, weights.name, bits, question.formats.cache.name,
      report.shape.cached_values() * question.formats.cache.bytes / 1e3));
  std::string line = fmt::format("prompts of {:g} tokens, answers of {:g}", question.prompt_tokens,
                                 question.output_tokens);
  if (question.cached_share > 0) {
    line += fmt::format(", {:.0f} % of prompts cached", 100 * question.cached_share);
  }
  if (question.speculation.drafts > 0) {
    line += fmt::format(", {} drafted tokens a step, of which with its own {:.2f} stand",
                        question.speculation.drafts, question.speculation.accepted);
  }
  if (question.tpot_ms > 0) line += fmt::format(", at most {:g} ms a token", question.tpot_ms);
  context.print(line);
}

void print_notes(const Context& context, const PlanReport& report) {
  for (const PlanEntry& entry : report.entries) {
    if (!entry.plan) {
      context.print(fmt::format("{}: {}", printable(entry.device.name), entry.why_not));
    }
  }
  std::vector<std::string> stacks;
  for (const PlanEntry& entry : report.entries) {
    for (const PlanEstimate& each : entry.estimates) {
      const std::string text = fmt::format("{} {:.0f} %", each.stack, 100 * each.efficiency);
      if (std::find(stacks.begin(), stacks.end(), text) == stacks.end()) stacks.push_back(text);
    }
  }
  if (stacks.empty()) return;
  context.print(fmt::format(
      "EST: what software stacks with published results on such devices made of the bound: {}",
      fmt::join(stacks, ", ")));
}

}  // namespace

void print_plan(const Context& context, const PlanReport& report) {
  print_question(context, report);
  const bool has_prices =
      std::any_of(report.entries.begin(), report.entries.end(),
                  [](const PlanEntry& entry) { return entry.price_per_hour > 0; });
  std::vector<Table::Column> columns = {{"DEVICE"},
                                        number_column("COUNT"),
                                        {"LAYOUT"},
                                        number_column("WEIGHTS"),
                                        number_column("BATCH"),
                                        {"SET BY"},
                                        number_column("PREFILL tok/s"),
                                        {"LIMIT"},
                                        number_column("TTFT ms"),
                                        number_column("DECODE tok/s"),
                                        {"LIMIT"},
                                        number_column("ms/token"),
                                        number_column("BOTH, out tok/s"),
                                        number_column("EST prefill"),
                                        number_column("EST decode")};
  if (has_prices) {
    columns.push_back(number_column("PRICE/M in"));
    columns.push_back(number_column("PRICE/M out"));
  }
  Table table(columns);
  for (const PlanEntry& entry : report.entries) {
    if (!entry.plan) continue;
    const planner::Plan& plan = *entry.plan;
    std::vector<std::string> row = {
        printable(entry.device.name),
        fmt::format("{}", plan.devices),
        layout_text(plan.layout),
        fmt::format("{} of {}", gigabytes_text(plan.memory.weight_bytes * entry.device.ranks),
                    gigabytes_text(entry.device.memory_gb.value * 1e9)),
        fmt::format("{:.0f}", plan.batch),
        std::string(planner::name(plan.batch_limit)),
        plan_number(plan.prefill.tokens_per_second),
        std::string(short_name(plan.prefill.step.limit)),
        plan_number(plan.ttft_ms),
        plan_number(plan.decode.tokens_per_second),
        std::string(short_name(plan.decode.step.limit)),
        plan_number(plan.decode.tpot_ms),
        plan_number(plan.mixed.output_tokens_per_second),
        estimate_text(entry, plan.prefill.tokens_per_second),
        estimate_text(entry, plan.decode.tokens_per_second)};
    if (has_prices) {
      const bool has_price = entry.price_per_hour > 0;
      const auto price = [&](double tokens_per_second) {
        return has_price ? fmt::format("{:.3f}", entry.price_per_million(tokens_per_second)) : "-";
      };
      row.push_back(price(plan.prefill.tokens_per_second));
      row.push_back(price(plan.decode.tokens_per_second));
    }
    table.add_row(row);
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
  print_notes(context, report);
}

void print_validation(const Context& context, const planner::Validation& validation) {
  int tested = 0, within = 0, compared = 0, above = 0;
  for (const auto& [stack, efficiency] : validation.efficiencies) {
    context.print(fmt::format("{}: {}", stack.name, stack.title));
    Table table({{"  RESULT"},
                 number_column("PUBLISHED"),
                 number_column("BOUND"),
                 number_column("SHARE"),
                 number_column("ESTIMATE"),
                 number_column("ERROR"),
                 {""}});
    std::vector<std::string> reasons;
    bool has_rows = false;
    for (const planner::Comparison& each : validation.rows) {
      if (each.row->stack != stack.name) continue;
      const planner::PublishedRow& row = *each.row;
      if (!each.is_compared()) {
        reasons.push_back(fmt::format("  not compared: {}: {}", row.name, row.unusable));
        continue;
      }
      has_rows = true;
      ++compared;
      above += row.tokens_per_second > each.bound ? 1 : 0;
      tested += each.is_tested() ? 1 : 0;
      within += each.is_tested() && each.is_within() ? 1 : 0;
      const bool is_miss = each.is_tested() && !each.is_within();
      if (is_miss) reasons.push_back(fmt::format("  miss: {}: {}", row.name, row.miss));
      table.add_row({"  " + row.name, plan_number(row.tokens_per_second), plan_number(each.bound),
                     fmt::format("{:.0f} %", 100 * row.tokens_per_second / each.bound),
                     plan_number(each.estimate),
                     row.is_fitted ? "fitted" : fmt::format("{:+.0f} %", 100 * each.error),
                     is_miss ? "miss" : ""});
    }
    if (has_rows) fmt::print("{}", table.to_string(context.terminal(), Stream::output));
    for (const std::string& reason : reasons) context.print(reason);
    context.print("");
  }
  context.print(
      fmt::format("Tokens/s of one device. {} of {} results are above the bound. Of {} that were "
                  "not fitted, {} "
                  "are within {:.0f} %. {} are not compared.",
                  above, compared, tested, within, 100 * planner::tolerated_error,
                  validation.rows.size() - static_cast<size_t>(compared)));
}

void print_ratios(const Context& context, const std::string& title, double claim,
                  const std::vector<planner::RatioRow>& rows) {
  // Near enough to be what somebody rounded to one digit.
  constexpr double rounding = 0.05;
  context.print(title);
  Table table({{"WEIGHTS"},
               {"REGIME"},
               number_column("FIRST tok/s"),
               {"LIMIT"},
               number_column("SECOND tok/s"),
               {"LIMIT"},
               number_column("RATIO"),
               {""}});
  int near = 0;
  for (const planner::RatioRow& row : rows) {
    const bool is_near = claim > 0 && std::abs(row.ratio() - claim) <= rounding;
    near += is_near ? 1 : 0;
    table.add_row({row.weights, row.regime, plan_number(row.first),
                   std::string(short_name(row.first_limit)), plan_number(row.second),
                   std::string(short_name(row.second_limit)), fmt::format("{:.2f}", row.ratio()),
                   is_near ? "<-" : ""});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
  if (claim == 0) return;
  context.print(fmt::format(
      "{} of {} regimes have {:g} +- {:g}; with a ratio R of bounds, the first's software would "
      "have to reach {:g} / R of what the second's does",
      near, rows.size(), claim, rounding, claim));
}

void print_devices(const Context& context, const planner::DeviceTable& devices) {
  Table table({{"DEVICE"},
               number_column("f16 TFLOPS"),
               number_column("f8"),
               number_column("i8"),
               number_column("MEMORY"),
               number_column("GB/s"),
               number_column("LINKED"),
               number_column("LINK GB/s"),
               number_column("NETWORK GB/s"),
               {""}});
  const auto text = [](const planner::Figure& figure) {
    return figure.value > 0 ? plan_number(figure.value) : std::string("-");
  };
  for (const planner::Device& device : devices.devices()) {
    table.add_row({printable(device.name), text(device.f16_tflops), text(device.f8_tflops),
                   text(device.i8_tops), gigabytes_text(device.memory_gb.value * 1e9),
                   text(device.memory_gbps), fmt::format("{}", device.link_devices),
                   text(device.link_gbps), text(device.network_gbps), printable(device.title)});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
  context.print("--json has the source of each figure");
}

}  // namespace ridge::cli
