#include "kvcache/block_pool.h"

#include "base/error.h"

namespace ridge::kvcache {

BlockPool::BlockPool(int blocks) {
  RIDGE_ASSERT(blocks >= 1);
  references_.assign(static_cast<size_t>(blocks), 0);
  is_cached_.assign(static_cast<size_t>(blocks), false);
  free_.reserve(references_.size());
  for (int block = blocks - 1; block >= 0; --block) free_.push_back(BlockId{block});
}

std::optional<BlockId> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const BlockId block = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(block.value)] = 1;
  return block;
}

void BlockPool::share(BlockId block) {
  RIDGE_ASSERT(references(block) > 0);
  blocks_reclaimable_ -= is_reclaimable(block);
  ++references_[static_cast<size_t>(block.value)];
}

void BlockPool::release(BlockId block) {
  RIDGE_ASSERT(references(block) > 0);
  blocks_reclaimable_ -= is_reclaimable(block);
  if (--references_[static_cast<size_t>(block.value)] == 0) {
    is_cached_[static_cast<size_t>(block.value)] = false;
    free_.push_back(block);
  }
  blocks_reclaimable_ += is_reclaimable(block);
}

void BlockPool::set_cached(BlockId block, bool is_cached) {
  RIDGE_ASSERT(references(block) > 0);
  blocks_reclaimable_ -= is_reclaimable(block);
  is_cached_[static_cast<size_t>(block.value)] = is_cached;
  blocks_reclaimable_ += is_reclaimable(block);
}

bool BlockPool::is_reclaimable(BlockId block) const {
  const auto index = static_cast<size_t>(block.value);
  return is_cached_[index] && references_[index] == 1;
}

int BlockPool::references(BlockId block) const {
  RIDGE_ASSERT(block.value >= 0 && block.value < blocks_total());
  return references_[static_cast<size_t>(block.value)];
}

}  // namespace ridge::kvcache
