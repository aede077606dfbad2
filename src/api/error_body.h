#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace ridge::api {

// OpenAI's name for the kind of failure behind an HTTP status: "invalid_request_error", ….
std::string_view error_type(int status);

// Whose form an error has: each format's clients look for their own.
enum class ErrorStyle {
  openai,     // {"error":{"message","type","param","code"}}
  anthropic,  // {"type":"error","error":{"type","message"},"request_id"}
  ollama,     // {"error":"message"}
};

// The status of a failure: http_status, but that Anthropic's clients know a server that is away or
// full as 529, and OpenAI's a previous_response_id that is not there as 400.
int status_of(const Error& error, ErrorStyle style);

// A failure of ours (5xx that is not about load) shows
// no path and no detail: its message names `request_id`, under which the log has the rest.
std::string error_body(const Error& error, std::string_view request_id,
                       ErrorStyle style = ErrorStyle::openai);
// The same for a failure that only HTTP knows (404, 405, 431 …).
std::string error_body(int status, std::string_view code, std::string_view message,
                       std::string_view request_id, ErrorStyle style = ErrorStyle::openai);

// The message that a client may see.
std::string public_message(const Error& error, std::string_view request_id);
// Whether a failure's own message may be shown to a client.
bool is_public(ErrorCode code);

}  // namespace ridge::api
