#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ridge::platform {

// Internet addresses that begin with the same bits: "10.0.0.0/8", "2001:db8::/32", or one address.
// An IPv4 address that came over IPv6 (::ffff:10.0.0.1) is the IPv4 address.
class AddressRange {
 public:
  // Nullopt where it is none; bits behind the prefix must be 0.
  static std::optional<AddressRange> parse(std::string_view text);
  // As parse(), but throws invalid_argument that quotes `text`.
  static AddressRange parse_or_throw(std::string_view text);

  // False for what is no address.
  bool contains(std::string_view address) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::array<uint8_t, 16> bytes_{};  // IPv4 in the form ::ffff:a.b.c.d
  int prefix_bits_ = 128;
};

}  // namespace ridge::platform
