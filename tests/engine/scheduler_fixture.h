#pragma once

#include <deque>
#include <vector>

#include "engine/scheduler.h"

namespace ridge::engine {

// A scheduler with sequences to schedule, in place of a model.
class SchedulerFixture {
 public:
  SchedulerFixture(int blocks, const SchedulerLimits& limits)
      : limits(limits), pool(blocks), scheduler(pool, limits) {}

  Sequence& make(int prompt_tokens, int priority = 0) {
    return sequences.emplace_back(SequenceId{next_id++}, priority,
                                  std::vector<int32_t>(static_cast<size_t>(prompt_tokens), 1),
                                  kvcache::BlockTable(pool, limits.block_tokens));
  }
  Sequence& add(int prompt_tokens, int priority = 0) {
    Sequence& sequence = make(prompt_tokens, priority);
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
  std::deque<Sequence> sequences;
  Scheduler scheduler;
  uint64_t next_id = 0;
};

}  // namespace ridge::engine
