#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "engine/sequence.h"
#include "kvcache/block_pool.h"

namespace ridge::engine {

struct SchedulerLimits {
  int step_tokens = 512;   // tokens of one step, at least max_sequences
  int max_sequences = 16;  // running at once
  int block_tokens = 16;
};

// Tokens [first, first + count) of one sequence in a step.
struct Chunk {
  Sequence* sequence;
  int first;
  int count;
  bool reaches_end;  // its last row's logits give the sequence's next token
};

// The work of one step, decoding sequences before prompts.
using Batch = std::vector<Chunk>;

// Decides what each step computes, and who holds blocks. Pure logic: no model, clock or thread.
//
// Continuous batching: every decoding sequence gets its row in every step; the rest of the token
// budget goes to prompts in chunks, by rank (priority, then arrival). A sequence is admitted when
// all its tokens so far fit. When a decoding sequence finds no block, the lowest ranked one gives
// its blocks up and is computed again later.
class Scheduler {
 public:
  // The pool must outlive the scheduler, and hold the longest sequence alone.
  Scheduler(kvcache::BlockPool& pool, const SchedulerLimits& limits);

  // Puts an idle sequence in line. It must stay where it is until `remove`.
  void add(Sequence& sequence);
  // Takes it out, whatever its state, and frees its blocks. Not between `schedule` and `complete`.
  void remove(Sequence& sequence);

  // Plans the next step and reserves its blocks; empty only when nobody waits or runs.
  Batch schedule();
  // The batch was computed.
  void complete(const Batch& batch);

  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const { return static_cast<int>(waiting_.size()); }
  uint64_t preemptions_total() const { return preemptions_total_; }

 private:
  void extend_running(Batch& batch, int& budget_tokens);
  void admit(Batch& batch, int& budget_tokens);
  bool reserve(Sequence& sequence, int tokens);
  bool reclaim_from_waiting(const Sequence* except);
  void preempt_last();

  kvcache::BlockPool& pool_;
  const SchedulerLimits limits_;
  std::vector<Sequence*> running_;  // by rank
  std::set<Sequence*, RanksBefore> waiting_;
  uint64_t preemptions_total_ = 0;
};

}  // namespace ridge::engine
