#include "backend/cpu/weight.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "tensor/dequantize.h"

namespace ridge::backend::cpu {

namespace {

bool is_plain(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

size_t strip_size(DType dtype, int64_t columns) {
  if (is_plain(dtype)) return static_cast<size_t>(columns) * strip_rows * traits(dtype).block_bytes;
  const TileFormat format = tile_format(dtype);
  return static_cast<size_t>(units_of(format, columns)) * format.unit_bytes();
}

// Plain rows into [K][16]; writes every byte of the strip.
void pack_plain(DType dtype, const std::byte* const* rows, int count, int64_t columns,
                std::byte* strip) {
  const auto element = static_cast<size_t>(traits(dtype).block_bytes);
  if (count < strip_rows) std::memset(strip, 0, static_cast<size_t>(columns) * strip_rows * element);
  for (int row = 0; row < count; ++row) {
    for (int64_t k = 0; k < columns; ++k) {
      std::memcpy(strip + (k * strip_rows + row) * element, rows[row] + k * element, element);
    }
  }
}

void check_supported(const WeightSource& source) {
  const bool is_cut = source.shard.axis != Shard::Axis::none;
  const bool is_linear = source.use == WeightUse::linear && !source.transposed;
  if (source.shard.axis == Shard::Axis::columns || (is_cut && !is_linear)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("weight {}: the cpu back end cuts only rows, and of linears",
                            source.name));
  }
  for (const TensorView& segment : source.segments) {
    if (!is_plain(segment.dtype) && !is_quantized(segment.dtype)) {
      throw Error(ErrorCode::unsupported, fmt::format("weight {}: no {} weights on the cpu",
                                                      source.name, name(segment.dtype)));
    }
  }
}

// Where the segments' tiles will stand, without the tiles.
std::vector<WeightPart> parts_of(const WeightSource& source, int64_t experts) {
  std::vector<WeightPart> parts;
  int64_t first_row = 0;
  for (const TensorView& segment : source.segments) {
    const DType dtype = segment.dtype;
    const int64_t columns = segment.shape.columns();
    const int64_t source_rows = segment.shape.rows() / experts;
    RowRange part{0, source_rows};
    if (source.shard.axis == Shard::Axis::rows) {
      part = rows_of_rank(source_rows, source.shard.rank, source.shard.ranks);
    }
    if (part.count == 0) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("weight {}: {} rows cannot be cut into {} parts", source.name,
                              source_rows, source.shard.ranks));
    }
    const int64_t units = is_plain(dtype) ? columns : units_of(tile_format(dtype), columns);
    parts.push_back({dtype, first_row, part.count, units, part.first, source_rows,
                     strip_size(dtype, columns), /*tiles=*/nullptr});
    first_row += part.count;
  }
  return parts;
}

// A weight's name in a PreparedStore; all that its tiles depend on besides the codes.
std::string key_of(const WeightSource& source, int64_t experts,
                   const std::vector<WeightPart>& parts) {
  std::string key =
      fmt::format("{} E={} K={}", source.name, experts, source.segments.front().shape.columns());
  for (const WeightPart& part : parts) key += fmt::format(" {}x{}", name(part.dtype), part.rows);
  if (source.shard.axis != Shard::Axis::none) {
    key += fmt::format(" {}/{}", source.shard.rank, source.shard.ranks);
  }
  return key;
}

}  // namespace

void pack_rows(const WeightPart& part, const TensorView& segment, int64_t expert, int64_t index,
               std::byte* to) {
  const int64_t row = index * strip_rows;
  const std::byte* rows[strip_rows];
  const auto count = static_cast<int>(std::min<int64_t>(strip_rows, part.rows - row));
  for (int r = 0; r < count; ++r) {
    rows[r] = segment.row(expert * part.source_rows + part.source_row + row + r).data();
  }
  const auto pack = is_plain(part.dtype) ? &pack_plain : &pack_strip;
  pack(part.dtype, rows, count, segment.shape.columns(), to);
}

double measure_packing(std::span<const TensorView> rows, ThreadTeam& team) {
  double best = 0;
  for (int round = 0; round < 2; ++round) {  // the first wakes threads and processors
    uint64_t bytes = 0;
    const auto start = std::chrono::steady_clock::now();
    for (const TensorView& view : rows) {
      const WeightPart part = parts_of({.segments = {view}}, /*experts=*/1).front();
      std::atomic<int64_t> next{0};
      team.run([&](int) {
        std::vector<std::byte> strip(part.strip_bytes);
        for (int64_t i = next.fetch_add(1); i < part.strips(); i = next.fetch_add(1)) {
          pack_rows(part, view, /*expert=*/0, i, strip.data());
        }
      });
      bytes += view.bytes.size();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (seconds.count() > 0) best = std::max(best, static_cast<double>(bytes) / seconds.count());
  }
  return best;
}

CpuWeight::CpuWeight(const WeightSource& source, ThreadTeam& team, PreparedStore* store,
                     MemoryPool& pool, ExpertPager& pager) {
  const Shape shape = stacked_shape(source);
  check_supported(source);
  name_ = source.name;
  experts_ = shape[0];
  rows_ = shape[1];
  columns_ = shape[2];
  if (has_use(source.use, WeightUse::vector)) {
    prepare_vector(source);
    return;
  }
  const bool embeds = has_use(source.use, WeightUse::embedding);
  if (embeds && (source.transposed || experts_ != 1)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("weight {}: no rows can be gathered from {}", source.name,
                            source.transposed ? "a transposed weight" : "experts"));
  }
  if (source.paging) {
    prepare_pages(source, pool, pager);
  } else if (source.transposed) {
    prepare_transposed(source, team, pool);
  } else if (has_use(source.use, WeightUse::linear)) {
    prepare_tiles(source, team, store, pool);
  }
  if (embeds && parts_.empty()) {
    source_rows_ = source.segments;
    keeps_source_ = true;
  }
}

void CpuWeight::prepare_vector(const WeightSource& source) {
  // A merged bias is a list of vectors laid end to end; as rows they would have to be equally long.
  values_.resize(static_cast<size_t>(rows_ * columns_));
  size_t at = 0;
  for (const TensorView& segment : source.segments) {
    const auto count = static_cast<size_t>(segment.shape.elements());
    dequantize_row(segment.dtype, segment.bytes, std::span(values_).subspan(at, count));
    at += count;
  }
  columns_ = rows_ * columns_;
  rows_ = 1;
  size_bytes_ = values_.size() * sizeof(float);
}

uint64_t CpuWeight::prepared_bytes(const WeightSource& source) {
  if (!has_use(source.use, WeightUse::linear) || source.transposed) return 0;
  const int64_t experts = stacked_shape(source)[0];
  check_supported(source);
  uint64_t bytes = 0;
  for (const WeightPart& part : parts_of(source, experts)) {
    bytes += static_cast<uint64_t>(experts) * part.tile_bytes();
  }
  return bytes;
}

void CpuWeight::prepare_tiles(const WeightSource& source, ThreadTeam& team, PreparedStore* store,
                              MemoryPool& pool) {
  parts_ = parts_of(source, experts_);
  rows_ = parts_.back().first_row + parts_.back().rows;
  for (const WeightPart& part : parts_) {
    size_bytes_ += static_cast<uint64_t>(experts_) * part.tile_bytes();
  }
  const std::string key = store == nullptr ? std::string() : key_of(source, experts_, parts_);
  const std::span<const std::byte> kept =
      store == nullptr ? std::span<const std::byte>() : store->find(key);
  // Any bytes are tiles, so the size is all that could lead a kernel astray.
  const bool is_kept = kept.size() == size_bytes_ && !kept.empty();
  if (!is_kept) tiles_ = pool.take(size_bytes_);
  const std::byte* at = is_kept ? kept.data() : tiles_.data();
  for (WeightPart& part : parts_) {
    part.tiles = at;
    at += static_cast<uint64_t>(experts_) * part.tile_bytes();
  }
  if (is_kept) return;
  pack_tiles(source, team);
  if (store != nullptr) store->keep(key, {tiles_.data(), static_cast<size_t>(size_bytes_)});
}

void CpuWeight::prepare_pages(const WeightSource& source, MemoryPool& pool, ExpertPager& pager) {
  RIDGE_ASSERT(experts_ > 1 && source.use == WeightUse::linear && !source.transposed);
  parts_ = parts_of(source, experts_);
  for (const WeightPart& part : parts_) {
    size_bytes_ += static_cast<uint64_t>(experts_) * part.tile_bytes();
  }
  pages_ = std::make_unique<ExpertPages>(source, parts_, experts_, pool, pager);
  keeps_source_ = true;
}

void CpuWeight::pack_tiles(const WeightSource& source, ThreadTeam& team) {
  for (size_t p = 0; p < parts_.size(); ++p) {
    const WeightPart& part = parts_[p];
    const TensorView& segment = source.segments[p];
    std::byte* const tiles = tiles_.data() + (part.tiles - tiles_.data());
    const int64_t strips = part.strips();
    std::atomic<int64_t> next{0};
    team.run([&](int) {
      for (int64_t s = next.fetch_add(4); s < experts_ * strips; s = next.fetch_add(4)) {
        for (int64_t i = s; i < std::min(s + 4, experts_ * strips); ++i) {
          pack_rows(part, segment, i / strips, i % strips,
                    tiles + static_cast<size_t>(i) * part.strip_bytes);
        }
      }
    });
  }
}

// A block's scale belongs to columns that lie in as many rows once they are turned, so quantised
// weights are held as the float32 values that dequantising gives.
void CpuWeight::prepare_transposed(const WeightSource& source, ThreadTeam& team,
                                   MemoryPool& pool) {
  std::vector<float> turned(static_cast<size_t>(experts_ * rows_ * columns_));
  int64_t first_row = 0;
  for (const TensorView& segment : source.segments) {
    const int64_t rows = segment.shape.rows() / experts_;
    std::atomic<int64_t> next{0};
    team.run([&](int) {
      std::vector<float> row(static_cast<size_t>(columns_));
      for (int64_t i = next.fetch_add(1); i < experts_ * rows; i = next.fetch_add(1)) {
        dequantize_row(segment.dtype, segment.row(i), row);
        float* to = turned.data() + i / rows * rows_ * columns_ + first_row + i % rows;
        for (int64_t k = 0; k < columns_; ++k) to[k * rows_] = row[static_cast<size_t>(k)];
      }
    });
    first_row += rows;
  }
  std::swap(rows_, columns_);
  const TensorView view{DType::f32, Shape{experts_, rows_, columns_},
                        std::as_bytes(std::span<const float>(turned))};
  prepare_tiles({.name = source.name, .segments = {view}}, team, /*store=*/nullptr, pool);
}

void CpuWeight::gather(int64_t index, float* out, int64_t expert) const {
  RIDGE_ASSERT(index >= 0 && index < rows_);
  const std::span<float> values(out, static_cast<size_t>(columns_));
  for (const TensorView& segment : source_rows_) {
    const int64_t rows = segment.shape.rows();
    if (index < rows) return dequantize_row(segment.dtype, segment.row(index), values);
    index -= rows;
  }
  for (const WeightPart& part : parts_) {
    if (index >= part.first_row + part.rows) continue;
    const int64_t row = index - part.first_row;
    const std::byte* strip = part.strip(row / strip_rows, expert);
    const auto lane = static_cast<int>(row % strip_rows);
    std::vector<std::byte> bytes(row_bytes(part.dtype, columns_));
    if (is_plain(part.dtype)) {
      const auto element = static_cast<size_t>(traits(part.dtype).block_bytes);
      for (int64_t k = 0; k < columns_; ++k) {
        std::memcpy(&bytes[k * element], strip + (k * strip_rows + lane) * element, element);
      }
    } else {
      unpack_row(part.dtype, strip, lane, columns_, bytes.data());
    }
    return dequantize_row(part.dtype, bytes, values);
  }
}

}  // namespace ridge::backend::cpu
