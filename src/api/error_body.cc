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

std::string_view anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "billing_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 529:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

std::string in_style(ErrorStyle style, int status, std::string_view code, std::string_view message,
                     std::string_view param, std::string_view request_id) {
  if (style == ErrorStyle::openai) return body(status, code, message, param);
  std::string out;
  if (style == ErrorStyle::anthropic) {
    out = "{\"type\":\"error\",\"error\":{\"type\":";
    append_json_string(out, anthropic_type(status));
    out += ",\"message\":";
    append_json_string(out, message);
    out += "},\"request_id\":";
    append_json_string(out, request_id);
    out += '}';
  } else {
    out = "{\"error\":";
    append_json_string(out, message);
    out += '}';
  }
  return out;
}

bool is_unknown_previous_response(const Error& error) {
  return error.code() == ErrorCode::not_found && error.param() == "previous_response_id";
}

// OpenAI's own names, which clients look for, where it has any.
std::string_view code_of(const Error& error) {
  if (error.code() == ErrorCode::not_found && error.param() == "model") return "model_not_found";
  if (is_unknown_previous_response(error)) return "previous_response_not_found";
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

std::string public_message(const Error& error, std::string_view request_id) {
  if (is_public(error.code())) return std::string(error.message());
  return fmt::format("The server failed; its log has the reason under request {}.", request_id);
}

int status_of(const Error& error, ErrorStyle style) {
  if (is_unknown_previous_response(error)) return 400;
  const int status = http_status(error.code());
  return style == ErrorStyle::anthropic && status == 503 ? 529 : status;
}

std::string error_body(const Error& error, std::string_view request_id, ErrorStyle style) {
  return in_style(style, status_of(error, style), code_of(error), public_message(error, request_id),
                  is_public(error.code()) ? std::string_view(error.param()) : "", request_id);
}

std::string error_body(int status, std::string_view code, std::string_view message,
                       std::string_view request_id, ErrorStyle style) {
  return in_style(style, status, code, message, {}, request_id);
}

}  // namespace ridge::api
