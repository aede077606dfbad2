#include "server/route.h"

#include <optional>

namespace ridge::server {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Nullopt where an escape is broken.
std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

bool is_posted(Route route) {
  return route == Route::chat_completions || route == Route::completions ||
         route == Route::answer_now;
}

}  // namespace

RouteMatch match_route(std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  if (path == "/") return {Route::hello};
  if (path == "/health") return {Route::health};
  if (path == "/metrics") return {Route::metrics};
  if (path == "/v1/health/live") return {Route::live};
  if (path == "/v1/health/ready") return {Route::ready};
  if (path == "/v1/models") return {Route::models};
  if (path == "/v1/chat/completions") return {Route::chat_completions};
  if (path == "/v1/completions") return {Route::completions};
  constexpr std::string_view requests_prefix = "/v1/requests/", answer_now = "/answer_now";
  if (path.size() > requests_prefix.size() + answer_now.size() &&
      path.starts_with(requests_prefix) && path.ends_with(answer_now)) {
    auto id = percent_decode(path.substr(requests_prefix.size(),
                                         path.size() - requests_prefix.size() - answer_now.size()));
    if (id && id->find('/') == std::string::npos) return {Route::answer_now, std::move(*id)};
  }
  constexpr std::string_view model_prefix = "/v1/models/";
  if (path.size() > model_prefix.size() && path.starts_with(model_prefix)) {
    auto name = percent_decode(path.substr(model_prefix.size()));
    if (name) return {Route::model, std::move(*name)};
  }
  return {};
}

std::string_view allowed_methods(Route route) { return is_posted(route) ? "POST" : "GET, HEAD"; }

bool allows_method(Route route, std::string_view method) {
  return is_posted(route) ? method == "POST" : method == "GET" || method == "HEAD";
}

std::string_view name(Route route) {
  switch (route) {
    case Route::hello:
      return "/";
    case Route::health:
      return "/health";
    case Route::live:
      return "/v1/health/live";
    case Route::metrics:
      return "/metrics";
    case Route::ready:
      return "/v1/health/ready";
    case Route::models:
      return "/v1/models";
    case Route::model:
      return "/v1/models/{id}";
    case Route::chat_completions:
      return "/v1/chat/completions";
    case Route::completions:
      return "/v1/completions";
    case Route::answer_now:
      return "/v1/requests/{id}/answer_now";
    case Route::unknown:
      return "(unknown)";
  }
  return "(unknown)";
}

}  // namespace ridge::server
