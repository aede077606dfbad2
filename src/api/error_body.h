#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace ridge::api {

// OpenAI's name for the kind of failure behind an HTTP status: "invalid_request_error", ….
std::string_view error_type(int status);

// {"error":{"message","type","param","code"}}. A failure of ours (5xx that is not about load) shows
// no path and no detail: its message names `request_id`, under which the log has the rest.
std::string error_body(const Error& error, std::string_view request_id);
// The same for a failure that only HTTP knows (404, 405, 431 …).
std::string error_body(int status, std::string_view code, std::string_view message);

// Whether a failure's own message may be shown to a client.
bool is_public(ErrorCode code);

}  // namespace ridge::api
