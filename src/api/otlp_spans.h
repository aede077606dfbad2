#pragma once

#include <memory>
#include <string>
#include <vector>

#include "api/request_record.h"

namespace ridge::api {

// Requests that have ended as OpenTelemetry spans: the body of an OTLP/HTTP export in JSON
// (https://opentelemetry.io/docs/specs/otlp/), with the attributes of the conventions for
// generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). Each request is
// a server span, and under it one for each prompt's time in the queue, of its prefill and of its
// decoding.
std::string otlp_body(const std::vector<std::shared_ptr<const RequestRecord>>& records);

}  // namespace ridge::api
