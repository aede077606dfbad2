#include "platform/link_local.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace ridge::platform {
namespace {

constexpr std::array<uint8_t, 12> mapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};  // RFC 4291
constexpr std::array<uint8_t, 12> translated = {0, 0x64, 0xff, 0x9b};                   // RFC 6052
constexpr std::array<uint8_t, 16> metadata_ipv6 = {0xfd, 0, 0x0e, 0xc2, 0, 0, 0,    0,
                                                   0,    0, 0,    0,    0, 0, 0x02, 0x54};

bool is_link_local_ipv4(std::span<const uint8_t> four) {
  constexpr std::array<uint8_t, 4> metadata = {100, 100, 100, 200};
  return (four[0] == 169 && four[1] == 254) || std::ranges::equal(four, metadata);
}

bool begins_with(const std::array<uint8_t, 16>& bytes, const std::array<uint8_t, 12>& prefix) {
  return std::ranges::equal(std::span(bytes).first(prefix.size()), prefix);
}

}  // namespace

bool is_link_local(std::string_view address) {
  if (address.starts_with('[') && address.ends_with(']')) {
    address = address.substr(1, address.size() - 2);
  }
  const std::string text(address.substr(0, address.find('%')));
  std::array<uint8_t, 4> four{};
  if (inet_pton(AF_INET, text.c_str(), four.data()) == 1) return is_link_local_ipv4(four);
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) return false;
  if (begins_with(bytes, mapped) || begins_with(bytes, translated)) {
    return is_link_local_ipv4(std::span(bytes).last(4));
  }
  return (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) || bytes == metadata_ipv6;
}

}  // namespace ridge::platform
