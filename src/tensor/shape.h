#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/error.h"

namespace ridge {

// Up to four extents, outermost first: a weight is [rows, columns].
class Shape {
 public:
  static constexpr int max_rank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) {
    RIDGE_ASSERT(extents.size() <= max_rank);
    for (int64_t extent : extents) extents_[rank_++] = extent;
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[axis]; }
  int64_t elements() const {
    int64_t total = 1;
    for (int axis = 0; axis < rank_; ++axis) total *= extents_[axis];
    return total;
  }
  // The innermost extent, 1 for a scalar.
  int64_t columns() const { return rank_ == 0 ? 1 : extents_[rank_ - 1]; }
  int64_t rows() const { return columns() == 0 ? 0 : elements() / columns(); }

  void append(int64_t extent) {
    RIDGE_ASSERT(rank_ < max_rank);
    extents_[rank_++] = extent;
  }
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, max_rank> extents_{};
  int rank_ = 0;
};

// "[32, 576]".
std::string to_string(const Shape& shape);

}  // namespace ridge
