#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ridge::server {

// The first part of an HTTP/1.1 response.
struct ResponseHead {
  int status = 200;
  std::string_view content_type = "application/json";
  std::optional<std::size_t> content_bytes;  // absent: chunked, or up to the close for HTTP/1.0
  std::string_view cache_control = "no-store";
  bool keep_alive = true;
  bool is_http_1_0 = false;
  std::vector<std::pair<std::string_view, std::string>> headers;
};

// The head's bytes, up to and with the empty line. Header values lose line breaks.
std::string to_bytes(const ResponseHead& head);

// Appends one chunk; an empty `data` appends nothing, since an empty chunk ends a body.
void append_chunk(std::string& out, std::string_view data);
inline constexpr std::string_view last_chunk = "0\r\n\r\n";

// "Too Many Requests".
std::string_view reason_phrase(int status);

// The key that a request carries: the token of `Authorization: Bearer`, where there is one, else
// what stands in x-api-key, as Anthropic's clients send it.
std::string caller_key(std::string_view authorization, std::string_view api_key);

// Whether a client's own request id may be used: 1 to 128 of A-Z a-z 0-9 . _ -
bool is_request_id(std::string_view text);

}  // namespace ridge::server
