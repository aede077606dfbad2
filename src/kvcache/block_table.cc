#include "kvcache/block_table.h"

#include <utility>

#include "base/error.h"

namespace ridge::kvcache {

BlockTable::BlockTable(BlockPool& pool, int block_tokens)
    : pool_(pool), block_tokens_(block_tokens) {
  RIDGE_ASSERT(block_tokens >= 1);
}

BlockTable::BlockTable(BlockTable&& other) noexcept
    : pool_(other.pool_),
      block_tokens_(other.block_tokens_),
      blocks_(std::exchange(other.blocks_, {})) {}

bool BlockTable::reserve(int tokens) {
  const int missing = blocks_for(tokens, block_tokens_) - static_cast<int>(blocks_.size());
  if (missing <= 0) return true;
  if (missing > pool_.blocks_free()) return false;
  for (int i = 0; i < missing; ++i) blocks_.push_back(*pool_.allocate());
  return true;
}

void BlockTable::share_prefix(const BlockTable& other, int blocks) {
  RIDGE_ASSERT(blocks_.empty() && &pool_ == &other.pool_);
  RIDGE_ASSERT(blocks >= 0 && blocks <= static_cast<int>(other.blocks_.size()));
  blocks_.assign(other.blocks_.begin(), other.blocks_.begin() + blocks);
  for (BlockId block : blocks_) pool_.share(block);
}

void BlockTable::append_shared(BlockId block) {
  blocks_.push_back(block);
  pool_.share(block);
}

void BlockTable::replace(int index, BlockId block) {
  BlockId& place = blocks_.at(static_cast<size_t>(index));
  pool_.share(block);
  pool_.release(std::exchange(place, block));
}

void BlockTable::clear() {
  // Last block first, so that the next sequence gets them in ascending order.
  while (!blocks_.empty()) {
    pool_.release(blocks_.back());
    blocks_.pop_back();
  }
}

int32_t BlockTable::slot(int position) const {
  RIDGE_ASSERT(position >= 0 && position < capacity_tokens());
  return blocks_[static_cast<size_t>(position / block_tokens_)].value * block_tokens_ +
         position % block_tokens_;
}

}  // namespace ridge::kvcache
