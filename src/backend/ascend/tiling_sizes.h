#pragma once

#include <cstdint>
#include <type_traits>

#include "base/error.h"

// What tilings are computed with.
namespace ridge::backend::ascend {

// One transfer moves at full speed from about this size on (measured; see docs/ascend.md).
inline constexpr uint32_t full_speed_bytes = 16 * 1024;
// Blocks of one strided copy.
inline constexpr uint32_t most_rows_per_copy = 4095;

// Between the rows of a transfer into fractals, in elements: 16 bits hold it.
inline constexpr uint32_t most_stride = 65535;

// Quotient and multiple, rounded up.
template <typename T>
T up(T value, std::type_identity_t<T> to) {
  RIDGE_ASSERT(to > 0);
  return (value + to - 1) / to;
}
template <typename T>
T up_to(T value, std::type_identity_t<T> to) {
  return up(value, to) * to;
}

}  // namespace ridge::backend::ascend
