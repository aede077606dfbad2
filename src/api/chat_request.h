#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "api/generation_fields.h"
#include "api/json_text.h"

namespace ridge::api {

// POST /v1/chat/completions, checked and in the form that chat templates expect.
struct ChatRequest {
  GenerationFields generation;
  int top_logprobs = -1;  // as in SamplingParams
  // Each an object with role and content; content is a string, or null beside tool calls. Text
  // parts are joined by newlines, `developer` has become `system`,
  // and earlier reasoning is left out.
  Json messages;
  std::optional<Json> tools;      // absent with tool_choice "none"
  std::optional<Json> variables;  // for the template: enable_thinking, thinking, reasoning_effort
};

// Throws Error(invalid_argument) naming the field,
// Error(unsupported) for what cannot be honoured yet.
ChatRequest parse_chat_request(const Json& body);

}  // namespace ridge::api
