#pragma once

#include "backend/cpu/buffer.h"
#include "backend/kv_cache.h"

namespace ridge::backend::cpu {

// [layer][block][KV head]{ keys [key_dim][block_tokens], values [block_tokens][value_stride] }: a vector
// holds the same dimension of 16 keys, and a value's dimensions lie side by side.
class CpuKvCache final : public KvCache {
 public:
  // Throws unsupported for what the kernels lack, out_of_memory.
  explicit CpuKvCache(const KvCacheLayout& layout);

  uint64_t size_bytes() const override { return memory_.size_bytes(); }
  size_t block_bytes() const override { return block_stride_ * layout_.layers; }
  void export_block(int block, std::span<std::byte> to) const override;
  void import_block(int block, std::span<const std::byte> from) override;
  void copy_block(int from, int to);

  int value_stride() const { return value_stride_; }
  // Bytes between the blocks of one layer.
  size_t block_stride() const { return block_stride_; }
  std::byte* keys(int layer, int head) const {
    return memory_.data() + layer * layer_stride_ + head * head_stride_;
  }
  std::byte* values(int layer, int head) const { return keys(layer, head) + values_at_; }

 private:
  std::byte* block_data(int layer, int block) const;

  int value_stride_;
  size_t values_at_;
  size_t head_stride_;
  size_t block_stride_;
  size_t layer_stride_;
  Memory memory_;
};

}  // namespace ridge::backend::cpu
