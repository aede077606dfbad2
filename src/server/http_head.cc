#include "server/http_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

namespace ridge::server {
namespace {

void append_header(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (const char c : value) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  out += "\r\n";
}

// RFC 9110, section 5.6.7; the names are English whatever the locale.
std::string http_date() {
  static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", days[utc.tm_wday], utc.tm_mday,
                     months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace

std::string to_bytes(const ResponseHead& head) {
  std::string out = fmt::format("HTTP/1.{} {} {}\r\n", head.is_http_1_0 ? 0 : 1, head.status,
                                reason_phrase(head.status));
  append_header(out, "Date", http_date());
  append_header(out, "Server", "ridgeline");
  const bool has_content = head.status != 204 && head.status != 304;
  if (has_content) append_header(out, "Content-Type", head.content_type);
  if (head.content_bytes && has_content) {
    append_header(out, "Content-Length", std::to_string(*head.content_bytes));
  } else if (!head.content_bytes && !head.is_http_1_0) {
    append_header(out, "Transfer-Encoding", "chunked");
  }
  append_header(out, "Cache-Control", head.cache_control);
  append_header(out, "X-Content-Type-Options", "nosniff");
  if (!head.keep_alive) {
    append_header(out, "Connection", "close");
  } else if (head.is_http_1_0) {
    append_header(out, "Connection", "keep-alive");
  }
  for (const auto& [name, value] : head.headers) append_header(out, name, value);
  out += "\r\n";
  return out;
}

void append_chunk(std::string& out, std::string_view data) {
  if (data.empty()) return;
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", data.size());
  out += data;
  out += "\r\n";
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 529:
      return "Overloaded";
    default:
      return "Error";
  }
}

std::string caller_key(std::string_view authorization, std::string_view api_key) {
  constexpr std::string_view scheme = "bearer";
  const std::string_view given = authorization.substr(0, scheme.size());
  const bool is_bearer =
      std::ranges::equal(scheme, given,
                         [](char wanted, char letter) {
                           return wanted ==
                                  (letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter);
                         }) &&
      (authorization.size() == scheme.size() || authorization[scheme.size()] == ' ');
  std::string_view key = is_bearer ? authorization.substr(scheme.size()) : authorization;
  key.remove_prefix(std::min(key.find_first_not_of(' '), key.size()));
  return std::string(key.empty() ? api_key : key);
}

bool is_request_id(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), allowed);
}

}  // namespace ridge::server
