#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "api/generation_fields.h"
#include "api/json_text.h"
#include "api/output_form.h"
#include "api/thinking_fields.h"
#include "api/tool_fields.h"

namespace ridge::api {

// A conversation to be answered, whatever wire format it came in: `prepare` (prompt.h) turns it
// into an engine request, and `engine::Delta` is what comes back.
struct ChatRequest {
  GenerationFields generation;
  int top_logprobs = -1;  // as in SamplingParams
  // Each an object with role (system, user, assistant, tool) and content; content is a string, or
  // null beside tool calls. Text parts are joined by newlines, earlier reasoning is left out.
  // tool_calls are [{"id", "type", "function": {"name", "arguments": "JSON text"}}].
  Json messages;
  ToolFields tools;
  OutputForm form;
  ThinkingFields thinking;
  std::string prompt_param = "messages";  // the field that a prompt that is too long came in
};

// One message as chat completions have it, in the form of ChatRequest::messages. `path` names it in
// errors.
Json parse_message(const Json& value, const std::string& path);

// The body of POST /v1/chat/completions.
// Throws Error(invalid_argument) naming the field,
// Error(unsupported) for what cannot be honoured yet.
ChatRequest parse_chat_request(const Json& body);

}  // namespace ridge::api
