#pragma once

#include <cstdint>
#include <string>

#include "backend/kv_cache.h"

namespace ridge::engine {

// Bytes that this process may still take without swapping: the least of the system's MemAvailable
// and what its cgroup (v1 or v2) and those above it have left. Throws io where /proc cannot be
// read. Files are looked for below `root`, for tests: root/proc/meminfo, root/sys/fs/cgroup/…
uint64_t available_memory_bytes(const std::string& root = "");

// Bytes that it may have at most: the machine's, or the least limit of its cgroups. Throws as well.
uint64_t total_memory_bytes(const std::string& root = "");

struct KvRequest {
  int context_tokens = 0;      // of one sequence
  bool context_fixed = false;  // a user asked for just this context
  int max_sequences = 0;
  uint64_t cache_bytes = 0;  // 0: as much as full sequences need, within free memory
};

struct KvPlan {
  int context_tokens = 0;  // of one sequence; lower than asked for where memory is short
  int blocks = 0;          // at least one full sequence's
  uint64_t bytes = 0;
};

// How many blocks of `layout` (whose `blocks` is ignored) to keep. Without a size from the user:
// room for max_sequences full contexts, but at most half of the free memory; and where not even one
// context fits there, a shorter one. Throws out_of_memory, saying what would fit.
KvPlan plan_kv_cache(const backend::KvCacheLayout& layout, const KvRequest& request,
                     uint64_t available_bytes);

}  // namespace ridge::engine
