#include "engine/memory_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "kvcache/block_table.h"
#include "tensor/dtype.h"

namespace ridge::engine {

namespace {

constexpr int least_context_tokens = 512;  // less is of no use to a chat

std::string megabytes(uint64_t bytes) {
  return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6);
}

}  // namespace

KvPlan plan_kv_cache(const backend::KvCacheLayout& layout, const KvRequest& request,
                     uint64_t available_bytes) {
  const uint64_t block_bytes =
      layout.bytes_per_token() * static_cast<uint64_t>(layout.block_tokens);
  const auto blocks_of = [&](int tokens) {
    return static_cast<uint64_t>(kvcache::BlockTable::blocks_for(tokens, layout.block_tokens));
  };
  // Half: the rest is for activations, other processes and the page cache of the model's file.
  const uint64_t budget_bytes = request.cache_bytes > 0 ? request.cache_bytes : available_bytes / 2;
  const uint64_t draft_block_bytes = request.cache_bytes > 0 ? 0 : request.draft_block_bytes;
  const uint64_t most_blocks =
      static_cast<uint64_t>(std::numeric_limits<int32_t>::max() / layout.block_tokens);
  // Of a single sequence, whose draft has as many.
  const uint64_t context_block_bytes = block_bytes + draft_block_bytes;
  const uint64_t budget_blocks = std::min(budget_bytes / context_block_bytes, most_blocks);
  const auto refuse = [&](int tokens) {
    throw Error(
        ErrorCode::out_of_memory,
        fmt::format("the KV cache for a context of {} tokens takes {}, but {}; a context of {} "
                    "tokens would fit",
                    tokens, megabytes(blocks_of(tokens) * context_block_bytes),
                    request.cache_bytes > 0
                        ? fmt::format("its size was set to {}", megabytes(budget_bytes))
                        : fmt::format("only half of the {} of free memory is for it",
                                      megabytes(available_bytes)),
                    budget_blocks * static_cast<uint64_t>(layout.block_tokens)));
  };
  const auto draft_bytes = [&](uint64_t blocks, int context_tokens) {
    return request.draft_block_bytes * draft_blocks(blocks, blocks_of(context_tokens));
  };
  if (request.cache_bytes > available_bytes) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("the KV cache was set to {}, but only {} of memory are free",
                            megabytes(request.cache_bytes), megabytes(available_bytes)));
  }
  KvPlan plan{.context_tokens = request.context_tokens};
  if (blocks_of(request.context_tokens) > budget_blocks) {
    const int least = std::min(least_context_tokens, request.context_tokens);
    if (request.context_fixed) refuse(request.context_tokens);
    if (blocks_of(least) > budget_blocks) refuse(least);
    plan.context_tokens = static_cast<int>(budget_blocks) * layout.block_tokens;
    log::warning("memory is short: the context is {} tokens instead of {}", plan.context_tokens,
                 request.context_tokens);
  }
  const uint64_t context_blocks = blocks_of(plan.context_tokens);
  const uint64_t wanted_blocks =
      request.cache_bytes > 0 ? budget_blocks
                              : context_blocks * static_cast<uint64_t>(request.max_sequences);
  // While a full sequence's is more than half, the draft's cache does not grow with the model's.
  uint64_t room_blocks = (budget_bytes - context_blocks * draft_block_bytes) / block_bytes;
  if (draft_blocks(room_blocks, context_blocks) > context_blocks) {
    room_blocks =
        std::max(2 * context_blocks, 2 * budget_bytes / (2 * block_bytes + draft_block_bytes));
  }
  const uint64_t blocks = std::min({wanted_blocks, room_blocks, most_blocks});
  plan.blocks = static_cast<int>(blocks);
  plan.bytes = blocks * block_bytes + draft_bytes(blocks, plan.context_tokens);
  if (request.cache_bytes > 0 && plan.bytes > available_bytes) {
    throw Error(
        ErrorCode::out_of_memory,
        fmt::format("the KV cache was set to {}, with which the draft model's takes {}, but "
                    "only {} of memory are free",
                    megabytes(request.cache_bytes), megabytes(plan.bytes - blocks * block_bytes),
                    megabytes(available_bytes)));
  }
  return plan;
}

}  // namespace ridge::engine
