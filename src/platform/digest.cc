#include "platform/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace ridge::platform {
namespace {

constexpr size_t digest_chunk_bytes = size_t{1} << 20;

std::optional<uint8_t> hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return static_cast<uint8_t>(digit - '0');
  if (digit >= 'a' && digit <= 'f') return static_cast<uint8_t>(digit - 'a' + 10);
  return std::nullopt;
}

}  // namespace

std::optional<Digest> Digest::parse(std::string_view text) {
  std::array<uint8_t, 32> bytes{};
  if (text.size() != 2 * bytes.size()) return std::nullopt;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto high = hex_value(text[2 * i]);
    const auto low = hex_value(text[2 * i + 1]);
    if (!high || !low) return std::nullopt;
    bytes[i] = static_cast<uint8_t>(*high << 4 | *low);
  }
  return Digest(bytes);
}

Digest Digest::parse_or_throw(std::string_view text, std::string_view where) {
  if (auto digest = parse(text)) return *digest;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}: '{}' is no SHA-256 digest (64 digits of 0-9a-f)", where,
                          text.substr(0, 80)));
}

Digest Digest::of(std::string_view bytes) {
  Hasher hasher;
  hasher.update(std::as_bytes(std::span(bytes)));
  return hasher.finish();
}

std::string Digest::to_string() const {
  std::string text;
  for (const uint8_t byte : bytes_) text += fmt::format("{:02x}", byte);
  return text;
}

void Hasher::Free::operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }

Hasher::Hasher() : context_(EVP_MD_CTX_new()) { reset(); }

void Hasher::reset() {
  if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
    throw Error(ErrorCode::internal, "OpenSSL cannot compute SHA-256");
  }
}

void Hasher::update(std::span<const std::byte> bytes) {
  RIDGE_ASSERT(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

Digest Hasher::finish() {
  std::array<uint8_t, 32> bytes{};
  RIDGE_ASSERT(EVP_DigestFinal_ex(context_.get(), bytes.data(), nullptr) == 1);
  reset();
  return Digest(bytes);
}

void hash_file(int descriptor, int64_t size_bytes, Hasher& hasher,
               const std::function<bool(int64_t)>& on_chunk) {
  std::vector<std::byte> chunk(digest_chunk_bytes);
  int64_t done_bytes = 0;
  while (done_bytes < size_bytes) {
    const auto wanted = std::min<int64_t>(size_bytes - done_bytes, digest_chunk_bytes);
    const ssize_t got = pread(descriptor, chunk.data(), wanted, done_bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(ErrorCode::io, fmt::format("cannot read: {}", std::strerror(errno)));
    if (got == 0) throw Error(ErrorCode::io, "the file became shorter while it was read");
    hasher.update(std::span(chunk).first(got));
    done_bytes += got;
    if (on_chunk && !on_chunk(done_bytes)) throw Error(ErrorCode::cancelled, "stopped");
  }
}

}  // namespace ridge::platform
