#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "platform/digest.h"

namespace ridge::platform {

// The text of an API key: "rgk_", 43 random letters and digits (256 bits), and 6 more that are a
// checksum of all before. The beginning lets scanners of secrets find it, the checksum tells a
// mistyped key from an unknown one without asking the database. See docs/adr/0022.
class ApiKeyText {
 public:
  static constexpr std::string_view prefix = "rgk_";

  // From the system's random numbers. Throws internal where there are none.
  static ApiKeyText generate();
  // Nullopt where the form or the checksum is wrong.
  static std::optional<ApiKeyText> parse(std::string_view text);

  const std::string& text() const { return text_; }  // a secret: shown once, never kept or logged
  Digest hash() const { return Digest::of(text_); }  // what is kept
  std::string hint() const;                          // its beginning, by which people know it again

 private:
  explicit ApiKeyText(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// 43 random letters and digits (256 bits).
std::string random_secret();

// `prefix` and 16 random letters and digits, for what is no secret: "key_b8Qw...".
std::string new_id(std::string_view prefix);

}  // namespace ridge::platform
