#include "server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace ridge::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Label = ClientMetric::Label;

class Metrics {
 public:
  explicit Metrics(std::vector<MetricFamily> families) : families_(std::move(families)) {}

  void gauge(const char* name, const char* help, double value, std::vector<Label> labels) {
    ClientMetric& metric = add(name, help, MetricType::Gauge, std::move(labels));
    metric.gauge.value = value;
  }
  void counter(const char* name, const char* help, uint64_t value, std::vector<Label> labels) {
    ClientMetric& metric = add(name, help, MetricType::Counter, std::move(labels));
    metric.counter.value = static_cast<double>(value);
  }
  template <const auto& bounds>
  void histogram(const char* name, const char* help, const engine::Histogram<bounds>& values,
                 std::vector<Label> labels) {
    ClientMetric& metric = add(name, help, MetricType::Histogram, std::move(labels));
    uint64_t count = 0;
    for (size_t i = 0; i < values.counts.size(); ++i) {
      count += values.counts[i];
      const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({count, bound});
    }
    metric.histogram.sample_count = count;
    metric.histogram.sample_sum = values.sum;
  }

  std::string text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return out.str();
  }

 private:
  // Metrics of one name stand together, over all models.
  ClientMetric& add(const char* name, const char* help, MetricType type,
                    std::vector<Label> labels) {
    MetricFamily* family = nullptr;
    for (MetricFamily& each : families_) {
      if (each.name == name) family = &each;
    }
    if (family == nullptr) {
      family = &families_.emplace_back();
      family->name = name;
      family->help = help;
      family->type = type;
    }
    ClientMetric& metric = family->metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

  std::vector<MetricFamily> families_;
};

Label label(std::string name, std::string value) {
  Label label;
  label.name = std::move(name);
  label.value = std::move(value);
  return label;
}

void add_state(Metrics& metrics, const engine::EngineStats& stats, const std::string& model) {
  const std::vector<Label> labels = {label("model_name", model)};
  metrics.gauge("vllm:num_requests_running", "Answers that are being made.", stats.running, labels);
  metrics.gauge("vllm:num_requests_waiting", "Answers that wait for a place or for blocks.",
                stats.waiting, labels);
  const int used = stats.blocks_total - stats.blocks_free;
  metrics.gauge("vllm:kv_cache_usage_perc", "Part of the KV cache that answers hold, from 0 to 1.",
                stats.blocks_total > 0 ? static_cast<double>(used) / stats.blocks_total : 0,
                labels);
  // vLLM's dashboards read the labels.
  metrics.gauge(
      "vllm:cache_config_info", "What the KV cache is made of, in its labels.", 1,
      {label("block_size", std::to_string(stats.block_tokens)),
       label("num_gpu_blocks", std::to_string(stats.blocks_total)), label("model_name", model)});
  metrics.gauge("ridge:kv_cache_blocks_cached", "Blocks that the prefix cache knows.",
                stats.blocks_cached, labels);
  metrics.gauge("ridge:kv_cache_blocks_spilled", "Blocks kept outside of the KV cache.",
                stats.blocks_spilled, labels);
  metrics.gauge("ridge:expert_held_bytes", "Memory for experts whose others stay in the file.",
                static_cast<double>(stats.expert_held_bytes), labels);
}

// Which adapters have requests: gateways send a request to where its adapter is in use.
void add_adapters(Metrics& metrics, const engine::EngineStats& stats,
                  const std::vector<engine::AdapterInfo>& adapters, const std::string& model) {
  if (adapters.empty()) return;
  std::string running, waiting;
  const auto add = [](std::string& names, const std::string& name) {
    names += (names.empty() ? "" : ",") + name;
  };
  for (size_t i = 0; i < std::min(adapters.size(), stats.adapters.size()); ++i) {
    if (stats.adapters[i].running > 0) add(running, adapters[i].name);
    if (stats.adapters[i].waiting > 0) add(waiting, adapters[i].name);
  }
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  metrics.gauge("vllm:lora_requests_info",
                "Adapters that have requests, in its labels; the time of this statement.",
                now.count(),
                {label("max_lora", std::to_string(adapters.size())),
                 label("waiting_lora_adapters", waiting), label("running_lora_adapters", running),
                 label("model_name", model)});
}

void add_totals(Metrics& metrics, const engine::EngineStats& stats, const std::string& model) {
  const std::vector<Label> labels = {label("model_name", model)};
  metrics.counter("vllm:prompt_tokens_total", "Tokens of prompts, cached ones among them.",
                  stats.prompt_tokens_total, labels);
  metrics.counter("vllm:generation_tokens_total", "Tokens of answers.",
                  stats.generated_tokens_total, labels);
  metrics.counter("vllm:prefix_cache_queries_total", "Tokens looked up in the prefix cache.",
                  stats.queried_tokens_total, labels);
  metrics.counter("vllm:prefix_cache_hits_total", "Tokens found in the prefix cache.",
                  stats.cached_tokens_total, labels);
  metrics.counter("vllm:num_preemptions_total", "Answers that lost their place for a while.",
                  stats.preemptions_total, labels);
  metrics.counter("ridge:kv_cache_spilled_blocks_total",
                  "Blocks whose content was kept outside of the KV cache.",
                  stats.blocks_spilled_total, labels);
  metrics.counter("ridge:kv_cache_restored_blocks_total", "Those that came back to be used.",
                  stats.blocks_restored_total, labels);
  metrics.counter("vllm:spec_decode_num_drafts_total",
                  "Times that guesses for an answer were checked.", stats.drafts_total, labels);
  metrics.counter("vllm:spec_decode_num_draft_tokens_total", "Guessed tokens that were checked.",
                  stats.draft_tokens_total, labels);
  metrics.counter("vllm:spec_decode_num_accepted_tokens_total", "Guessed tokens that were right.",
                  stats.accepted_tokens_total, labels);
  metrics.counter("ridge:steps_total", "Forward passes.", stats.steps_total, labels);
  metrics.counter("ridge:expert_hits_total", "Paged experts that a step found in memory.",
                  stats.expert_hits_total, labels);
  metrics.counter("ridge:expert_misses_total", "Paged experts that a step read from the file.",
                  stats.expert_misses_total, labels);
  metrics.counter("ridge:expert_read_bytes_total", "Bytes of the file that these were.",
                  stats.expert_read_bytes_total, labels);
  // vLLM knows no tool_calls, and counts them as stop. Its names of the other reasons:
  constexpr std::pair<engine::FinishReason, std::string_view> reasons[] = {
      {engine::FinishReason::stop, "stop"},
      {engine::FinishReason::length, "length"},
      {engine::FinishReason::cancelled, "abort"},
      {engine::FinishReason::failed, "error"}};
  const auto count_of = [&](engine::FinishReason reason) {
    return stats.choices_by_reason[static_cast<size_t>(reason)];
  };
  for (const auto& [reason, name] : reasons) {
    uint64_t count = count_of(reason);
    if (reason == engine::FinishReason::stop) count += count_of(engine::FinishReason::tool_calls);
    metrics.counter("vllm:request_success_total", "Ended answers by the reason of their end.",
                    count,
                    {label("finished_reason", std::string(name)), label("model_name", model)});
  }
}

void add_histograms(Metrics& metrics, const engine::EngineStats& stats, const std::string& model) {
  const std::vector<Label> labels = {label("model_name", model)};
  metrics.histogram("vllm:iteration_tokens_total", "Tokens of each forward pass.",
                    stats.step_tokens, labels);
  metrics.histogram("vllm:request_queue_time_seconds", "From arrival to the first step.",
                    stats.queue, labels);
  metrics.histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.",
                    stats.first_token, labels);
  metrics.histogram("vllm:inter_token_latency_seconds",
                    "Between two steps that gave one answer tokens.", stats.inter_token, labels);
  metrics.histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.",
                    stats.end_to_end, labels);
}

void add_exports(Metrics& metrics, const OtlpExporter::Counts& counts) {
  const auto add = [&](const char* result, uint64_t value) {
    metrics.counter("ridge:otlp_requests_total",
                    "Requests whose traces were exported, dropped for want of room, or refused.",
                    value, {label("result", result)});
  };
  add("exported", counts.exported);
  add("dropped", counts.dropped);
  add("failed", counts.failed);
  metrics.counter("ridge:otlp_rejected_spans_total",
                  "Spans that the collector says it did not keep, of exports that it took.",
                  counts.rejected_spans, {});
}

}  // namespace

std::string metrics_text(std::span<const api::ServedModel> models, const ServerFigures& figures) {
  Metrics metrics(figures.by_request);
  metrics.gauge("ridge:connections", "Open connections.", figures.connections, {});
  if (figures.usage_waits) {
    metrics.gauge("ridge:usage_waits_for_database",
                  "1 while the database is away: nothing new is admitted, and usage is spooled.",
                  *figures.usage_waits ? 1 : 0, {});
  }
  if (figures.kept) {
    constexpr const char* help =
        "Requests whose prompts and answers were kept for their project, or dropped as the "
        "database was behind.";
    const auto add = [&](const char* result, int64_t value) {
      metrics.counter("ridge:kept_requests_total", help, static_cast<uint64_t>(value),
                      {label("result", result)});
    };
    add("kept", figures.kept->kept);
    add("dropped", figures.kept->dropped);
  }
  if (figures.exports) add_exports(metrics, *figures.exports);
  for (const api::ServedModel& model : models) {
    if (model.is_adapter()) continue;  // its engine is the model's
    const engine::EngineStats stats = model.engine->stats();
    add_state(metrics, stats, model.name);
    add_adapters(metrics, stats, model.engine->model_info().adapters, model.name);
    add_totals(metrics, stats, model.name);
    add_histograms(metrics, stats, model.name);
  }
  return metrics.text();
}

}  // namespace ridge::server
