#include "api/error_body.h"

#include <fmt/format.h>

#include "api/json_text.h"

namespace ridge::api {
namespace {

std::string body(int status, std::string_view code, std::string_view message,
                 std::string_view param) {
  std::string out = "{\"error\":{\"message\":";
  append_json_string(out, message);
  out += ",\"type\":";
  append_json_string(out, error_type(status));
  out += ",\"param\":";
  if (param.empty()) {
    out += "null";
  } else {
    append_json_string(out, param);
  }
  out += ",\"code\":";
  append_json_string(out, code);
  out += "}}";
  return out;
}

std::string_view code_of(const Error& error) {
  // OpenAI's own name, which clients look for.
  if (error.code() == ErrorCode::not_found && error.param() == "model") return "model_not_found";
  return name(error.code());
}

}  // namespace

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "insufficient_quota";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

bool is_public(ErrorCode code) {
  return code != ErrorCode::internal && code != ErrorCode::io && code != ErrorCode::invalid_file;
}

std::string error_body(const Error& error, std::string_view request_id) {
  const int status = http_status(error.code());
  if (is_public(error.code())) return body(status, code_of(error), error.message(), error.param());
  const std::string message =
      fmt::format("The server failed; its log has the reason under request {}.", request_id);
  return body(status, code_of(error), message, {});
}

std::string error_body(int status, std::string_view code, std::string_view message) {
  return body(status, code, message, {});
}

}  // namespace ridge::api
