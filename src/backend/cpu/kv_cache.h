#pragma once

#include <array>

#include "backend/cpu/buffer.h"
#include "backend/cpu/kernels.h"
#include "backend/kv_cache.h"

namespace ridge::backend::cpu {

inline constexpr std::array kv_dtypes = {DType::f16, DType::bf16, DType::f32, DType::i8};

KvGeometry kv_geometry(const KvCacheLayout& layout);

// [layer][block][KV head], each as KvGeometry says: a vector holds the same dimensions of 16 keys,
// and the same tokens of 16 dimensions of the values. A latent is the value of one KV head whose key
// is the rotary key, so that each is stored once.
class CpuKvCache final : public KvCache {
 public:
  // Throws unsupported for what the kernels lack, out_of_memory.
  explicit CpuKvCache(const KvCacheLayout& layout, HugePages pages = HugePages::asked);

  uint64_t size_bytes() const override { return memory_.size_bytes(); }
  size_t block_bytes() const override { return geometry_.block_stride * layout_.layers; }
  void export_block(int block, std::span<std::byte> to) const override;
  void import_block(int block, std::span<const std::byte> from) override;
  void copy_block(int from, int to);

  const KvGeometry& geometry() const { return geometry_; }
  // Of block 0.
  std::byte* head(int layer, int head) const {
    return memory_.data() + layer * layer_stride_ + head * geometry_.head_bytes;
  }

 private:
  std::byte* block_data(int layer, int block) const;

  KvGeometry geometry_;
  size_t layer_stride_;
  Memory memory_;
};

}  // namespace ridge::backend::cpu
