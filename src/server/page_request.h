#pragma once

#include <string>
#include <string_view>

#include "server/route.h"

namespace ridge::server {

enum class ContentCoding { identity, gzip, brotli };

// What a browser says of a file that it wants to show.
struct PageRequest {
  bool wanted = false;  // else programs' answers are given, to who has a key
  ContentCoding coding = ContentCoding::identity;
  std::string if_none_match;
};

// Whether a request is for the console, which is given to anyone: its files, and the first page for
// what shows HTML.
bool is_for_console(Route route, std::string_view method, std::string_view accept);

// The best coding that a header Accept-Encoding allows (RFC 9110, 12.5.3).
ContentCoding best_coding(std::string_view accept_encoding);
std::string_view name(ContentCoding coding);

// Whether a header If-None-Match names the etag.
bool names_etag(std::string_view if_none_match, std::string_view etag);

}  // namespace ridge::server
