#include "platform/identity/password.h"

#include <fmt/format.h>
#include <sodium.h>

#include <cerrno>

#include "base/error.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

// OWASP's parameters for Argon2id.
constexpr unsigned long long passes = 2;
constexpr std::size_t memory_bytes = std::size_t{19456} << 10;

Error no_memory() {
  return Error(ErrorCode::out_of_memory, "there is no memory for checking a password");
}

void begin() {
  if (sodium_init() < 0) throw Error(ErrorCode::internal, "libsodium cannot be used here");
}

}  // namespace

std::string hash_password(std::string_view password) {
  begin();
  if (password.size() < least_password_bytes || password.size() > most_password_bytes ||
      !rows::is_utf8(password)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a password is {} to {} bytes of UTF-8", least_password_bytes,
                            most_password_bytes),
                "password");
  }
  char hash[crypto_pwhash_STRBYTES];
  if (crypto_pwhash_str_alg(hash, password.data(), password.size(), passes, memory_bytes,
                            crypto_pwhash_ALG_ARGON2ID13) != 0) {
    throw no_memory();
  }
  return hash;
}

bool verify_password(const std::string& hash, std::string_view password) {
  begin();
  // What is stored may come from elsewhere: libsodium reads a bounded, terminated text.
  if (hash.size() >= crypto_pwhash_STRBYTES || password.size() > most_password_bytes) return false;
  errno = 0;
  if (crypto_pwhash_str_verify(hash.c_str(), password.data(), password.size()) == 0) return true;
  // Which the function answers like a wrong password.
  if (errno == ENOMEM) throw no_memory();
  return false;
}

}  // namespace ridge::platform
