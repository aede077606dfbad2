#pragma once

#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <optional>
#include <vector>

#include "api/request_record.h"

namespace ridge::server {

// Histograms by request: those of OpenTelemetry's conventions for generative AI servers, with their
// bounds (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/): one observation of
// each for an HTTP request. And those that dashboards of vLLM show
// (https://docs.vllm.ai/en/latest/usage/metrics.html), of those that were answered. Any thread.
class GenAiMetrics {
 public:
  GenAiMetrics();

  // Of a request that has ended.
  void observe(const api::RequestRecord& record);
  std::vector<prometheus::MetricFamily> collect() const { return registry_.Collect(); }

 private:
  void observe_as_vllm(const api::RequestRecord::Snapshot& end, std::optional<double> token_s);

  using Histograms = prometheus::Family<prometheus::Histogram>;

  prometheus::Registry registry_;
  Histograms& duration_;
  Histograms& first_token_;
  Histograms& output_token_;
  Histograms& prompt_tokens_;
  Histograms& generation_tokens_;
  Histograms& prefill_time_;
  Histograms& decode_time_;
  Histograms& inference_time_;
  Histograms& request_token_time_;
};

}  // namespace ridge::server
