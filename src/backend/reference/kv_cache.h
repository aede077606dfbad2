#pragma once

#include <span>
#include <vector>

#include "backend/kv_cache.h"

namespace ridge::backend::reference {

// What one token holds: its key and its value, of one head or (latent) the only ones.
enum class KvPart { key, value };

// Vectors rounded to the layout's dtype. i8 keeps a float32 scale for each vector, as
// quantize_rows. Bytes lie as [block][layer][token][head][key, value],
// so that a block is one range.
class ReferenceKvCache : public KvCache {
 public:
  // Throws unsupported for a dtype that no cache has, out_of_memory.
  explicit ReferenceKvCache(const KvCacheLayout& layout);

  uint64_t size_bytes() const override { return bytes_.size(); }
  size_t block_bytes() const override { return block_bytes_; }
  void export_block(int block, std::span<std::byte> to) const override;
  void import_block(int block, std::span<const std::byte> from) override;
  void copy_block(int to, int from);

  // slot: block · block_tokens + offset; head: 0 of a latent cache; values: [key_dim or value_dim].
  void store(int layer, int slot, int head, KvPart part, std::span<const float> values);
  void load(int layer, int slot, int head, KvPart part, std::span<float> out) const;

 private:
  std::span<std::byte> block_of(int block);
  size_t offset_of(int layer, int slot, int head, KvPart part) const;

  size_t key_bytes_;
  size_t value_bytes_;
  size_t token_bytes_;  // of one layer
  size_t block_bytes_;
  std::vector<std::byte> bytes_;
};

ReferenceKvCache& as_reference(KvCache& cache);

}  // namespace ridge::backend::reference
