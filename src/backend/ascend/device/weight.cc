#include "backend/ascend/device/weight.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"
#include "tensor/float_formats.h"

namespace ridge::backend::ascend {

namespace {

// More rows than these lie too far apart for a copy (see plan_linear, and for few rows its like of
// quantised weights); whole tiles of both.
constexpr int64_t most_part_rows = most_stride / quantized_columns * quantized_columns;
constexpr uint32_t fractal_rows = 16;

// Values that halves are scaled to at most, so that small ones keep their bits.
constexpr int largest_exponent = 14;
constexpr float largest_half = 65504;

bool is_plain(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

}  // namespace

AscendWeight::AscendWeight(std::shared_ptr<Hardware> hardware, const WeightSource& source,
                           WeightNotes& notes)
    : hardware_(std::move(hardware)),
      source_(source),
      notes_(notes),
      host_(std::make_unique<reference::ReferenceWeight>(source)) {
  name_ = host_->name();
  experts_ = host_->experts();
  rows_ = host_->rows();
  columns_ = host_->columns();
  size_bytes_ = host_->size_bytes();
  try {
    if (has_use(source.use, WeightUse::vector)) {
      vector_ = store(std::as_bytes(host_->vector()));
      return;
    }
    const bool is_table = has_use(source.use, WeightUse::embedding);
    if (is_table && is_whole() && source.segments.size() == 1 &&
        is_plain(source.segments.front().dtype)) {
      table_ = store(source.segments.front().bytes);
    }
    // Of experts or heads, be it a single one: who multiplies it, and where, a program says.
    const bool has_experts = source.segments.front().shape.rank() == 3;
    if (has_use(source.use, WeightUse::linear) && !has_experts) pack();
    const bool needs_host = has_experts || (is_table && table_ == nullptr);
    if (!needs_host) host_.reset();
    keeps_source_ = needs_host && host_->keeps_source();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("weight {}: {}", name_, error.message()));
  }
}

std::span<const WeightPart> AscendWeight::parts(int64_t expert) const {
  if (parts_.empty()) pack();
  return parts_.at(static_cast<size_t>(expert));
}

acl::DeviceSpan AscendWeight::vector() const {
  RIDGE_ASSERT(vector_ != nullptr);
  return vector_->span();
}

const reference::ReferenceWeight& AscendWeight::host() const {
  RIDGE_ASSERT(host_ != nullptr && "a weight that is on the device alone");
  return *host_;
}

std::unique_ptr<acl::DeviceMemory> AscendWeight::store(std::span<const std::byte> bytes) const {
  auto memory = std::make_unique<acl::DeviceMemory>(hardware_->context(), bytes.size());
  acl::upload(*hardware_->context(), memory->span(), bytes);
  return memory;
}

bool AscendWeight::is_whole() const {
  return source_.shard.axis == Shard::Axis::none && !source_.transposed;
}

void AscendWeight::pack() const {
  // Nothing is left of it where memory runs out on the way.
  std::vector<std::vector<WeightPart>> parts;
  for (int64_t expert = 0; expert < experts_; ++expert) parts.push_back(pack_expert(expert));
  parts_ = std::move(parts);
  uint64_t bytes = 0;
  for (const auto& expert : parts_) {
    for (const WeightPart& part : expert) {
      bytes += part.codes->span().bytes + (part.scales ? part.scales->span().bytes : 0);
    }
  }
  bool is_dequantised = false;
  for (const TensorView& segment : source_.segments) {
    if (!is_quantized(segment.dtype) || is_whole()) continue;
    is_dequantised = true;
    const std::string_view type = ridge::name(segment.dtype);
    if (notes_.dequantised_types.find(type) != std::string::npos) continue;
    notes_.dequantised_types += (notes_.dequantised_types.empty() ? "" : ", ") + std::string(type);
  }
  if (!is_dequantised) return;
  notes_.dequantised_file_bytes += size_bytes_;
  notes_.dequantised_bytes += bytes;
}

std::vector<WeightPart> AscendWeight::pack_expert(int64_t expert) const {
  std::vector<WeightPart> parts;
  const auto add_halves = [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; row += most_part_rows) {
      parts.push_back(pack_halves(expert, row, std::min(most_part_rows, end - row)));
    }
  };
  if (!is_whole()) {
    add_halves(0, rows_);
    return parts;
  }
  int64_t row = 0, halves_from = 0;
  for (size_t s = 0; s < source_.segments.size();) {
    const DType dtype = source_.segments[s].dtype;
    // Segments of one type, one after the other, are one.
    std::vector<std::byte> blocks;
    int64_t rows = 0;
    for (; s < source_.segments.size() && source_.segments[s].dtype == dtype; ++s) {
      const TensorView& segment = source_.segments[s];
      const int64_t segment_rows = segment.shape.rows() / experts_;
      rows += segment_rows;
      if (!is_quantized(dtype)) continue;
      const size_t bytes = static_cast<size_t>(segment_rows) * row_bytes(dtype, columns_);
      const auto of_expert = segment.bytes.subspan(static_cast<size_t>(expert) * bytes, bytes);
      blocks.insert(blocks.end(), of_expert.begin(), of_expert.end());
    }
    if (is_quantized(dtype)) {
      add_halves(halves_from, row);
      for (int64_t first = 0; first < rows; first += most_part_rows) {
        const int64_t count = std::min(most_part_rows, rows - first);
        const size_t bytes = row_bytes(dtype, columns_);
        parts.push_back(
            pack_codes(dtype, std::span(blocks).subspan(first * bytes, count * bytes), row + first,
                       count));
      }
      halves_from = row + rows;
    }
    row += rows;
  }
  add_halves(halves_from, row);
  return parts;
}

WeightPart AscendWeight::pack_codes(DType dtype, std::span<const std::byte> blocks,
                                    int64_t first_row, int64_t rows) const {
  const auto n = static_cast<uint32_t>(rows);
  const auto k = static_cast<uint32_t>(columns_);
  const QuantizedNz packed = pack_quantized(dtype, blocks, n, k);
  return {quantized_format(dtype), static_cast<uint32_t>(first_row), n, store(packed.codes),
          store(packed.scales)};
}

WeightPart AscendWeight::pack_halves(int64_t expert, int64_t first_row, int64_t rows) const {
  const auto n = static_cast<uint32_t>(rows);
  const auto k = static_cast<uint32_t>(columns_);
  const uint32_t padded = up_to(n, fractal_rows);
  std::vector<float> row(k);
  // Of what is finite: what is not stays so with any factor.
  const auto largest = [&] {
    float most = 0;
    for (int64_t r = first_row; r < first_row + rows; ++r) {
      host_->read_row(expert, r, row);
      for (const float value : row) {
        if (std::isfinite(value)) most = std::max(most, std::fabs(value));
      }
    }
    return most;
  };
  // Halves as they are; of other numbers the exponent has to fit.
  const bool are_halves = std::ranges::all_of(source_.segments, [](const TensorView& segment) {
    return segment.dtype == DType::f16 || is_quantized(segment.dtype);
  });
  float factor = 1;
  const float most = are_halves ? 0 : largest();
  if (most > 0) {
    factor = std::ldexp(1.0f, std::max(-100, std::ilogb(most) + 1 - largest_exponent));
  }
  std::vector<uint16_t> packed;
  bool fits = false;
  while (!fits) {
    packed.assign(size_t{up(k, fractal_rows)} * padded * fractal_rows, 0);
    fits = true;
    for (uint32_t r = 0; r < n; ++r) {
      host_->read_row(expert, first_row + r, row);
      for (uint32_t i = 0; i < k; ++i) {
        const float value = row[i] / factor;
        fits = fits && !(std::fabs(value) > largest_half && std::isfinite(value));
        packed[(size_t{i / fractal_rows} * padded + r) * fractal_rows + i % fractal_rows] =
            f32_to_f16(value);
      }
    }
    // A scale times a code of many bits.
    if (!fits) factor = std::ldexp(1.0f, std::ilogb(largest()) + 1 - largest_exponent);
  }
  return {.format = std::nullopt,
          .first_row = static_cast<uint32_t>(first_row),
          .rows = n,
          .codes = store(std::as_bytes(std::span(packed))),
          .scales = nullptr,
          .factor = factor};
}

const AscendWeight& as_ascend(const Weight& weight) {
  const auto* own = dynamic_cast<const AscendWeight*>(&weight);
  RIDGE_ASSERT(own != nullptr && "a weight of another device");
  return *own;
}

}  // namespace ridge::backend::ascend
