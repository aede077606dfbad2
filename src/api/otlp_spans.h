#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/request_record.h"

namespace ridge::api {

// Requests that have ended as OpenTelemetry spans: the body of an OTLP/HTTP export in JSON
// (https://opentelemetry.io/docs/specs/otlp/), with the attributes of the conventions for
// generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). Each request is
// a server span, and under it one for each prompt's time in the queue, of its prefill and of its
// decoding.
std::string otlp_body(const std::vector<std::shared_ptr<const RequestRecord>>& records);

// What a collector that took an export says against it: the partialSuccess of its answer.
struct OtlpRejection {
  int64_t spans = 0;  // that it did not keep
  std::string
      message;  // in its words, or a warning of what it did keep; at most 300 bytes in one line
  bool is_empty() const { return spans == 0 && message.empty(); }
};
// Empty where `answer` is nothing of the kind.
OtlpRejection otlp_rejection(std::string_view answer);

}  // namespace ridge::api
