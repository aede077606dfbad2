#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/chat_request.h"
#include "api/response_store.h"

namespace ridge::api {

// POST /v1/responses, checked
// (https://platform.openai.com/docs/api-reference/responses/create).
struct ResponsesRequest {
  ChatRequest chat;
  bool store = true;
  std::vector<std::string> input;  // its items as JSON, as GET …/input_items lists them
  Json conversation;               // chat.messages without the instructions
  Json echo;                       // the members of a response that repeat what was asked
};

// The earlier response of the caller's with this id, or nullptr.
using FindResponse = std::function<std::shared_ptr<const StoredResponse>(const std::string& id)>;

// Throws Error(invalid_argument) naming the field, Error(unsupported) for what cannot be honoured:
// images and files, tools that OpenAI's service runs itself, background work.
ResponsesRequest parse_responses_request(const Json& body, const FindResponse& find_response);

}  // namespace ridge::api
