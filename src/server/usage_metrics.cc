#include "server/usage_metrics.h"

#include <algorithm>

namespace ridge::server {
namespace {

using prometheus::Counter;
using prometheus::Labels;

prometheus::Family<Counter>& counters(prometheus::Registry& registry, const char* name,
                                      const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

const char* result_of(const platform::Settlement& settlement) {
  if (settlement.finish_reason == "cancelled") return "cancelled";
  return settlement.finish_reason == "failed" ? "failed" : "answered";
}

const char* name_of(platform::Refusal::Kind kind) {
  using Kind = platform::Refusal::Kind;
  switch (kind) {
    case Kind::rate:
      return "rate";
    case Kind::spent:
      return "spent";
    case Kind::too_large:
      return "too_large";
    case Kind::unavailable:
      break;
  }
  return "unavailable";
}

}  // namespace

UsageMetrics::UsageMetrics()
    : requests_(counters(registry_, "ridge:usage_requests_total",
                         "Metered requests that have ended, by project, model and result.")),
      prompt_tokens_(counters(registry_, "ridge:usage_prompt_tokens_total",
                              "Tokens of their prompts, cached ones among them.")),
      cached_tokens_(counters(registry_, "ridge:usage_cached_tokens_total",
                              "Tokens of their prompts that the prefix cache had.")),
      completion_tokens_(
          counters(registry_, "ridge:usage_completion_tokens_total", "Tokens of their answers.")),
      refusals_(counters(registry_, "ridge:usage_refusals_total",
                         "Requests that limits refused: rate (429), spent (402), too_large (400), "
                         "unavailable (503).")) {}

void UsageMetrics::count(const std::string& project, const std::string& model,
                         const platform::Settlement& settlement) {
  if (settlement.is_void) return;
  Labels labels = {{"model_name", model}, {"project", label_of(project)}};
  prompt_tokens_.Add(labels).Increment(static_cast<double>(settlement.prompt_tokens));
  cached_tokens_.Add(labels).Increment(static_cast<double>(settlement.cached_tokens));
  completion_tokens_.Add(labels).Increment(static_cast<double>(settlement.completion_tokens));
  labels.emplace("result", result_of(settlement));
  requests_.Add(labels).Increment();
}

void UsageMetrics::count_refusal(const std::string& project, platform::Refusal::Kind kind) {
  refusals_.Add({{"project", label_of(project)}, {"reason", name_of(kind)}}).Increment();
}

std::vector<prometheus::MetricFamily> UsageMetrics::collect(
    const std::optional<std::string>& project) const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  if (!project) return families;
  const auto is_anothers = [&](const prometheus::ClientMetric& metric) {
    return std::ranges::none_of(metric.label, [&](const auto& label) {
      return label.name == "project" && label.value == *project;
    });
  };
  for (prometheus::MetricFamily& each : families) std::erase_if(each.metric, is_anothers);
  return families;
}

std::string UsageMetrics::label_of(const std::string& project) {
  const std::lock_guard lock(mutex_);
  if (projects_.contains(project)) return project;
  if (projects_.size() >= most_projects) return "(other)";
  projects_.insert(project);
  return project;
}

}  // namespace ridge::server
