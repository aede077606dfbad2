#include "backend/ascend/twin/numbers.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace ridge::backend::ascend::twin {

using AscendC::RoundMode;

namespace {

template <typename T>
T load(const std::byte* data, uint64_t index) {
  T value;
  std::memcpy(&value, data + index * sizeof(T), sizeof(T));
  return value;
}
template <typename T>
void store(std::byte* data, uint64_t index, T value) {
  std::memcpy(data + index * sizeof(T), &value, sizeof(T));
}

int load_nibble(const std::byte* data, uint64_t index) {
  const int code = (std::to_integer<int>(data[index / 2]) >> (index % 2 * 4)) & 0xf;
  return code < 8 ? code : code - 16;
}
void store_nibble(std::byte* data, uint64_t index, int code) {
  const int shift = index % 2 * 4;
  data[index / 2] = (data[index / 2] & std::byte(0xf0 >> shift)) | std::byte((code & 0xf) << shift);
}

// To the float format of `precision` bits (the leading one included) whose smallest normal number is
// 2^smallest and whose largest number is `largest`.
double round_to_float(double value, int precision, int smallest, double largest, RoundMode mode) {
  if (!std::isfinite(value) || value == 0) return value;
  const int exponent = std::max(std::ilogb(value), smallest);
  const int shift = exponent - (precision - 1);
  const double rounded = std::ldexp(round_to_integer(std::ldexp(value, -shift), mode), shift);
  if (std::fabs(rounded) <= largest) return rounded;
  const bool away = mode == RoundMode::CAST_FLOOR ? value < 0
                    : mode == RoundMode::CAST_CEIL
                        ? value > 0
                        : mode != RoundMode::CAST_TRUNC && mode != RoundMode::CAST_ODD;
  return std::copysign(away ? std::numeric_limits<double>::infinity() : largest, value);
}

// To nearest by way of float32, which gives the same unless float32 lands in the middle of two of the
// narrower numbers only because it was itself rounded. `dropped` are the bits that narrowing drops.
bool rounds_once(double value, float nearest, uint32_t dropped) {
  const uint32_t low = std::bit_cast<uint32_t>(nearest) & (dropped - 1);
  const bool normal = std::fabs(nearest) >= 0x1p-14f || dropped == 0x10000;
  return nearest == value || (normal && low != dropped / 2);
}

template <typename T>
void store_saturated(std::byte* data, uint64_t index, double value, RoundMode mode) {
  if (std::isnan(value)) return store<T>(data, index, 0);
  const double rounded = round_to_integer(value, mode);
  using Limits = std::numeric_limits<T>;
  // The largest 64-bit integers round up in double.
  if (rounded >= static_cast<double>(Limits::max())) return store<T>(data, index, Limits::max());
  if (rounded <= static_cast<double>(Limits::min())) return store<T>(data, index, Limits::min());
  store<T>(data, index, static_cast<T>(rounded));
}

}  // namespace

const char* name(Type type) {
  switch (type) {
    case Type::f16: return "half";
    case Type::bf16: return "bfloat16_t";
    case Type::f32: return "float";
    case Type::i4: return "int4b_t";
    case Type::i8: return "int8_t";
    case Type::u8: return "uint8_t";
    case Type::i16: return "int16_t";
    case Type::u16: return "uint16_t";
    case Type::i32: return "int32_t";
    case Type::u32: return "uint32_t";
    case Type::i64: return "int64_t";
    case Type::u64: return "uint64_t";
  }
  return "";
}

double round_to_integer(double value, RoundMode mode) {
  switch (mode) {
    case RoundMode::CAST_NONE:
    case RoundMode::CAST_RINT: return std::nearbyint(value);  // the process rounds to nearest even
    case RoundMode::CAST_FLOOR: return std::floor(value);
    case RoundMode::CAST_CEIL: return std::ceil(value);
    case RoundMode::CAST_ROUND: return std::round(value);
    case RoundMode::CAST_TRUNC: return std::trunc(value);
    case RoundMode::CAST_ODD: {
      const double whole = std::trunc(value);
      if (whole == value || std::fmod(whole, 2) != 0) return whole;
      return whole + std::copysign(1.0, value);
    }
  }
  return value;
}

double load_element(Type type, const std::byte* data, uint64_t index) {
  switch (type) {
    case Type::f16: return f16_to_f32(load<uint16_t>(data, index));
    case Type::bf16: return bf16_to_f32(load<uint16_t>(data, index));
    case Type::f32: return load<float>(data, index);
    default: return static_cast<double>(load_integer(type, data, index));
  }
}

void store_element(Type type, std::byte* data, uint64_t index, double value, RoundMode mode) {
  const bool nearest = mode == RoundMode::CAST_NONE || mode == RoundMode::CAST_RINT;
  switch (type) {
    case Type::f16: {
      const auto direct = static_cast<float>(value);
      if (nearest && rounds_once(value, direct, 0x2000)) {
        return store<uint16_t>(data, index, f32_to_f16(direct));
      }
      const double rounded = round_to_float(value, 11, -14, 65504, mode);
      return store<uint16_t>(data, index, f32_to_f16(static_cast<float>(rounded)));
    }
    case Type::bf16: {
      const auto direct = static_cast<float>(value);
      if (nearest && rounds_once(value, direct, 0x10000)) {
        return store<uint16_t>(data, index, f32_to_bf16(direct));
      }
      const double rounded = round_to_float(value, 8, -126, 0x1.fep127, mode);
      return store<uint16_t>(data, index, f32_to_bf16(static_cast<float>(rounded)));
    }
    case Type::f32:
      return store<float>(data, index,
                          static_cast<float>(nearest ? value
                                                     : round_to_float(value, 24, -126,
                                                                      0x1.fffffep127, mode)));
    case Type::i4: {
      const double code = std::isnan(value) ? 0 : round_to_integer(value, mode);
      return store_nibble(data, index, static_cast<int>(std::clamp(code, -8.0, 7.0)));
    }
    case Type::i8: return store_saturated<int8_t>(data, index, value, mode);
    case Type::u8: return store_saturated<uint8_t>(data, index, value, mode);
    case Type::i16: return store_saturated<int16_t>(data, index, value, mode);
    case Type::u16: return store_saturated<uint16_t>(data, index, value, mode);
    case Type::i32: return store_saturated<int32_t>(data, index, value, mode);
    case Type::u32: return store_saturated<uint32_t>(data, index, value, mode);
    case Type::i64: return store_saturated<int64_t>(data, index, value, mode);
    case Type::u64: return store_saturated<uint64_t>(data, index, value, mode);
  }
}

int64_t load_integer(Type type, const std::byte* data, uint64_t index) {
  switch (type) {
    case Type::i4: return load_nibble(data, index);
    case Type::i8: return load<int8_t>(data, index);
    case Type::u8: return load<uint8_t>(data, index);
    case Type::i16: return load<int16_t>(data, index);
    case Type::u16: return load<uint16_t>(data, index);
    case Type::i32: return load<int32_t>(data, index);
    case Type::u32: return load<uint32_t>(data, index);
    case Type::i64:
    case Type::u64: return load<int64_t>(data, index);
    default: return 0;
  }
}

void store_wrapped(Type type, std::byte* data, uint64_t index, int64_t value) {
  switch (bits_of(type)) {
    case 4: return store_nibble(data, index, static_cast<int>(value & 0xf));
    case 8: return store<uint8_t>(data, index, static_cast<uint8_t>(value));
    case 16: return store<uint16_t>(data, index, static_cast<uint16_t>(value));
    case 32: return store<uint32_t>(data, index, static_cast<uint32_t>(value));
    default: return store<int64_t>(data, index, value);
  }
}

}  // namespace ridge::backend::ascend::twin
