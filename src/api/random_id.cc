#include "api/random_id.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "base/error.h"

namespace ridge::api {
namespace {

std::array<unsigned char, 32> random_bytes() {
  std::array<unsigned char, 32> bytes;
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::getrandom(bytes.data() + filled, bytes.size() - filled, 0);
    if (count > 0) {
      filled += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "getrandom");
    }
  }
  return bytes;
}

}  // namespace

std::string random_id(std::string_view prefix) {
  constexpr std::string_view letters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr std::size_t id_letters = 24;
  constexpr unsigned fair_bytes = 256 / letters.size() * letters.size();
  const std::size_t size = prefix.size() + id_letters;
  std::string id(prefix);
  while (id.size() < size) {
    for (const unsigned char byte : random_bytes()) {
      if (byte < fair_bytes && id.size() < size) id += letters[byte % letters.size()];
    }
  }
  return id;
}

std::string random_hex(std::size_t bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  while (text.find_first_not_of('0') == std::string::npos) {
    text.clear();
    const auto random = random_bytes();
    RIDGE_ASSERT(bytes > 0 && bytes <= random.size());
    for (std::size_t i = 0; i < bytes; ++i) {
      text += digits[random[i] / 16];
      text += digits[random[i] % 16];
    }
  }
  return text;
}

}  // namespace ridge::api
