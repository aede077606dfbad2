#pragma once

#include <string>
#include <string_view>

#include "api/response_store.h"
#include "base/error.h"

namespace ridge::api {

// What is answered about a response that was kept. `query` is what stands behind "?" in the
// request's address; Error(invalid_argument) names the part of it that is wrong.

// The error for an id that is not among the caller's.
Error no_such_response(std::string_view id);

struct ResponseBody {
  std::string text;
  std::string_view content_type;
};

// GET /v1/responses/{id}: the response; or, with stream=true, the events that make it, those behind
// the one with the number starting_after.
ResponseBody response_body(const StoredResponse& response, std::string_view query);

// GET /v1/responses/{id}/input_items: limit (1 to 100), order (asc, desc), after (an item's id).
std::string input_items_body(const StoredResponse& response, std::string_view query);

// POST /v1/responses/{id}/cancel, of one that was being made: what it has said goes to its own client
// alone.
std::string cancelled_response_body(std::string_view id, std::string_view model);

// DELETE /v1/responses/{id}.
std::string deleted_response_body(std::string_view id);

}  // namespace ridge::api
