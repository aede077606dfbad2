#include "backend/weight.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ridge::backend {

namespace {

struct Extents {
  int64_t experts, rows, columns;
};

Extents extents(const TensorView& view) {
  const Shape& s = view.shape;
  if (s.rank() == 3) return {s[0], s[1], s[2]};
  if (s.rank() == 2) return {1, s[0], s[1]};
  return {1, 1, s.columns()};
}

// Vectors are joined end to end: the biases of a merged QKV have different lengths.
Shape joined_vector_shape(const WeightSource& source) {
  int64_t total = 0;
  for (const TensorView& segment : source.segments) {
    if (segment.shape.rows() != 1 || is_quantized(segment.dtype)) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("weight {} is {} of shape {}; a vector of plain numbers is expected",
                              source.name, name(segment.dtype), to_string(segment.shape)));
    }
    const int64_t columns = segment.shape.columns();
    RIDGE_ASSERT(segment.bytes.size() == row_bytes(segment.dtype, columns));
    total += columns;
  }
  return Shape{1, 1, total};
}

}  // namespace

RowRange rows_of_rank(int64_t extent, int rank, int ranks) {
  RIDGE_ASSERT(ranks >= 1 && rank >= 0 && rank < ranks);
  constexpr int64_t run = 16;  // what kernels like to do at once
  const int64_t unit = extent % run == 0 && extent / run >= ranks ? run : 1;
  const auto begin = [&](int64_t r) { return extent / unit * r / ranks * unit; };
  return {begin(rank), begin(rank + 1) - begin(rank)};
}

Shape stacked_shape(const WeightSource& source) {
  if (source.segments.empty()) {
    throw Error(ErrorCode::invalid_file, fmt::format("weight {} has no tensors", source.name));
  }
  if (has_use(source.use, WeightUse::vector)) return joined_vector_shape(source);
  Extents total = extents(source.segments.front());
  total.rows = 0;
  for (const TensorView& segment : source.segments) {
    const Extents e = extents(segment);
    if (e.columns != total.columns || e.experts != total.experts) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("weight {}: a segment has shape {}, which cannot be stacked on {}",
                              source.name, to_string(segment.shape),
                              to_string(source.segments.front().shape)));
    }
    const int block = traits(segment.dtype).block_elements;
    if (e.columns % block != 0) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("weight {}: {} columns are not whole {} blocks of {}", source.name,
                              e.columns, name(segment.dtype), block));
    }
    RIDGE_ASSERT(segment.bytes.size() ==
                 static_cast<size_t>(e.experts * e.rows) * row_bytes(segment.dtype, e.columns));
    total.rows += e.rows;
  }
  return Shape{total.experts, total.rows, total.columns};
}

}  // namespace ridge::backend
