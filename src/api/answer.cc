#include "api/answer.h"

#include <fmt/format.h>

#include "api/error_body.h"

namespace ridge::api {

std::string_view openai_finish_reason(engine::FinishReason reason) {
  if (reason == engine::FinishReason::tool_calls) return "tool_calls";
  return reason == engine::FinishReason::length ? "length" : "stop";
}

void Answer::fail(const Error& error, std::string_view request_id, std::string& out) {
  out += error_event(error, request_id);
}

std::string error_event(const Error& error, std::string_view request_id) {
  return fmt::format("data: {}\n\n", error_body(error, request_id));
}

}  // namespace ridge::api
