#include "kvcache/block_pool.h"

#include "base/error.h"

namespace ridge::kvcache {

BlockPool::BlockPool(int blocks) {
  RIDGE_ASSERT(blocks >= 1);
  references_.assign(static_cast<size_t>(blocks), 0);
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
  ++references_[static_cast<size_t>(block.value)];
}

void BlockPool::release(BlockId block) {
  RIDGE_ASSERT(references(block) > 0);
  if (--references_[static_cast<size_t>(block.value)] == 0) free_.push_back(block);
}

int BlockPool::references(BlockId block) const {
  RIDGE_ASSERT(block.value >= 0 && block.value < blocks_total());
  return references_[static_cast<size_t>(block.value)];
}

}  // namespace ridge::kvcache
