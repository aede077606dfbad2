#include "backend/ascend/device/weight.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"
#include "tensor/blocks.h"
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

WeightPart empty_part(std::optional<QuantizedFormat> format, int64_t first_row, int64_t rows,
                      int64_t experts) {
  return {.format = std::move(format),
          .first_row = static_cast<uint32_t>(first_row),
          .rows = static_cast<uint32_t>(rows),
          .codes = nullptr,
          .scales = nullptr,
          .experts = experts};
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
    if (is_table && is_whole() && source.segments.size() == 1) pack_table();
    if (has_use(source.use, WeightUse::linear)) pack();
    const bool needs_host = is_table && table_ == nullptr;
    if (!needs_host) host_.reset();
    keeps_source_ = needs_host && host_->keeps_source();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("weight {}: {}", name_, error.message()));
  }
}

// In parts: a vocabulary's rows may take as much memory again as the file has.
void AscendWeight::pack_table() {
  const TensorView& table = source_.segments.front();
  if (!is_quantized(table.dtype)) {
    table_ = store(table.bytes);
    return;
  }
  const auto columns = static_cast<uint32_t>(columns_);
  const uint64_t row = table_row(quantized_format(table.dtype), columns).bytes;
  table_ = reserve(static_cast<uint64_t>(rows_) * row);
  if (hardware_->only_counts) return;
  constexpr int64_t most_rows = 4096;
  for (int64_t first = 0; first < rows_; first += most_rows) {
    const int64_t count = std::min(most_rows, rows_ - first);
    const auto packed =
        ascend::pack_table(table.dtype, blocks_of(/*expert=*/0, first, count),
                           static_cast<uint32_t>(count), columns);
    acl::upload(*hardware_->context(),
                table_->span().part(static_cast<uint64_t>(first) * row, packed.size()), packed);
  }
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
  auto memory = reserve(bytes.size());
  if (!hardware_->only_counts) acl::upload(*hardware_->context(), memory->span(), bytes);
  return memory;
}

std::unique_ptr<acl::DeviceMemory> AscendWeight::reserve(uint64_t bytes) const {
  return std::make_unique<acl::DeviceMemory>(hardware_->context(), bytes);
}

bool AscendWeight::is_whole() const {
  return source_.shard.axis == Shard::Axis::none && !source_.transposed;
}

// One piece of memory has what all experts give, which is equally much.
void AscendWeight::store_of_expert(std::unique_ptr<acl::DeviceMemory>& all, int64_t expert,
                                   std::span<const std::byte> bytes) const {
  if (all == nullptr) all = reserve(bytes.size() * static_cast<size_t>(experts_));
  const size_t at = static_cast<size_t>(expert) * bytes.size();
  acl::upload(*hardware_->context(), all->span().part(at, bytes.size()), bytes);
}

void AscendWeight::pack() {
  const auto add_halves = [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; row += most_part_rows) {
      parts_.push_back(pack_halves(row, std::min(most_part_rows, end - row)));
    }
  };
  if (!is_whole()) {
    add_halves(0, rows_);
    note_dequantised();
    return;
  }
  takes_int8_ = fits_int8();
  if (takes_int8_) {
    for (int64_t first = 0; first < rows_; first += most_part_rows) {
      parts_.push_back(pack_int8(first, std::min(most_part_rows, rows_ - first)));
    }
    return;
  }
  int64_t row = 0, halves_from = 0;
  for (size_t s = 0; s < source_.segments.size();) {
    const DType dtype = source_.segments[s].dtype;
    // Segments of one type, one after the other, are one.
    int64_t end = row;
    for (; s < source_.segments.size() && source_.segments[s].dtype == dtype; ++s) {
      end += source_.segments[s].shape.rows() / experts_;
    }
    if (is_quantized(dtype)) {
      add_halves(halves_from, row);
      for (int64_t first = row; first < end; first += most_part_rows) {
        parts_.push_back(pack_codes(dtype, first, std::min(most_part_rows, end - first)));
      }
      halves_from = end;
    }
    row = end;
  }
  add_halves(halves_from, row);
}

void AscendWeight::note_dequantised() {
  bool is_dequantised = false;
  for (const TensorView& segment : source_.segments) {
    if (!is_quantized(segment.dtype)) continue;
    is_dequantised = true;
    const std::string_view type = ridge::name(segment.dtype);
    if (notes_.dequantised_types.find(type) != std::string::npos) continue;
    notes_.dequantised_types += (notes_.dequantised_types.empty() ? "" : ", ") + std::string(type);
  }
  if (!is_dequantised) return;
  notes_.dequantised_file_bytes += size_bytes_;
  for (const WeightPart& part : parts_) notes_.dequantised_bytes += part.codes->span().bytes;
}

std::vector<std::byte> AscendWeight::blocks_of(int64_t expert, int64_t first_row,
                                               int64_t rows) const {
  std::vector<std::byte> blocks;
  int64_t begin = 0;
  for (const TensorView& segment : source_.segments) {
    const int64_t segment_rows = segment.shape.rows() / experts_;
    const int64_t from = std::max(first_row, begin);
    const int64_t to = std::min(first_row + rows, begin + segment_rows);
    for (int64_t row = from; row < to; ++row) {
      const auto bytes = segment.row(expert * segment_rows + row - begin);
      blocks.insert(blocks.end(), bytes.begin(), bytes.end());
    }
    begin += segment_rows;
  }
  return blocks;
}

bool AscendWeight::fits_int8() const {
  // Heads multiply runs of a row, which have no scales of their own.
  if (!source_.int8_activations || source_.by_heads) return false;
  const auto has_one_scale = [](std::span<const std::byte> row) {
    for (size_t at = 0; at < row.size(); at += sizeof(BlockQ8_0)) {
      if (std::memcmp(row.data() + at, row.data(), sizeof(f16_bits)) != 0) return false;
    }
    return true;
  };
  return std::ranges::all_of(source_.segments, [&](const TensorView& segment) {
    if (segment.dtype != DType::q8_0) return false;
    // Nothing is read then.
    if (hardware_->only_counts) return true;
    for (int64_t row = 0; row < segment.shape.rows(); ++row) {
      if (!has_one_scale(segment.row(row))) return false;
    }
    return true;
  });
}

WeightPart AscendWeight::pack_int8(int64_t first_row, int64_t rows) const {
  const auto n = static_cast<uint32_t>(rows);
  const auto k = static_cast<uint32_t>(columns_);
  WeightPart part = empty_part(std::nullopt, first_row, rows, experts_);
  if (hardware_->only_counts) {
    const auto experts = static_cast<uint64_t>(experts_);
    part.codes = reserve(experts * up_to(n, fractal_rows) * k);
    part.scales = reserve(experts * n * sizeof(float));
    return part;
  }
  for (int64_t expert = 0; expert < experts_; ++expert) {
    const std::vector<std::byte> bytes = blocks_of(expert, first_row, rows);
    std::vector<int8_t> codes;
    codes.reserve(size_t{n} * k);
    std::vector<float> scales;
    for (size_t at = 0; at < bytes.size(); at += sizeof(BlockQ8_0)) {
      BlockQ8_0 block;
      std::memcpy(&block, bytes.data() + at, sizeof(block));
      if (codes.size() % k == 0) scales.push_back(f16_to_f32(block.d));
      codes.insert(codes.end(), std::begin(block.codes), std::end(block.codes));
    }
    const std::vector<int8_t> packed = pack_nz(std::span<const int8_t>(codes), n, k);
    store_of_expert(part.codes, expert, std::as_bytes(std::span(packed)));
    store_of_expert(part.scales, expert, std::as_bytes(std::span(scales)));
  }
  return part;
}

WeightPart AscendWeight::pack_codes(DType dtype, int64_t first_row, int64_t rows) const {
  const auto n = static_cast<uint32_t>(rows);
  WeightPart part = empty_part(quantized_format(dtype), first_row, rows, experts_);
  if (hardware_->only_counts) {
    const QuantizedNzBytes bytes = quantized_bytes(dtype, n, static_cast<uint32_t>(columns_));
    part.codes = reserve(bytes.codes * static_cast<uint64_t>(experts_));
    part.scales = reserve(bytes.scales * static_cast<uint64_t>(experts_));
    return part;
  }
  for (int64_t expert = 0; expert < experts_; ++expert) {
    const QuantizedNz packed = pack_quantized(dtype, blocks_of(expert, first_row, rows), n,
                                              static_cast<uint32_t>(columns_));
    store_of_expert(part.codes, expert, packed.codes);
    store_of_expert(part.scales, expert, packed.scales);
  }
  return part;
}

WeightPart AscendWeight::pack_halves(int64_t first_row, int64_t rows) const {
  const auto n = static_cast<uint32_t>(rows);
  const auto k = static_cast<uint32_t>(columns_);
  const uint32_t padded = up_to(n, fractal_rows);
  std::vector<float> row(k);
  // Of what is finite: what is not stays so with any factor.
  const auto fitting_factor = [&] {
    float most = 0;
    for (int64_t expert = 0; expert < experts_; ++expert) {
      for (int64_t r = first_row; r < first_row + rows; ++r) {
        host_->read_row(expert, r, row);
        for (const float value : row) {
          if (std::isfinite(value)) most = std::max(most, std::fabs(value));
        }
      }
    }
    if (most == 0) return 1.0f;
    return std::ldexp(1.0f, std::max(-100, std::ilogb(most) + 1 - largest_exponent));
  };
  // Halves as they are; of other numbers the exponent has to fit.
  const bool are_halves = std::ranges::all_of(source_.segments, [](const TensorView& segment) {
    return segment.dtype == DType::f16 || is_quantized(segment.dtype);
  });
  WeightPart part = empty_part(std::nullopt, first_row, rows, experts_);
  const size_t halves = size_t{up(k, fractal_rows)} * padded * fractal_rows;
  if (hardware_->only_counts) {
    part.codes = reserve(halves * sizeof(uint16_t) * static_cast<uint64_t>(experts_));
    return part;
  }
  if (!are_halves) part.factor = fitting_factor();
  std::vector<uint16_t> packed(halves);
  const auto fill = [&](int64_t expert) {
    for (uint32_t r = 0; r < n; ++r) {
      host_->read_row(expert, first_row + r, row);
      for (uint32_t i = 0; i < k; ++i) {
        const float value = row[i] / part.factor;
        if (std::fabs(value) > largest_half && std::isfinite(value)) return false;
        packed[(size_t{i / fractal_rows} * padded + r) * fractal_rows + i % fractal_rows] =
            f32_to_f16(value);
      }
    }
    return true;
  };
  for (int64_t expert = 0; expert < experts_;) {
    if (fill(expert)) {
      store_of_expert(part.codes, expert++, std::as_bytes(std::span(packed)));
    } else {
      // A scale times a code of many bits: all experts again.
      part.factor = fitting_factor();
      expert = 0;
    }
  }
  return part;
}

const AscendWeight& as_ascend(const Weight& weight) {
  const auto* own = dynamic_cast<const AscendWeight*>(&weight);
  RIDGE_ASSERT(own != nullptr && "a weight of another device");
  return *own;
}

}  // namespace ridge::backend::ascend
