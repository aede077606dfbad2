#pragma once

#include "api/chat_request.h"

namespace ridge::api {

// POST /v1/messages, checked
// (https://docs.anthropic.com/en/api/messages).
struct AnthropicRequest {
  ChatRequest chat;
  bool hides_thinking = false;  // thinking.display is "omitted"
};

// Throws Error(invalid_argument) naming the field, Error(unsupported) for what cannot be honoured:
// images and documents, tools that Anthropic's service runs itself, and a last message of the
// assistant's that is to be continued.
AnthropicRequest parse_anthropic_request(const Json& body);

// POST /v1/messages/count_tokens: the same without `max_tokens`.
ChatRequest parse_count_tokens_request(const Json& body);

// {"input_tokens": N}
std::string token_count_body(int tokens);

}  // namespace ridge::api
