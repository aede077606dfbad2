#include "loadgen/report_json.h"

#include <nlohmann/json.hpp>

namespace ridge::loadgen {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson to_json(const Summary& summary) {
  OrderedJson body = {{"count", summary.count}};
  if (summary.count == 0) return body;
  body["mean"] = summary.mean;
  body["p50"] = summary.p50;
  body["p90"] = summary.p90;
  body["p95"] = summary.p95;
  body["p99"] = summary.p99;
  body["max"] = summary.max;
  return body;
}

void append(OrderedJson& body, const Report& report, const GroupReport& group) {
  body["requests"] = group.requests();
  body["ok"] = group.ok;
  body["failed"] = group.failed;
  body["left"] = group.left;
  body["failures"] = OrderedJson::object();
  for (const auto& [kind, count] : group.failures) body["failures"][kind] = count;
  body["retries"] = group.retries;
  body["requests_per_second"] = report.per_s(static_cast<int64_t>(group.ok));
  body["prompt_tokens"] = group.prompt_tokens;
  body["cached_tokens"] = group.cached_tokens;
  body["output_tokens"] = group.output_tokens;
  body["output_tokens_per_second"] = report.per_s(group.output_tokens);
  body["total_tokens_per_second"] = report.per_s(group.prompt_tokens + group.output_tokens);
  body["ttft_ms"] = to_json(group.ttft_ms);
  body["inter_token_ms"] = to_json(group.inter_token_ms);
  body["per_token_ms"] = to_json(group.per_token_ms);
  body["end_to_end_ms"] = to_json(group.total_ms);
  if (!report.objective.is_set()) return;
  body["good"] = group.good;
  body["goodput_per_second"] = report.per_s(static_cast<int64_t>(group.good));
}

}  // namespace

OrderedJson report_json(const Report& report) {
  OrderedJson body = {{"duration_s", report.duration_s}, {"interrupted", report.interrupted}};
  append(body, report, report.all);
  if (report.objective.ttft_ms > 0) body["slo_ttft_ms"] = report.objective.ttft_ms;
  if (report.objective.inter_token_ms > 0) body["slo_itl_ms"] = report.objective.inter_token_ms;
  if (report.groups.empty()) return body;
  body["groups"] = OrderedJson::array();
  for (const GroupReport& group : report.groups) {
    OrderedJson part = {{"name", group.name}};
    append(part, report, group);
    body["groups"].push_back(std::move(part));
  }
  return body;
}

}  // namespace ridge::loadgen
