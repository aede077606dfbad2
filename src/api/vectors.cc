#include "api/vectors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace ridge::api {
namespace {

double squared_length(std::span<const float> vector) {
  double sum = 0;
  for (const float value : vector) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

std::string little_endian_bytes(std::span<const float> values) {
  std::string bytes;
  bytes.reserve(values.size() * sizeof(float));
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xFF);
  }
  return bytes;
}

}  // namespace

void normalize(std::span<float> vector) {
  const double length = std::sqrt(squared_length(vector));
  if (length == 0) return;
  for (float& value : vector) value = static_cast<float>(static_cast<double>(value) / length);
}

double cosine(std::span<const float> a, std::span<const float> b) {
  RIDGE_ASSERT(a.size() == b.size());
  const double lengths = std::sqrt(squared_length(a)) * std::sqrt(squared_length(b));
  if (lengths == 0) return 0;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return std::clamp(sum / lengths, -1.0, 1.0);
}

void append_base64(std::string& out, std::span<const float> values) {
  constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string bytes = little_endian_bytes(values);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;  // 24 bits
    for (std::size_t j = 0; j < 3; ++j) {
      const bool is_there = i + j < bytes.size();
      group = group << 8 | (is_there ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      const bool is_there = i + j <= bytes.size();
      out += is_there ? letters[group >> (18 - 6 * j) & 63] : '=';
    }
  }
}

}  // namespace ridge::api
