#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "format/gguf_metadata.h"

namespace ridge::format {

// Puts a GGUF file together field by field without any check, so that tests can break each rule.
class GgufBytes {
 public:
  // Begins with the header; the counts are what the file claims.
  GgufBytes(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    raw("GGUF").u32(version).u64(tensors).u64(keys);
  }

  GgufBytes& u8(uint8_t value) { return number(value); }
  GgufBytes& u32(uint32_t value) { return number(value); }
  GgufBytes& u64(uint64_t value) { return number(value); }
  GgufBytes& raw(std::string_view text) {
    for (char letter : text) bytes_.push_back(static_cast<std::byte>(letter));
    return *this;
  }
  GgufBytes& string(std::string_view text) { return u64(text.size()).raw(text); }
  GgufBytes& type(GgufType value) { return u32(static_cast<uint32_t>(value)); }
  GgufBytes& key_u32(std::string_view key, uint32_t value) {
    return string(key).type(GgufType::uint32).u32(value);
  }
  // extents: innermost first, as files have them.
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& extents,
                    uint32_t type_number, uint64_t offset) {
    string(name).u32(static_cast<uint32_t>(extents.size()));
    for (uint64_t extent : extents) u64(extent);
    return u32(type_number).u64(offset);
  }
  // Zeros up to a multiple of `alignment` and then `size` zeros of tensor data.
  GgufBytes& data(size_t size, size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment + size);
    return *this;
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  template <typename T>
  GgufBytes& number(T value) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    return *this;
  }

  std::vector<std::byte> bytes_;
};

inline constexpr uint32_t f32_number = 0;
inline constexpr uint32_t q4_0_number = 2;
inline constexpr uint32_t iq2_xxs_number = 16;

}  // namespace ridge::format
