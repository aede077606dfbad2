#include "backend/cpu/kv_cache.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

void check(const KvCacheLayout& layout) {
  if (layout.kind != KvCacheLayout::Kind::heads) {
    throw Error(ErrorCode::unsupported, "the cpu back end has no latent cache yet");
  }
  if (layout.block_tokens % 16 != 0) {
    throw Error(ErrorCode::unsupported,
                fmt::format("blocks of {} tokens: the cpu back end needs a multiple of 16",
                            layout.block_tokens));
  }
  if (layout.dtype != DType::f16 && layout.dtype != DType::bf16 && layout.dtype != DType::f32) {
    throw Error(ErrorCode::unsupported,
                fmt::format("a {} cache: the cpu back end has F16, BF16 and F32",
                            name(layout.dtype)));
  }
}

}  // namespace

CpuKvCache::CpuKvCache(const KvCacheLayout& layout) : KvCache(layout) {
  check(layout);
  const size_t element = row_bytes(layout.dtype, 1);
  value_stride_ = (layout.value_dim + 15) / 16 * 16;
  values_at_ = static_cast<size_t>(layout.key_dim) * layout.block_tokens * element;
  head_stride_ = values_at_ + static_cast<size_t>(layout.block_tokens) * value_stride_ * element;
  block_stride_ = head_stride_ * layout.kv_heads;
  layer_stride_ = block_stride_ * layout.blocks;
  memory_ = Memory(layer_stride_ * layout.layers);
}

std::byte* CpuKvCache::block_data(int layer, int block) const {
  RIDGE_ASSERT(block >= 0 && block < layout_.blocks);
  return memory_.data() + layer * layer_stride_ + block * block_stride_;
}

void CpuKvCache::export_block(int block, std::span<std::byte> to) const {
  RIDGE_ASSERT(to.size() == block_bytes());
  for (int layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(to.data() + layer * block_stride_, block_data(layer, block), block_stride_);
  }
}

void CpuKvCache::import_block(int block, std::span<const std::byte> from) {
  RIDGE_ASSERT(from.size() == block_bytes());
  for (int layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(block_data(layer, block), from.data() + layer * block_stride_, block_stride_);
  }
}

void CpuKvCache::copy_block(int from, int to) {
  for (int layer = 0; layer < layout_.layers; ++layer) {
    std::memcpy(block_data(layer, to), block_data(layer, from), block_stride_);
  }
}

}  // namespace ridge::backend::cpu
