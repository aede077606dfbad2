#pragma once

#include <string_view>

namespace ridge {

// Without the spaces and tabs at its ends, as RFC 9110 (5.6.3) allows them around parts of headers.
inline std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace ridge
