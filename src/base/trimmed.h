#pragma once

#include <string_view>

namespace ridge {

// What separates words and lines of a text.
inline constexpr std::string_view white_space = " \t\r\n";

// Without what of `blanks` stands at its ends; spaces and tabs are what RFC 9110 (5.6.3) allows
// around parts of headers.
inline std::string_view trimmed(std::string_view text, std::string_view blanks = " \t") {
  const auto begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return text.substr(text.size());
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

}  // namespace ridge
