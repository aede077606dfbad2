#include "cli/bench_serve_table.h"

#include <fmt/format.h>

namespace ridge::cli {
namespace {

using loadgen::GroupReport;
using loadgen::Report;
using loadgen::Summary;

std::string ms(double value) {
  return value < 100 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

void print_counts(const Context& context, const Report& report, const GroupReport& group) {
  std::string line = fmt::format("{} answered", group.ok);
  if (group.left > 0) line += fmt::format(", {} left by the client", group.left);
  line += fmt::format(", {} failed", group.failed);
  if (group.retries > 0) line += fmt::format(", {} tries after 429", group.retries);
  context.print(fmt::format("{}; {:.2f} requests a second", line,
                            report.per_s(static_cast<int64_t>(group.ok))));
  for (const auto& [kind, count] : group.failures) {
    context.print(fmt::format("  {} failed: {}", count, printable(kind)));
  }
  const std::string cached =
      group.cached_tokens > 0 ? fmt::format(" ({} of them cached)", group.cached_tokens) : "";
  context.print(fmt::format(
      "{} prompt tokens{} and {} output tokens: {:.1f} output tokens/s, "
      "{:.1f} in all",
      group.prompt_tokens, cached, group.output_tokens, report.per_s(group.output_tokens),
      report.per_s(group.prompt_tokens + group.output_tokens)));
  if (report.objective.is_set()) {
    context.print(fmt::format("{} answers met the objective, {:.2f} a second", group.good,
                              report.per_s(static_cast<int64_t>(group.good))));
  }
}

void add_rows(Table& table, const GroupReport& group, const std::string& label) {
  const auto add = [&](std::string_view what, const Summary& summary) {
    if (summary.count == 0) return;
    table.add_row({label.empty() ? std::string(what) : fmt::format("{}: {}", label, what),
                   ms(summary.mean), ms(summary.p50), ms(summary.p90), ms(summary.p95),
                   ms(summary.p99), ms(summary.max)});
  };
  add("first token", group.ttft_ms);
  add("between tokens", group.inter_token_ms);
  add("each token after the first", group.per_token_ms);
  add("whole answer", group.total_ms);
}

}  // namespace

void print_report(const Context& context, const std::string& title, const Report& report) {
  context.print(fmt::format("{}{}", printable(title), report.interrupted ? ", interrupted" : ""));
  context.print(fmt::format("{:.1f} s", report.duration_s));
  print_counts(context, report, report.all);
  for (const GroupReport& group : report.groups) {
    context.print(fmt::format("\n{}:", printable(group.name)));
    print_counts(context, report, group);
  }
  Table table({{"TIME, ms"},
               {"MEAN", Alignment::right},
               {"P50", Alignment::right},
               {"P90", Alignment::right},
               {"P95", Alignment::right},
               {"P99", Alignment::right},
               {"MAX", Alignment::right}});
  if (report.groups.empty()) add_rows(table, report.all, "");
  for (const GroupReport& group : report.groups) add_rows(table, group, printable(group.name));
  fmt::print("\n{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace ridge::cli
