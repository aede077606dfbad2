#include "format/tensor_quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "tensor/quantize.h"

namespace ridge::format {

namespace {

// What the team works on between two writes, and what a member takes of it at once.
constexpr int64_t slab_elements = 4 << 20;
constexpr int64_t share_elements = 16 << 10;

// The first value of a slab that cannot be written.
struct Fault {
  int64_t row = std::numeric_limits<int64_t>::max();
  int64_t column = 0;
  float value = 0;
};

float greatest_allowed(DType dtype) {
  const bool has_wide_range = dtype == DType::f32 || dtype == DType::bf16;
  return has_wide_range ? std::numeric_limits<float>::max() : quantizable_max;
}

// False for a NaN as well.
bool all_within(std::span<const float> row, float limit) {
  bool within = true;
  for (float value : row) within &= std::fabs(value) <= limit;
  return within;
}

void note_fault(std::span<const float> values, int64_t row, float limit, Fault& fault) {
  if (row > fault.row) return;
  const auto at = std::ranges::find_if(values, [&](float x) { return !(std::fabs(x) <= limit); });
  fault = {row, at - values.begin(), *at};
}

[[noreturn]] void refuse(const std::string& label, DType dtype, const Fault& fault) {
  const std::string reason =
      std::isfinite(fault.value)
          ? fmt::format("but {} holds no magnitude above {}", name(dtype), quantizable_max)
          : std::string("but weights must be finite numbers");
  throw Error(ErrorCode::invalid_file, fmt::format("{}: element {} of row {} is {}, {}", label,
                                                   fault.column, fault.row, fault.value, reason));
}

}  // namespace

void TensorQuantizer::write(const std::string& label, DType dtype, const Shape& shape,
                            const RowSource& source, const GgufWriter::Sink& sink,
                            const Progress& progress, const Slabs& slabs,
                            std::span<const float> column_weights) const {
  const int64_t columns = shape.columns();
  const int64_t rows = shape.rows();
  if (shape.elements() == 0) return;
  const auto matrices = static_cast<int64_t>(column_weights.size()) / columns;
  RIDGE_ASSERT(column_weights.empty() || rows % matrices == 0);
  const auto weights_of = [&](int64_t row) -> std::span<const float> {
    if (column_weights.empty()) return {};
    const int64_t matrix = row / (rows / matrices);
    return column_weights.subspan(static_cast<size_t>(matrix * columns),
                                  static_cast<size_t>(columns));
  };
  const int64_t slab_rows = std::clamp<int64_t>(slab_elements / columns, 1, rows);
  const int64_t share_rows = std::max<int64_t>(1, share_elements / columns);
  const size_t bytes_of_row = row_bytes(dtype, columns);
  const float limit = greatest_allowed(dtype);
  std::vector<std::byte> slab(static_cast<size_t>(slab_rows) * bytes_of_row);
  std::vector<std::vector<float>> values(team_.size(),
                                         std::vector<float>(static_cast<size_t>(columns)));
  std::vector<Fault> faults(team_.size());
  for (int64_t first = 0; first < rows; first += slab_rows) {
    const int64_t end = std::min(first + slab_rows, rows);
    if (slabs.before) slabs.before(first, end - first);
    std::atomic<int64_t> next = first;
    team_.run([&](int member) {
      for (int64_t share; (share = next.fetch_add(share_rows)) < end;) {
        for (int64_t row = share; row < std::min(share + share_rows, end); ++row) {
          const std::span<float> floats = values[member];
          source(row, floats);
          if (!all_within(floats, limit)) {
            note_fault(floats, row, limit, faults[member]);
            continue;
          }
          const size_t at = static_cast<size_t>(row - first) * bytes_of_row;
          quantize_row(dtype, floats, std::span(slab).subspan(at, bytes_of_row), weights_of(row));
        }
      }
    });
    const Fault& fault = *std::ranges::min_element(faults, {}, &Fault::row);
    if (fault.row < end) refuse(label, dtype, fault);
    sink(std::span(slab).first(static_cast<size_t>(end - first) * bytes_of_row));
    if (slabs.after) slabs.after(first, end - first);
    progress((end - first) * columns);
  }
}

}  // namespace ridge::format
