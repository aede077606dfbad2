#include "platform/identity/address_range.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace ridge::platform {
namespace {

constexpr int ipv4_bits_before = 96;

struct Address {
  std::array<uint8_t, 16> bytes{};
  bool is_ipv4 = false;
};

std::optional<Address> parse_address(std::string_view text) {
  const std::string copy(text.substr(0, text.find('%')));  // without the zone of a link-local one
  Address address;
  std::array<uint8_t, 4> four;
  if (inet_pton(AF_INET, copy.c_str(), four.data()) == 1) {
    address.is_ipv4 = true;
    address.bytes[10] = address.bytes[11] = 0xff;
    std::ranges::copy(four, address.bytes.begin() + 12);
    return address;
  }
  if (inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

bool same_bits(const std::array<uint8_t, 16>& a, const std::array<uint8_t, 16>& b, int bits) {
  for (int bit = 0; bit < bits; bit += 8) {
    const int kept = std::min(8, bits - bit);
    const auto mask = static_cast<uint8_t>(0xff << (8 - kept));
    const auto at = static_cast<std::size_t>(bit / 8);
    if ((a[at] & mask) != (b[at] & mask)) return false;
  }
  return true;
}

}  // namespace

std::optional<AddressRange> AddressRange::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  AddressRange range;
  range.text_ = std::string(text);
  range.bytes_ = address->bytes;
  if (slash == std::string_view::npos) return range;
  const std::string_view digits = text.substr(slash + 1);
  int bits = -1;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  if (failure != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (bits < 0 || bits > (address->is_ipv4 ? 32 : 128)) return std::nullopt;
  range.prefix_bits_ = bits + (address->is_ipv4 ? ipv4_bits_before : 0);
  // 10.0.0.1/8 is more likely a mistake than meant.
  for (int bit = range.prefix_bits_; bit < 128; ++bit) {
    const auto at = static_cast<std::size_t>(bit / 8);
    if ((range.bytes_[at] & (0x80 >> (bit % 8))) != 0) return std::nullopt;
  }
  return range;
}

AddressRange AddressRange::parse_or_throw(std::string_view text) {
  if (auto range = parse(text)) return *range;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("'{}' is no address and no range of them, as 10.1.0.0/16 or 2001:db8::/32 "
                  "are; bits behind the prefix must be 0",
                  text));
}

bool AddressRange::contains(std::string_view text) const {
  const auto address = parse_address(text);
  return address && same_bits(address->bytes, bytes_, prefix_bits_);
}

}  // namespace ridge::platform
