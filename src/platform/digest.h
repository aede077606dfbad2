#pragma once

#include <openssl/types.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ridge::platform {

// A SHA-256 digest (FIPS 180-4). The only way from text to a digest is parse(), so that a digest
// which names a file is always 64 hexadecimal digits.
class Digest {
 public:
  // Exactly 64 of 0-9a-f; nullopt for anything else.
  static std::optional<Digest> parse(std::string_view text);
  // As parse(), but throws invalid_argument that quotes `text` and names `where`.
  static Digest parse_or_throw(std::string_view text, std::string_view where);
  static Digest of(std::string_view bytes);

  explicit Digest(const std::array<uint8_t, 32>& bytes) : bytes_(bytes) {}
  std::string to_string() const;
  auto operator<=>(const Digest&) const = default;

 private:
  std::array<uint8_t, 32> bytes_;
};

// Digests a stream of bytes.
class Hasher {
 public:
  Hasher();
  void update(std::span<const std::byte> bytes);
  // Forgets what came so far.
  void reset();
  // The digest of all bytes so far; the hasher is then as new.
  Digest finish();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const;
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

// Feeds the hasher with `size_bytes` from the start of an open file. `on_chunk`, where given, is
// told the bytes done and returns false to stop, which throws cancelled. Throws io where the file
// is shorter or cannot be read.
void hash_file(int descriptor, int64_t size_bytes, Hasher& hasher,
               const std::function<bool(int64_t done_bytes)>& on_chunk = {});

}  // namespace ridge::platform
