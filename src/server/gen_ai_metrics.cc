#include "server/gen_ai_metrics.h"

#include <algorithm>
#include <chrono>
#include <string>

namespace ridge::server {
namespace {

using prometheus::Histogram;

const Histogram::BucketBoundaries duration_bounds_s = {
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
const Histogram::BucketBoundaries first_token_bounds_s = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0};
const Histogram::BucketBoundaries output_token_bounds_s = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                                           0.3,  0.4,   0.5,  0.75,  1.0, 2.5};

const Histogram::BucketBoundaries request_token_bounds_s = {
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
    0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
const Histogram::BucketBoundaries token_bounds = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
const Histogram::BucketBoundaries phase_bounds_s = {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,  1.5,
                                                    2,    2.5,  5,   10,  15,  20,  30, 40,
                                                    50,   60,   120, 240, 480, 960};

prometheus::Family<Histogram>& histograms(prometheus::Registry& registry, const char* name,
                                          const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

}  // namespace

GenAiMetrics::GenAiMetrics()
    : duration_(histograms(registry_, "gen_ai_server_request_duration_seconds",
                           "gen_ai.server.request.duration: from arrival to the end.")),
      first_token_(histograms(registry_, "gen_ai_server_time_to_first_token_seconds",
                              "gen_ai.server.time_to_first_token: of answers that were given.")),
      output_token_(histograms(registry_, "gen_ai_server_time_per_output_token_seconds",
                               "gen_ai.server.time_per_output_token: after the first one.")),
      prompt_tokens_(histograms(registry_, "vllm:request_prompt_tokens", "Tokens of its prompts.")),
      generation_tokens_(
          histograms(registry_, "vllm:request_generation_tokens", "Tokens of its answers.")),
      prefill_time_(histograms(registry_, "vllm:request_prefill_time_seconds",
                               "From the first step to the first token.")),
      decode_time_(histograms(registry_, "vllm:request_decode_time_seconds",
                              "From the first token to the end.")),
      inference_time_(histograms(registry_, "vllm:request_inference_time_seconds",
                                 "From the first step to the end.")),
      request_token_time_(histograms(registry_, "vllm:request_time_per_output_token_seconds",
                                     "Between its tokens, on average.")) {}

void GenAiMetrics::observe(const api::RequestRecord& record) {
  const api::RequestRecord::Snapshot end = record.snapshot();
  if (end.model.empty() || !end.ended) return;
  prometheus::Labels labels = {{"gen_ai_operation_name", std::string(record.origin.operation)},
                               {"gen_ai_provider_name", "ridgeline"},
                               {"gen_ai_request_model", end.model}};
  std::optional<double> token_s;  // between tokens, where there are several
  if (end.error.empty()) {
    const auto* const first = end.first(engine::TraceEvent::Kind::first_token);
    if (first != nullptr) {
      first_token_.Add(labels, first_token_bounds_s)
          .Observe(seconds(first->at - record.origin.arrived));
    }
    const int answers = std::max(1, end.asked.prompts * end.asked.choices);
    const double tokens = static_cast<double>(end.usage.completion_tokens) / answers;
    if (first != nullptr && tokens > 1) {
      token_s = seconds(*end.ended - first->at) / (tokens - 1);
      output_token_.Add(labels, output_token_bounds_s).Observe(*token_s);
    }
  } else {
    labels.emplace("error_type", end.error);
  }
  duration_.Add(labels, duration_bounds_s).Observe(seconds(*end.ended - record.origin.arrived));
  if (end.error.empty()) observe_as_vllm(end, token_s);
}

void GenAiMetrics::observe_as_vllm(const api::RequestRecord::Snapshot& end,
                                   std::optional<double> token_s) {
  const prometheus::Labels labels = {{"model_name", end.model}};
  prompt_tokens_.Add(labels, token_bounds).Observe(end.usage.prompt_tokens);
  generation_tokens_.Add(labels, token_bounds).Observe(end.usage.completion_tokens);
  const auto* const begun = end.first(engine::TraceEvent::Kind::admitted);
  if (begun == nullptr) return;
  inference_time_.Add(labels, phase_bounds_s).Observe(seconds(*end.ended - begun->at));
  const auto* const first = end.first(engine::TraceEvent::Kind::first_token);
  if (first == nullptr) return;  // of a request for vectors
  prefill_time_.Add(labels, phase_bounds_s).Observe(seconds(first->at - begun->at));
  decode_time_.Add(labels, phase_bounds_s).Observe(seconds(*end.ended - first->at));
  if (token_s) request_token_time_.Add(labels, request_token_bounds_s).Observe(*token_s);
}

}  // namespace ridge::server
