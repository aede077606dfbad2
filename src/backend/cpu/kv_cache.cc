#include "backend/cpu/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

constexpr int most_head_dim = 1024;

// All heads share a latent and a rotary key: they are one KV head's value and key.
KvCacheLayout with_heads(KvCacheLayout layout) {
  if (layout.kind == KvCacheLayout::Kind::latent) layout.kv_heads = 1;
  return layout;
}

void check(const KvCacheLayout& layout) {
  if (layout.block_tokens % 16 != 0) {
    throw Error(ErrorCode::unsupported,
                fmt::format("blocks of {} tokens: the cpu back end needs a multiple of 16",
                            layout.block_tokens));
  }
  if (std::ranges::find(kv_dtypes, layout.dtype) == kv_dtypes.end()) {
    throw Error(
        ErrorCode::unsupported,
        fmt::format("a {} cache: the cpu back end has F16, BF16, F32 and I8", name(layout.dtype)));
  }
  if (layout.key_dim > most_head_dim || layout.value_dim > most_head_dim) {
    throw Error(ErrorCode::unsupported,
                fmt::format("heads of {} and {}: the cpu back end takes at most {}", layout.key_dim,
                            layout.value_dim, most_head_dim));
  }
}

constexpr int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

KvGeometry kv_geometry(const KvCacheLayout& layout) {
  const auto element = static_cast<int64_t>(row_bytes(layout.dtype, 1));
  const int group = kv_group(layout.dtype);
  const int64_t scales_bytes =
      layout.dtype == DType::i8 ? rounded(layout.block_tokens * int64_t{4}) : 0;
  KvGeometry g{};
  g.dtype = layout.dtype;
  g.block_tokens = layout.block_tokens;
  g.key_dim = layout.key_dim;
  g.value_dim = layout.value_dim;
  g.value_stride = (layout.value_dim + 15) / 16 * 16;
  const int64_t key_dims = (layout.key_dim + group - 1) / group * group;
  g.key_scales_at = rounded(key_dims * layout.block_tokens * element);
  g.values_at = g.key_scales_at + scales_bytes;
  g.value_scales_at =
      g.values_at + rounded(int64_t{layout.block_tokens} * g.value_stride * element);
  g.head_bytes = g.value_scales_at + scales_bytes;
  g.block_stride = g.head_bytes * layout.kv_heads;
  return g;
}

CpuKvCache::CpuKvCache(const KvCacheLayout& layout, HugePages pages)
    : KvCache(with_heads(layout)), geometry_((check(layout_), kv_geometry(layout_))) {
  layer_stride_ = static_cast<size_t>(geometry_.block_stride) * layout.blocks;
  memory_ = Memory(layer_stride_ * layout.layers, pages);
}

std::byte* CpuKvCache::block_data(int layer, int block) const {
  RIDGE_ASSERT(block >= 0 && block < layout_.blocks);
  return memory_.data() + layer * layer_stride_ + block * geometry_.block_stride;
}

void CpuKvCache::export_block(int block, std::span<std::byte> to) const {
  RIDGE_ASSERT(to.size() == block_bytes());
  for (int layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(to.data() + layer * geometry_.block_stride, block_data(layer, block),
                geometry_.block_stride);
  }
}

void CpuKvCache::import_block(int block, std::span<const std::byte> from) {
  RIDGE_ASSERT(from.size() == block_bytes());
  for (int layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(block_data(layer, block), from.data() + layer * geometry_.block_stride,
                geometry_.block_stride);
  }
}

void CpuKvCache::copy_block(int from, int to) {
  for (int layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(block_data(layer, to), block_data(layer, from), geometry_.block_stride);
  }
}

}  // namespace ridge::backend::cpu
