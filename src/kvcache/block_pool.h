#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/strong_id.h"

namespace ridge::kvcache {

// A block of the device's KvCache, from 0.
using BlockId = StrongId<struct BlockTag>;

// Which of a fixed number of blocks are in use, and by how many holders. Every call is O(1) and
// allocates no memory. Not thread-safe: the engine's thread owns it.
class BlockPool {
 public:
  // blocks: at least 1.
  explicit BlockPool(int blocks);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int blocks_total() const { return static_cast<int>(references_.size()); }
  int blocks_free() const { return static_cast<int>(free_.size()); }

  // A free block with one holder; nullopt when there is none.
  std::optional<BlockId> allocate();
  // One more holder of a block in use.
  void share(BlockId block);
  // One holder less; the last one frees the block.
  void release(BlockId block);
  // Holders of the block; 0 when it is free.
  int references(BlockId block) const;

  // Whether one of the holders of a block in use is a cache, which gives it up when asked to.
  void set_cached(BlockId block, bool is_cached);
  // Blocks that only a cache holds.
  int blocks_reclaimable() const { return blocks_reclaimable_; }
  // What an allocation can get, where the cache is asked first.
  int blocks_available() const { return blocks_free() + blocks_reclaimable_; }

 private:
  bool is_reclaimable(BlockId block) const;

  std::vector<int32_t> references_;  // by block
  std::vector<bool> is_cached_;      // by block
  int blocks_reclaimable_ = 0;
  // A stack: the block freed last is the one most likely still in the processor's caches.
  std::vector<BlockId> free_;
};

}  // namespace ridge::kvcache
