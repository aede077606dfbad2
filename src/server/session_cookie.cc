#include "server/session_cookie.h"

#include <fmt/format.h>

namespace ridge::server {
namespace {

constexpr std::size_t most_token_bytes = 200;

std::string_view name_of(bool is_secure) {
  return is_secure ? "__Host-ridge_session" : "ridge_session";
}

std::string cookie(std::string_view token, bool is_secure, int64_t max_age_s) {
  return fmt::format("{}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{}", name_of(is_secure),
                     token, max_age_s, is_secure ? "; Secure" : "");
}

}  // namespace

std::string session_cookie(std::string_view token, bool is_secure, std::chrono::seconds lives) {
  return cookie(token, is_secure, lives.count());
}

std::string ended_session_cookie(bool is_secure) { return cookie("", is_secure, 0); }

std::string session_token(std::string_view cookies, bool is_secure) {
  const std::string_view wanted = name_of(is_secure);
  while (!cookies.empty()) {
    const std::size_t end = cookies.find(';');
    std::string_view pair = cookies.substr(0, end);
    cookies = end == std::string_view::npos ? std::string_view() : cookies.substr(end + 1);
    while (pair.starts_with(' ')) pair.remove_prefix(1);
    if (pair.starts_with(wanted) && pair.substr(wanted.size()).starts_with('=')) {
      const std::string_view token = pair.substr(wanted.size() + 1);
      return token.size() > most_token_bytes ? std::string() : std::string(token);
    }
  }
  return {};
}

}  // namespace ridge::server
