#pragma once

#include <cstdint>
#include <span>

namespace ridge::backend::reference {

// Rows of an activation, or of a column range of it: row-major, `stride` elements from row to row.
template <typename T>
struct Matrix {
  T* data = nullptr;
  int rows = 0;
  int columns = 0;
  int stride = 0;

  std::span<T> row(int index) const {
    return {data + static_cast<int64_t>(index) * stride, static_cast<size_t>(columns)};
  }
};

// Head `head` of a row that holds heads of `head_dim` values each.
template <typename T>
std::span<T> head_of(std::span<T> row, int head, int head_dim) {
  return row.subspan(static_cast<size_t>(head) * head_dim, head_dim);
}

// Σ a[i] · b[i] in double: products of float32 are exact there, so only the sum rounds.
inline double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace ridge::backend::reference
