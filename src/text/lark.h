#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ridge::text {

// `text` as a literal of a Lark grammar.
inline std::string lark_literal(std::string_view text) {
  using nlohmann::ordered_json;
  return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// A text without quotes, as a part of a regular expression between the slashes of a Lark grammar.
inline std::string for_regex(std::string_view text) {
  std::string out;
  for (const char byte : text) {
    if (byte == '.' || byte == '/' || byte == '-') out += '\\';
    out += byte;
  }
  return out;
}

}  // namespace ridge::text
