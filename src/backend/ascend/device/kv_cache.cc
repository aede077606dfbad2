#include "backend/ascend/device/kv_cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/ascend/tiling.h"
#include "backend/ascend/tiling_sizes.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

constexpr uint64_t element_bytes = 2;

int heads_of(const KvCacheLayout& layout) {
  return layout.kind == KvCacheLayout::Kind::heads ? layout.kv_heads : 1;
}

uint32_t padded(int dim) { return up_to(static_cast<uint32_t>(dim), 16); }

bool has_kernels(const KvCacheLayout& layout) {
  const uint32_t key = padded(layout.key_dim), value = padded(layout.value_dim);
  const uint32_t latent = layout.kind == KvCacheLayout::Kind::latent ? value : 0;
  const auto heads = static_cast<uint32_t>(heads_of(layout));
  return (layout.dtype == DType::f16 || layout.dtype == DType::bf16) &&
         fits_attention(key, latent, value) && heads * std::max(key, value) <= most_stride;
}

}  // namespace

AscendKvCache::AscendKvCache(std::shared_ptr<Hardware> hardware, const KvCacheLayout& layout)
    : KvCache(layout), hardware_(std::move(hardware)) {
  if (!has_kernels(layout)) {
    host_ = std::make_unique<reference::ReferenceKvCache>(layout);
    return;
  }
  RIDGE_ASSERT(layout.layers > 0 && layout.blocks > 0 && layout.block_tokens > 0);
  try {
    memory_ = std::make_unique<acl::DeviceMemory>(hardware_->context(),
                                                  block_bytes() * static_cast<size_t>(layout.blocks));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("a KV cache of {} blocks of {} bytes: {}", layout.blocks,
                                          block_bytes(), error.message()));
  }
}

uint32_t AscendKvCache::heads() const { return static_cast<uint32_t>(heads_of(layout_)); }
uint32_t AscendKvCache::key_dim() const { return padded(layout_.key_dim); }
uint32_t AscendKvCache::value_dim() const { return padded(layout_.value_dim); }
uint32_t AscendKvCache::key_row() const { return heads() * key_dim(); }
uint32_t AscendKvCache::value_row() const { return heads() * value_dim(); }

uint32_t AscendKvCache::block_stride() const {
  return static_cast<uint32_t>(layout_.layers) * static_cast<uint32_t>(layout_.block_tokens) *
         (key_row() + value_row());
}

uint64_t AscendKvCache::size_bytes() const {
  return memory_ ? memory_->span().bytes : host_->size_bytes();
}

size_t AscendKvCache::block_bytes() const {
  return host_ ? host_->block_bytes() : block_stride() * element_bytes;
}

uint64_t AscendKvCache::keys_address(int layer) const {
  const uint64_t of_layer =
      static_cast<uint64_t>(layout_.block_tokens) * (key_row() + value_row()) * element_bytes;
  return memory_->span().address + static_cast<uint64_t>(layer) * of_layer;
}

uint64_t AscendKvCache::values_address(int layer) const {
  return keys_address(layer) +
         static_cast<uint64_t>(layout_.block_tokens) * key_row() * element_bytes;
}

acl::DeviceSpan AscendKvCache::block_of(int block) const {
  RIDGE_ASSERT(block >= 0 && block < layout_.blocks);
  return memory_->span().part(static_cast<size_t>(block) * block_bytes(), block_bytes());
}

void AscendKvCache::export_block(int block, std::span<std::byte> to) const {
  if (host_) return host_->export_block(block, to);
  RIDGE_ASSERT(to.size() == block_bytes());
  acl::download(*hardware_->context(), to, block_of(block));
}

void AscendKvCache::import_block(int block, std::span<const std::byte> from) {
  if (host_) return host_->import_block(block, from);
  RIDGE_ASSERT(from.size() == block_bytes());
  acl::upload(*hardware_->context(), block_of(block), from);
}

void AscendKvCache::copy_block(acl::Stream& stream, int to, int from) {
  if (to != from) stream.copy(block_of(to), block_of(from));
}

AscendKvCache& as_ascend(KvCache& cache) {
  auto* own = dynamic_cast<AscendKvCache*>(&cache);
  RIDGE_ASSERT(own != nullptr && "a cache of another device");
  return *own;
}

}  // namespace ridge::backend::ascend
