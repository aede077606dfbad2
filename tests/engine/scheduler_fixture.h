#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "engine/scheduler.h"

namespace ridge::engine {

// A scheduler with sequences to schedule, in place of a model.
class SchedulerFixture {
 public:
  SchedulerFixture(int blocks, const SchedulerLimits& limits,
                   kvcache::SpillStore* spill = nullptr)
      : limits(limits),
        pool(blocks),
        cache(pool, limits.block_tokens, spill),
        scheduler(pool, cache, limits) {}

  Sequence& make(std::vector<int32_t> tokens, SequenceOwner owner) {
    return sequences.emplace_back(SequenceId{next_id++}, std::move(owner), std::move(tokens),
                                  kvcache::BlockTable(pool, limits.block_tokens));
  }
  // Every prompt is another one.
  Sequence& make(int prompt_tokens, SequenceOwner owner = {}) {
    const auto token = static_cast<int32_t>(next_id);
    return make(std::vector<int32_t>(static_cast<size_t>(prompt_tokens), token), std::move(owner));
  }
  Sequence& add(int prompt_tokens, SequenceOwner owner = {}) {
    Sequence& sequence = make(prompt_tokens, std::move(owner));
    scheduler.add(sequence);
    return sequence;
  }
  // Plans a step, computes it, and gives each sequence that reached its end one more token.
  Batch step() {
    Batch batch = scheduler.schedule();
    scheduler.complete(batch);
    for (const Chunk& chunk : batch) {
      if (chunk.reaches_end) chunk.sequence->tokens.push_back(1);
    }
    return batch;
  }

  SchedulerLimits limits;
  kvcache::BlockPool pool;
  kvcache::PrefixCache cache;
  std::deque<Sequence> sequences;
  Scheduler scheduler;
  uint64_t next_id = 0;
};

}  // namespace ridge::engine
