#pragma once

#include <span>
#include <string>

#include "api/served_model.h"

namespace ridge::server {

// Prometheus's text format: what vLLM's dashboards look for, under its names, and the histograms of
// OpenTelemetry's conventions for generative AI servers
// (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/).
std::string metrics_text(std::span<const api::ServedModel> models, int connections);

inline constexpr std::string_view metrics_content_type = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace ridge::server
