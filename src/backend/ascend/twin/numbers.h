#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tensor/float_formats.h"

// The number types of AscendC that C++ lacks, and the rounding of each conversion. Conversions are
// exact: the value is rounded once, in the mode that is asked for.

// IEEE 754 binary16. Scalars convert to nearest, ties to even.
struct half {
  uint16_t bits = 0;
  half() = default;
  template <typename T>
    requires std::is_arithmetic_v<T>
  constexpr half(T value) : bits(ridge::f32_to_f16(static_cast<float>(value))) {}
  operator float() const { return ridge::f16_to_f32(bits); }
};

struct bfloat16_t {
  uint16_t bits = 0;
  bfloat16_t() = default;
  template <typename T>
    requires std::is_arithmetic_v<T>
  constexpr bfloat16_t(T value) : bits(ridge::f32_to_bf16(static_cast<float>(value))) {}
  operator float() const { return ridge::bf16_to_f32(bits); }
};

namespace AscendC {

// Two in a byte, the first in the lower half.
struct int4b_t {
  uint8_t bits = 0;
};

enum class RoundMode : uint8_t {
  CAST_NONE,   // exact where it can be, else as CAST_RINT
  CAST_RINT,   // to nearest, ties to even
  CAST_FLOOR,
  CAST_CEIL,
  CAST_ROUND,  // to nearest, ties away from zero
  CAST_TRUNC,
  CAST_ODD,    // towards zero, then the last bit set if anything was lost (von Neumann)
};

}  // namespace AscendC

namespace ridge::backend::ascend::twin {

enum class Type : uint8_t { f16, bf16, f32, i4, i8, u8, i16, u16, i32, u32, i64, u64 };

template <typename T>
inline constexpr Type type_of = [] {
  using namespace AscendC;
  if constexpr (std::is_same_v<T, half>) return Type::f16;
  else if constexpr (std::is_same_v<T, bfloat16_t>) return Type::bf16;
  else if constexpr (std::is_same_v<T, float>) return Type::f32;
  else if constexpr (std::is_same_v<T, int4b_t>) return Type::i4;
  else if constexpr (std::is_same_v<T, int8_t>) return Type::i8;
  else if constexpr (std::is_same_v<T, uint8_t>) return Type::u8;
  else if constexpr (std::is_same_v<T, int16_t>) return Type::i16;
  else if constexpr (std::is_same_v<T, uint16_t>) return Type::u16;
  else if constexpr (std::is_same_v<T, int32_t>) return Type::i32;
  else if constexpr (std::is_same_v<T, uint32_t>) return Type::u32;
  else if constexpr (std::is_same_v<T, int64_t>) return Type::i64;
  else {
    static_assert(std::is_same_v<T, uint64_t>, "no element type of AscendC");
    return Type::u64;
  }
}();

constexpr uint32_t bits_of(Type type) {
  switch (type) {
    case Type::i4: return 4;
    case Type::i8: case Type::u8: return 8;
    case Type::f16: case Type::bf16: case Type::i16: case Type::u16: return 16;
    case Type::f32: case Type::i32: case Type::u32: return 32;
    case Type::i64: case Type::u64: return 64;
  }
  return 0;
}
constexpr bool is_float(Type type) {
  return type == Type::f16 || type == Type::bf16 || type == Type::f32;
}
const char* name(Type type);  // "half"

// Bytes of `count` elements; an odd number of int4b_t is a mistake that callers report.
constexpr uint64_t bytes_of(Type type, uint64_t count) { return count * bits_of(type) / 8; }

// Element `index` at `data`. Every value of at most 32 bits is exact in double.
double load_element(Type type, const std::byte* data, uint64_t index);
// Rounds once; integers saturate, floats overflow as IEEE 754 says for the mode.
void store_element(Type type, std::byte* data, uint64_t index, double value,
                   AscendC::RoundMode mode = AscendC::RoundMode::CAST_RINT);
int64_t load_integer(Type type, const std::byte* data, uint64_t index);
// Keeps the lowest bits, as integer arithmetic of the vector unit wraps.
void store_wrapped(Type type, std::byte* data, uint64_t index, int64_t value);

// To an integer in double.
double round_to_integer(double value, AscendC::RoundMode mode);

}  // namespace ridge::backend::ascend::twin
