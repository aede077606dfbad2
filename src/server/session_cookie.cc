#include "server/session_cookie.h"

#include <fmt/format.h>

namespace ridge::server {
namespace {

constexpr std::size_t most_token_bytes = 200;

constexpr std::string_view session_name = "ridge_session", attempt_name = "ridge_oidc";

std::string name_of(std::string_view name, bool is_secure) {
  return fmt::format("{}{}", is_secure ? "__Host-" : "", name);
}

std::string cookie(std::string_view name, std::string_view value, std::string_view same_site,
                   bool is_secure, std::chrono::seconds lives) {
  return fmt::format("{}={}; Path=/; Max-Age={}; HttpOnly; SameSite={}{}", name_of(name, is_secure),
                     value, lives.count(), same_site, is_secure ? "; Secure" : "");
}

std::string value_of(std::string_view cookies, const std::string& wanted) {
  while (!cookies.empty()) {
    const std::size_t end = cookies.find(';');
    std::string_view pair = cookies.substr(0, end);
    cookies = end == std::string_view::npos ? std::string_view() : cookies.substr(end + 1);
    while (pair.starts_with(' ')) pair.remove_prefix(1);
    if (pair.starts_with(wanted) && pair.substr(wanted.size()).starts_with('=')) {
      const std::string_view value = pair.substr(wanted.size() + 1);
      return value.size() > most_token_bytes ? std::string() : std::string(value);
    }
  }
  return {};
}

}  // namespace

std::string session_cookie(std::string_view token, bool is_secure, std::chrono::seconds lives) {
  return cookie(session_name, token, "Strict", is_secure, lives);
}

std::string ended_session_cookie(bool is_secure) {
  return session_cookie("", is_secure, std::chrono::seconds(0));
}

std::string session_token(std::string_view cookies, bool is_secure) {
  return value_of(cookies, name_of(session_name, is_secure));
}

std::string attempt_cookie(std::string_view secret, bool is_secure, std::chrono::seconds lives) {
  return cookie(attempt_name, secret, "Lax", is_secure, lives);
}

std::string attempt_secret(std::string_view cookies, bool is_secure) {
  return value_of(cookies, name_of(attempt_name, is_secure));
}

}  // namespace ridge::server
