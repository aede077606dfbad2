#pragma once

#include <memory>

#include "backend/ascend/acl/stream.h"
#include "backend/ascend/device/hardware.h"
#include "backend/kv_cache.h"
#include "backend/reference/kv_cache.h"

namespace ridge::backend::ascend {

// Keys and values, or rotary keys and latents, in blocks of device memory: [block][layer][keys, then
// values][token][head][dim] in 16 bits, as ridge_rope_store_kv_* and the attention kernels take them:
// behind the dims of a head are zeros up to a multiple of 16. What those cannot take (other types,
// larger heads) is on the host, and so are the ops on it.
class AscendKvCache : public KvCache {
 public:
  // Throws out_of_memory.
  AscendKvCache(std::shared_ptr<Hardware> hardware, const KvCacheLayout& layout);

  bool is_on_device() const { return memory_ != nullptr; }
  uint64_t size_bytes() const override;
  size_t block_bytes() const override;
  // These two wait for no stream: nothing may be queued that touches the block.
  void export_block(int block, std::span<std::byte> to) const override;
  void import_block(int block, std::span<const std::byte> from) override;

  reference::ReferenceKvCache& host() { return *host_; }

  // Where a layer's keys and values begin in the first block.
  uint64_t keys_address(int layer) const;
  uint64_t values_address(int layer) const;
  // In elements.
  uint32_t heads() const;      // 1 of latents
  uint32_t key_dim() const;    // of a head, with its zeros
  uint32_t value_dim() const;
  uint32_t key_row() const;    // of a token
  uint32_t value_row() const;
  uint32_t block_stride() const;
  void copy_block(acl::Stream& stream, int to, int from);

 private:
  acl::DeviceSpan block_of(int block) const;

  std::shared_ptr<Hardware> hardware_;
  std::unique_ptr<acl::DeviceMemory> memory_;
  std::unique_ptr<reference::ReferenceKvCache> host_;
};

AscendKvCache& as_ascend(KvCache& cache);

}  // namespace ridge::backend::ascend
