#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvcache/block_pool.h"

namespace ridge::kvcache {

// The blocks of one sequence in token order. It counts as one holder of each of its blocks and
// releases them when it is cleared or destroyed.
class BlockTable {
 public:
  // block_tokens: tokens a block, at least 1. The pool must outlive the table.
  BlockTable(BlockPool& pool, int block_tokens);
  ~BlockTable() { clear(); }
  BlockTable(BlockTable&& other) noexcept;
  BlockTable& operator=(BlockTable&&) = delete;

  static int blocks_for(int tokens, int block_tokens) {
    return (tokens + block_tokens - 1) / block_tokens;
  }

  // Grows until `tokens` tokens have a slot. All or nothing: false, and unchanged, when the pool
  // has too few free blocks.
  bool reserve(int tokens);
  // Becomes a further holder of the first `blocks` blocks of `other`, which must be full and are
  // never written again. This table must be empty, on the same pool.
  void share_prefix(const BlockTable& other, int blocks);
  // Becomes a holder of one more block at the end, which is full and never written again.
  void append_shared(BlockId block);
  // Holds `block` in place of the one at `index`, which has the same content.
  void replace(int index, BlockId block);
  // Releases all blocks.
  void clear();

  std::span<const BlockId> blocks() const { return blocks_; }
  int capacity_tokens() const { return static_cast<int>(blocks_.size()) * block_tokens_; }
  // Where the token at `position` is stored: block · block_tokens + offset. It must be reserved.
  int32_t slot(int position) const;

 private:
  BlockPool& pool_;
  const int block_tokens_;
  std::vector<BlockId> blocks_;
};

}  // namespace ridge::kvcache
