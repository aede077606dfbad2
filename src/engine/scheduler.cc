#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::engine {

Scheduler::Scheduler(kvcache::BlockPool& pool, const SchedulerLimits& limits)
    : pool_(pool), limits_(limits) {
  // Else a step could have no room for every decoding sequence's row.
  RIDGE_ASSERT(limits.max_sequences >= 1 && limits.step_tokens >= limits.max_sequences);
}

void Scheduler::add(Sequence& sequence) {
  RIDGE_ASSERT(sequence.state == Sequence::State::idle && sequence.pending_tokens() >= 1);
  sequence.state = Sequence::State::waiting;
  waiting_.insert(&sequence);
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.state == Sequence::State::running) std::erase(running_, &sequence);
  if (sequence.state == Sequence::State::waiting) waiting_.erase(&sequence);
  sequence.blocks.clear();
  sequence.computed_tokens = 0;
  sequence.state = Sequence::State::idle;
}

Batch Scheduler::schedule() {
  Batch batch;
  int budget_tokens = limits_.step_tokens;
  const uint64_t preemptions_before = preemptions_total_;
  extend_running(batch, budget_tokens);
  // Whoever was preempted just now would only take the blocks back.
  if (preemptions_total_ == preemptions_before) admit(batch, budget_tokens);
  RIDGE_ASSERT(!batch.empty() || (running_.empty() && waiting_.empty()));
  return batch;
}

void Scheduler::extend_running(Batch& batch, int& budget_tokens) {
  // Preemption shortens the list from its end.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.pending_tokens() > 1) continue;
    if (!reserve(sequence, static_cast<int>(sequence.tokens.size()))) break;
    batch.push_back({&sequence, sequence.computed_tokens, 1, /*reaches_end=*/true});
    --budget_tokens;
  }
  for (Sequence* sequence : running_) {
    const int pending = sequence->pending_tokens();
    if (pending <= 1 || budget_tokens == 0) continue;
    const int count = std::min(pending, budget_tokens);
    batch.push_back({sequence, sequence->computed_tokens, count, count == pending});
    budget_tokens -= count;
  }
}

void Scheduler::admit(Batch& batch, int& budget_tokens) {
  while (budget_tokens > 0 && running() < limits_.max_sequences && !waiting_.empty()) {
    Sequence& sequence = **waiting_.begin();
    const int tokens = static_cast<int>(sequence.tokens.size());
    const int missing = kvcache::BlockTable::blocks_for(tokens, limits_.block_tokens) -
                        static_cast<int>(sequence.blocks.blocks().size());
    // One block for each running sequence stays free, or the newcomer would soon be preempted.
    if (missing + running() > pool_.blocks_free()) {
      if (!running_.empty()) return;
      // With nobody running, nobody will give blocks back but those who wait.
      const bool reclaimed = reclaim_from_waiting(&sequence);
      RIDGE_ASSERT(reclaimed);
      continue;
    }
    RIDGE_ASSERT(sequence.blocks.reserve(tokens));
    waiting_.erase(waiting_.begin());
    sequence.state = Sequence::State::running;
    running_.insert(std::ranges::upper_bound(running_, &sequence, RanksBefore{}), &sequence);
    const int pending = sequence.pending_tokens();
    const int count = std::min(pending, budget_tokens);
    batch.push_back({&sequence, sequence.computed_tokens, count, count == pending});
    budget_tokens -= count;
  }
}

bool Scheduler::reserve(Sequence& sequence, int tokens) {
  while (!sequence.blocks.reserve(tokens)) {
    if (reclaim_from_waiting(/*except=*/nullptr)) continue;
    const bool is_last = running_.back() == &sequence;
    // Alone, it must fit: the pool holds the longest sequence.
    RIDGE_ASSERT(!is_last || running_.size() > 1);
    preempt_last();
    if (is_last) return false;
  }
  return true;
}

bool Scheduler::reclaim_from_waiting(const Sequence* except) {
  for (auto it = waiting_.rbegin(); it != waiting_.rend(); ++it) {
    Sequence& sequence = **it;
    if (&sequence == except || sequence.blocks.blocks().empty()) continue;
    sequence.blocks.clear();
    sequence.computed_tokens = 0;
    return true;
  }
  return false;
}

void Scheduler::preempt_last() {
  Sequence& sequence = *running_.back();
  running_.pop_back();
  sequence.blocks.clear();
  sequence.computed_tokens = 0;
  sequence.state = Sequence::State::waiting;
  waiting_.insert(&sequence);
  ++preemptions_total_;
}

void Scheduler::complete(const Batch& batch) {
  for (const Chunk& chunk : batch) {
    RIDGE_ASSERT(chunk.sequence->computed_tokens == chunk.first);
    chunk.sequence->computed_tokens += chunk.count;
  }
}

}  // namespace ridge::engine
