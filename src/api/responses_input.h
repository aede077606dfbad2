#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "api/fields.h"

namespace ridge::api {

// The input of POST /v1/responses.
struct ResponsesInput {
  Json conversation;               // in the form of ChatRequest::messages, behind the earlier one
  std::vector<std::string> items;  // as JSON, each with an id of its own, as they are listed again
};

// `input`: a string, or items of the types message, function_call, function_call_output and
// reasoning. Throws Error(invalid_argument) naming the field, Error(unsupported) for other types.
ResponsesInput parse_responses_input(const Fields& body, Json earlier);

}  // namespace ridge::api
