#pragma once

#include <string>
#include <string_view>

namespace ridge {

// Whether a byte of UTF-8 stands in a JSON string as it is (RFC 8259, section 7).
inline bool is_plain_in_json(char byte) {
  return static_cast<unsigned char>(byte) >= 0x20 && byte != '"' && byte != '\\';
}

// Appends a byte that does not, as the inside of a JSON string has it.
inline void append_json_escaped(std::string& out, char byte) {
  constexpr std::string_view short_forms = "\"\"\\\\\nn\rr\tt\bb\ff";  // each byte and its letter
  constexpr std::string_view digits = "0123456789abcdef";
  out += '\\';
  for (std::size_t i = 0; i < short_forms.size(); i += 2) {
    if (short_forms[i] != byte) continue;
    out += short_forms[i + 1];
    return;
  }
  const auto code = static_cast<unsigned char>(byte);
  out += "u00";
  out += digits[code >> 4];
  out += digits[code & 15];
}

}  // namespace ridge
