#include "platform/identity/api_key_text.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace ridge::platform {
namespace {

constexpr std::string_view alphabet =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::size_t random_characters = 43;  // of 62: 256.03 bits
constexpr std::size_t checksum_characters = 6;
constexpr std::size_t hint_characters = 4;
constexpr std::size_t id_characters = 16;

std::string random_text(std::size_t characters) {
  // Bytes from here on would make some letters likelier than others.
  constexpr unsigned fair_bytes = 256 / alphabet.size() * alphabet.size();
  std::string text;
  while (text.size() < characters) {
    std::array<unsigned char, 64> bytes;
    if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
      throw Error(ErrorCode::internal, "the system gives no random numbers");
    }
    for (const unsigned char byte : bytes) {
      if (byte < fair_bytes && text.size() < characters) text += alphabet[byte % alphabet.size()];
    }
  }
  return text;
}

// The first 32 bits of SHA-256, in base 62.
std::string checksum_of(std::string_view text) {
  uint32_t sum = 0;
  const std::string digits = Digest::of(text).to_string().substr(0, 8);
  sum = static_cast<uint32_t>(std::stoul(digits, nullptr, 16));
  std::string result(checksum_characters, alphabet[0]);
  for (auto at = result.rbegin(); at != result.rend(); ++at) {
    *at = alphabet[sum % alphabet.size()];
    sum /= alphabet.size();
  }
  return result;
}

}  // namespace

ApiKeyText ApiKeyText::generate() {
  std::string text(prefix);
  text += random_text(random_characters);
  return ApiKeyText(text + checksum_of(text));
}

std::optional<ApiKeyText> ApiKeyText::parse(std::string_view text) {
  if (text.size() != prefix.size() + random_characters + checksum_characters) return std::nullopt;
  if (!text.starts_with(prefix)) return std::nullopt;
  const std::string_view rest = text.substr(prefix.size());
  if (rest.find_first_not_of(alphabet) != std::string_view::npos) return std::nullopt;
  const std::size_t body = text.size() - checksum_characters;
  if (checksum_of(text.substr(0, body)) != text.substr(body)) return std::nullopt;
  return ApiKeyText(std::string(text));
}

std::string ApiKeyText::hint() const { return text_.substr(0, prefix.size() + hint_characters); }

std::string random_secret() { return random_text(random_characters); }

std::string new_id(std::string_view prefix) {
  return std::string(prefix) + random_text(id_characters);
}

}  // namespace ridge::platform
