#include "server/access_rules.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

namespace ridge::server {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

bool contains(const std::vector<std::string>& list, std::string_view wanted) {
  return std::any_of(list.begin(), list.end(), [&](const std::string& entry) {
    return entry == "*" || lower(entry) == wanted;
  });
}

bool is_address(const std::string& host) {
  unsigned char bytes[16];
  if (inet_pton(AF_INET, host.c_str(), bytes) == 1) return true;
  if (host.size() < 2 || host.front() != '[' || host.back() != ']') return false;
  return inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), bytes) == 1;
}

bool is_same_host(std::string_view origin, std::string_view host) {
  const std::size_t scheme = origin.find("://");
  return scheme != std::string_view::npos && !host.empty() &&
         lower(origin.substr(scheme + 3)) == lower(host);
}

bool is_loopback_name(const std::string& host) {
  return host == "localhost" || host == "[::1]" || (host.starts_with("127.") && is_address(host));
}

}  // namespace

std::string host_without_port(std::string_view host) {
  const std::size_t bracket = host.find(']');
  const std::size_t from = bracket == std::string_view::npos ? 0 : bracket;
  return lower(host.substr(0, host.find(':', from)));
}

AccessRules::AccessRules(std::string host, bool is_loopback, std::vector<std::string> allowed_hosts,
                         std::vector<std::string> cors_origins)
    : host_(lower(host)),
      is_loopback_(is_loopback),
      allowed_hosts_(std::move(allowed_hosts)),
      cors_origins_(std::move(cors_origins)) {}

bool AccessRules::allows_host(std::string_view header) const {
  const std::string host = host_without_port(header);
  if (host.empty()) return false;
  if (is_loopback_name(host) || host == host_ || host == "[" + host_ + "]") return true;
  if (!is_loopback_ && is_address(host)) return true;
  return contains(allowed_hosts_, host);
}

bool AccessRules::allows_origin(std::string_view origin, std::string_view host) const {
  return origin.empty() || is_same_host(origin, host) || is_cors_origin(origin);
}

bool AccessRules::allows_session(std::string_view origin, std::string_view host,
                                 bool is_secure) const {
  if (is_same_host(origin, host)) return !is_secure || lower(origin).starts_with("https://");
  return !origin.empty() && std::ranges::any_of(cors_origins_, [&](const std::string& entry) {
    return lower(entry) == lower(origin);
  });
}

bool AccessRules::is_cors_origin(std::string_view origin) const {
  return !origin.empty() && contains(cors_origins_, lower(origin));
}

}  // namespace ridge::server
