#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

// A row-major array that ops can view. It must outlive the view.
struct Array {
  int rows, columns;
  std::vector<float> values;

  Array(int rows, int columns)
      : rows(rows), columns(columns), values(static_cast<size_t>(rows) * columns) {}
  Array(int rows, int columns, std::vector<float> values)
      : rows(rows), columns(columns), values(std::move(values)) {}

  operator Rows32() { return {values.data(), rows, columns, columns}; }
  float& at(int row, int column) { return values[static_cast<size_t>(row) * columns + column]; }
};

inline Array random_array(std::mt19937& random, int rows, int columns) {
  std::normal_distribution<float> normal;
  Array array(rows, columns);
  for (float& value : array.values) value = normal(random);
  return array;
}

// A float32 weight over `values`, which must outlive it.
inline ReferenceWeight weight_over(const std::vector<float>& values, Shape shape,
                                   bool transposed = false) {
  return ReferenceWeight({.name = "w",
                          .segments = {{DType::f32, shape, std::as_bytes(std::span(values))}},
                          .transposed = transposed});
}

inline void expect_values(const Array& got, const std::vector<double>& expected,
                          double tolerance = 1e-6) {
  ASSERT_EQ(got.values.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(got.values[i], expected[i], tolerance) << "value " << i;
  }
}

}  // namespace ridge::backend::reference
