#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "backend/kv_cache.h"

namespace ridge::engine {

struct KvRequest {
  int context_tokens = 0;      // of one sequence
  bool context_fixed = false;  // a user asked for just this context
  int max_sequences = 0;
  uint64_t cache_bytes = 0;  // 0: as much as full sequences need, within free memory
  // Of a draft model's cache, which has draft_blocks of them beside these; 0: there is none.
  uint64_t draft_block_bytes = 0;
};

struct KvPlan {
  int context_tokens = 0;  // of one sequence; lower than asked for where memory is short
  int blocks = 0;          // at least one full sequence's
  uint64_t bytes = 0;      // the draft model's among them
};

// Blocks of a draft model's cache beside `blocks` of the model's: half as many, since contexts are
// shared less often, but at least a full sequence's.
inline uint64_t draft_blocks(uint64_t blocks, uint64_t blocks_of_context) {
  return std::max(blocks_of_context, blocks / 2);
}

// How many blocks of `layout` (whose `blocks` is ignored) to keep. Without a size from the user:
// room for max_sequences full contexts, but at most half of the free memory, a draft model's cache
// included; and where not even one context fits there, a shorter one. A size from the user is the
// model's alone. Throws out_of_memory, saying what would fit.
KvPlan plan_kv_cache(const backend::KvCacheLayout& layout, const KvRequest& request,
                     uint64_t available_bytes);

}  // namespace ridge::engine
