#pragma once

#include <prometheus/metric_family.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/served_model.h"
#include "platform/kept/request_keeper.h"
#include "server/otlp_exporter.h"

namespace ridge::server {

// What is counted outside of the engines.
struct ServerFigures {
  int connections = 0;
  std::optional<OtlpExporter::Counts> exports;       // where traces are exported
  std::optional<platform::RequestKeeper::Counts> kept;  // where prompts and answers may be
  std::optional<bool> usage_waits;                   // for the database; where it is metered
  std::vector<prometheus::MetricFamily> by_request;  // as GenAiMetrics and UsageMetrics have them
};

// Prometheus's text format: what vLLM's dashboards look for, under its names, and the histograms of
// OpenTelemetry's conventions for generative AI servers
// (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/).
std::string metrics_text(std::span<const api::ServedModel> models, const ServerFigures& figures);

inline constexpr std::string_view metrics_content_type = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace ridge::server
