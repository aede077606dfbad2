#include "backend/reference/weight.h"

#include <fmt/format.h>

#include "base/error.h"
#include "tensor/dequantize.h"

namespace ridge::backend::reference {

namespace {

RowRange rows_of(const WeightSource& source, int64_t extent) {
  const Shard& shard = source.shard;
  if (shard.axis != Shard::Axis::rows) return {0, extent};
  if (extent < shard.ranks) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("weight {}: {} rows cannot be cut into {} parts", source.name, extent,
                            shard.ranks));
  }
  return rows_of_rank(extent, shard.rank, shard.ranks);
}

// In steps of `unit`.
RowRange columns_of(const WeightSource& source, int64_t extent, int64_t unit) {
  const Shard& shard = source.shard;
  if (shard.axis != Shard::Axis::columns) return {0, extent};
  RIDGE_ASSERT(shard.ranks >= 1 && shard.rank >= 0 && shard.rank < shard.ranks);
  if (extent % (shard.ranks * unit) != 0) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("weight {}: {} columns cannot be cut into {} equal parts of whole blocks of {}",
                    source.name, extent, shard.ranks, unit));
  }
  const int64_t count = extent / shard.ranks;
  return {shard.rank * count, count};
}

}  // namespace

ReferenceWeight::ReferenceWeight(const WeightSource& source) {
  const Shape shape = stacked_shape(source);
  name_ = source.name;
  experts_ = shape[0];
  is_vector_ = has_use(source.use, WeightUse::vector);
  if (is_vector_) {
    join_vector(source);
    return;
  }
  cut_segments(source, shape[0]);
  keeps_source_ = true;
  if (source.transposed) transpose();
}

void ReferenceWeight::cut_segments(const WeightSource& source, int64_t experts) {
  for (const TensorView& view : source.segments) {
    const int64_t file_rows = view.shape.rows() / experts;
    const RowRange rows = rows_of(source, file_rows);
    const RowRange columns =
        columns_of(source, view.shape.columns(), traits(view.dtype).block_elements);
    segments_.push_back({view, file_rows, rows.first, rows.count, columns.first});
    rows_ += rows.count;
    columns_ = columns.count;
    size_bytes_ += experts * rows.count * row_bytes(view.dtype, columns.count);
  }
}

void ReferenceWeight::join_vector(const WeightSource& source) {
  rows_ = 1;
  for (const TensorView& view : source.segments) {
    std::vector<float> whole(view.shape.columns());
    dequantize_row(view.dtype, view.bytes, whole);
    // A bias has one value for each row of its weight, and is cut where those are.
    const RowRange part = rows_of(source, view.shape.columns());
    values_.insert(values_.end(), whole.begin() + part.first,
                   whole.begin() + part.first + part.count);
  }
  columns_ = static_cast<int64_t>(values_.size());
  size_bytes_ = values_.size() * sizeof(float);
}

void ReferenceWeight::transpose() {
  std::vector<float> turned(experts_ * rows_ * columns_);
  std::vector<float> row(columns_);
  for (int64_t e = 0; e < experts_; ++e) {
    for (int64_t r = 0; r < rows_; ++r) {
      read_source_row(e, r, row);
      for (int64_t c = 0; c < columns_; ++c) turned[(e * columns_ + c) * rows_ + r] = row[c];
    }
  }
  std::swap(rows_, columns_);
  values_ = std::move(turned);
  segments_.clear();
  keeps_source_ = false;
}

void ReferenceWeight::read_source_row(int64_t expert, int64_t row, std::span<float> out) const {
  for (const Segment& segment : segments_) {
    if (row >= segment.rows) {
      row -= segment.rows;
      continue;
    }
    const DType dtype = segment.view.dtype;
    const auto bytes = segment.view.row(expert * segment.file_rows + segment.first_row + row);
    dequantize_row(dtype,
                   bytes.subspan(row_bytes(dtype, segment.first_column),
                                 row_bytes(dtype, static_cast<int64_t>(out.size()))),
                   out);
    return;
  }
  RIDGE_ASSERT(!"a row beyond the last segment");
}

void ReferenceWeight::read_row(int64_t expert, int64_t row, std::span<float> out) const {
  RIDGE_ASSERT(expert >= 0 && expert < experts_ && row >= 0 && row < rows_);
  RIDGE_ASSERT(static_cast<int64_t>(out.size()) == columns_);
  if (values_.empty()) return read_source_row(expert, row, out);
  const float* from = values_.data() + (expert * rows_ + row) * columns_;
  std::copy(from, from + columns_, out.begin());
}

std::span<const float> ReferenceWeight::vector() const {
  RIDGE_ASSERT(is_vector_);
  return values_;
}

const ReferenceWeight& as_reference(const Weight& weight) {
  const auto* own = dynamic_cast<const ReferenceWeight*>(&weight);
  RIDGE_ASSERT(own != nullptr && "a weight of another device");
  return *own;
}

}  // namespace ridge::backend::reference
