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

}  // namespace ridge::text
