#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <tuple>

#include "base/error.h"

namespace ridge::engine {

namespace {

SchedulerLimits with_outputs(SchedulerLimits limits) {
  if (limits.outputs == 0) limits.outputs = limits.max_sequences + limits.scoring_outputs;
  return limits;
}

Clock::TimePoint deadline_of(const Sequence& sequence) {
  return sequence.owner.deadline.value_or(Clock::TimePoint::max());
}

}  // namespace

Scheduler::Scheduler(kvcache::BlockPool& pool, kvcache::PrefixCache& cache,
                     const SchedulerLimits& limits)
    : pool_(pool), cache_(cache), limits_(with_outputs(limits)) {
  // Else a step could have no room for every decoding sequence's row.
  RIDGE_ASSERT(limits_.max_sequences >= 1 && limits_.step_tokens >= limits_.max_sequences);
  RIDGE_ASSERT(limits_.scoring_outputs >= 0 &&
               limits_.outputs >= limits_.max_sequences + limits_.scoring_outputs);
}

bool Scheduler::BeforeInGroup::operator()(const Sequence* a, const Sequence* b) const {
  if (a->owner.priority != b->owner.priority) return a->owner.priority > b->owner.priority;
  return std::tuple(deadline_of(*a), a->id) < std::tuple(deadline_of(*b), b->id);
}

// Whose turn comes first.
bool Scheduler::ranks_before(const Sequence& a, const Sequence& b) const {
  if (a.owner.priority != b.owner.priority) return a.owner.priority > b.owner.priority;
  const Group& group_a = group_of(a);
  const Group& group_b = group_of(b);
  if (group_a.service != group_b.service) return group_a.service < group_b.service;
  // A group that has just come back is level with the others; it runs less.
  if (&group_a != &group_b && group_a.running != group_b.running) {
    return group_a.running < group_b.running;
  }
  return BeforeInGroup{}(&a, &b);
}

// Who is preempted later, where blocks run out.
bool Scheduler::keeps_blocks_before(const Sequence& a, const Sequence& b) const {
  if (a.owner.priority != b.owner.priority) return a.owner.priority > b.owner.priority;
  const Group& group_a = group_of(a);
  const Group& group_b = group_of(b);
  const double load_a = group_a.running / group_a.weight;
  const double load_b = group_b.running / group_b.weight;
  if (&group_a != &group_b && load_a != load_b) return load_a < load_b;
  return a.id < b.id;
}

void Scheduler::add(Sequence& sequence) {
  RIDGE_ASSERT(sequence.state == Sequence::State::idle && sequence.pending_tokens() >= 1);
  Group& group = groups_[sequence.owner.group];
  // A group cannot save up for later what it did not use.
  if (!group.is_active()) group.service = std::max(group.service, level_);
  group.weight = sequence.owner.weight;
  enqueue(sequence);
}

void Scheduler::enqueue(Sequence& sequence) {
  group_of(sequence).waiting.insert(&sequence);
  sequence.state = Sequence::State::waiting;
  ++waiting_;
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.state == Sequence::State::running) {
    remember(sequence);
    std::erase(running_, &sequence);
    --group_of(sequence).running;
  }
  if (sequence.state == Sequence::State::waiting) {
    group_of(sequence).waiting.erase(&sequence);
    --waiting_;
  }
  if (short_of_blocks_ == &sequence) short_of_blocks_ = nullptr;
  sequence.release_blocks();
  sequence.state = Sequence::State::idle;
  forget_idle_groups();
}

bool Scheduler::has_foreground() const {
  const auto is_foreground = [](const Sequence* sequence) {
    return !sequence->owner.is_background();
  };
  return std::ranges::any_of(running_, is_foreground) ||
         std::ranges::any_of(groups_, [&](const auto& entry) {
           const auto& waiting = entry.second.waiting;  // by priority
           return !waiting.empty() && is_foreground(*waiting.begin());
         });
}

bool Scheduler::takes_part(const Sequence& sequence) const {
  return !sequence.sits_out && (!is_busy_ || !sequence.owner.is_background());
}

int Scheduler::decoding() const {
  const bool is_busy = has_foreground();
  return static_cast<int>(std::ranges::count_if(running_, [&](const Sequence* sequence) {
    return sequence->pending_tokens() == 1 && !sequence->sits_out &&
           !(is_busy && sequence->owner.is_background());
  }));
}

bool Scheduler::has_prompts() const {
  const bool is_busy = has_foreground();
  const auto wants_part = [&](const Sequence& sequence) {
    return !sequence.sits_out && !(is_busy && sequence.owner.is_background());
  };
  const Sequence* newcomer = running() < limits_.max_sequences ? best_waiting() : nullptr;
  if (newcomer != nullptr && wants_part(*newcomer)) return true;
  return std::ranges::any_of(running_, [&](const Sequence* sequence) {
    return sequence->pending_tokens() > 1 && wants_part(*sequence);
  });
}

double Scheduler::service(const std::string& group) const {
  const auto found = groups_.find(group);
  return found == groups_.end() ? 0 : found->second.service;
}

Batch Scheduler::schedule(int prompt_tokens) {
  RIDGE_ASSERT(prompt_tokens >= 1);
  Batch batch;
  is_busy_ = has_foreground();
  const uint64_t preemptions_before = preemptions_total_;
  make_places();
  const uint64_t displaced = preemptions_total_ - preemptions_before;
  reserve_decoding();
  int budget_tokens = limits_.step_tokens;
  // Every sequence that runs may come to the end of its prompt.
  int budget_drafts = limits_.outputs - limits_.max_sequences - limits_.scoring_outputs;
  add_decoding(batch, budget_tokens, budget_drafts);
  const int budget_outputs = budget_drafts + limits_.scoring_outputs;
  is_paced_ = !batch.empty();
  if (is_paced_) budget_tokens = std::min(budget_tokens, prompt_tokens);
  // Whoever lost its blocks just now would only take them back.
  const bool admits = preemptions_total_ - preemptions_before == displaced;
  bool has_blocks = add_prompts(batch, budget_tokens, budget_outputs, admits);
  // Those that have no part in the step may have all the blocks, or all the places. Who sits out is
  // about to go on.
  const auto sits_out = [](const Sequence* sequence) { return sequence->sits_out; };
  const bool any_sits_out = std::ranges::any_of(running_, sits_out);
  while (batch.empty() && is_busy_ && !any_sits_out && !running_.empty()) {
    preempt(last_to_keep_blocks());
    has_blocks = add_prompts(batch, budget_tokens, budget_outputs, /*admits=*/true);
  }
  why_waiting_ = running() >= limits_.max_sequences ? Wait::place
                 : !has_blocks                      ? Wait::blocks
                                                    : Wait::turn;
  RIDGE_ASSERT(!batch.empty() || any_sits_out || (running_.empty() && waiting_ == 0));
  // Not when it got its place: blocks may come back in several steps.
  for (const Chunk& chunk : batch) {
    if (chunk.sequence->cached_tokens < 0) chunk.sequence->cached_tokens = chunk.first;
  }
  return batch;
}

// The places that a group may take where all are wanted.
double Scheduler::places_of(const Group& group) const {
  double weights = 0;
  for (const auto& [name, each] : groups_) weights += each.is_active() ? each.weight : 0;
  return limits_.max_sequences * group.weight / weights;
}

bool Scheduler::may_displace(const Sequence& newcomer, const Sequence& running) const {
  if (running.owner.priority != newcomer.owner.priority) {
    return running.owner.priority < newcomer.owner.priority;
  }
  const Group& hers = group_of(newcomer);
  const Group& his = group_of(running);
  // With whole places on both sides, nobody is displaced back in the next step.
  return &hers != &his && ranks_before(newcomer, running) &&
         hers.running < std::max(1.0, std::floor(places_of(hers))) &&
         his.running > std::ceil(places_of(his));
}

// At most one sequence a step loses its place.
void Scheduler::make_places() {
  const Sequence* newcomer = best_waiting();
  if (newcomer == nullptr || running_.empty()) return;
  const bool is_full = running() >= limits_.max_sequences;
  if (!is_full && newcomer != short_of_blocks_) return;
  Sequence& last = last_to_keep_blocks();
  if (may_displace(*newcomer, last)) preempt(last);
}

Sequence& Scheduler::last_to_keep_blocks() const {
  return **std::ranges::max_element(
      running_, [&](const Sequence* a, const Sequence* b) { return keeps_blocks_before(*a, *b); });
}

void Scheduler::reserve_decoding() {
  // Those that came first keep their blocks; who is preempted meanwhile is skipped.
  const std::vector<Sequence*> sequences = running_;
  for (Sequence* sequence : sequences) {
    if (sequence->state != Sequence::State::running || sequence->pending_tokens() > 1 ||
        !takes_part(*sequence)) {
      continue;
    }
    reserve(*sequence, static_cast<int>(sequence->tokens.size()));
  }
}

void Scheduler::add_decoding(Batch& batch, int& budget_tokens, int& budget_drafts) {
  for (Sequence* sequence : running_) {
    if (sequence->pending_tokens() > 1 || !takes_part(*sequence)) continue;
    batch.push_back({sequence, sequence->computed_tokens, 1, /*reaches_end=*/true,
                     /*drafts=*/0, /*outputs=*/1});
    --budget_tokens;
  }
  for (Chunk& chunk : batch) {
    std::vector<int32_t>& draft = chunk.sequence->draft;
    int drafts = std::min({static_cast<int>(draft.size()), budget_tokens, budget_drafts});
    const int tokens = static_cast<int>(chunk.sequence->tokens.size());
    // Guesses are worth no other sequence's blocks.
    if (!reserve_free(*chunk.sequence, tokens + drafts)) {
      drafts = chunk.sequence->blocks.capacity_tokens() - tokens;
    }
    draft.resize(static_cast<size_t>(drafts));
    chunk.drafts = drafts;
    chunk.count += drafts;
    chunk.outputs += drafts;
    budget_tokens -= drafts;
    budget_drafts -= drafts;
  }
}

// Prompts that run and those that wait take turns by rank, so that a group whose turn it is need
// not wait for others' long prompts. False where blocks run short for those that wait.
bool Scheduler::add_prompts(Batch& batch, int budget_tokens, int budget_outputs, bool admits) {
  std::vector<Sequence*> prompts;
  for (Sequence* sequence : running_) {
    if (sequence->pending_tokens() > 1 && takes_part(*sequence)) prompts.push_back(sequence);
  }
  while (budget_tokens > 0) {
    const auto next = std::ranges::min_element(
        prompts, [&](const Sequence* a, const Sequence* b) { return ranks_before(*a, *b); });
    Sequence* newcomer = admits && running() < limits_.max_sequences ? best_waiting() : nullptr;
    if (newcomer != nullptr && !takes_part(*newcomer)) newcomer = nullptr;
    if (next != prompts.end() && (newcomer == nullptr || ranks_before(**next, *newcomer))) {
      Sequence* sequence = *next;
      prompts.erase(next);
      add_prompt(*sequence, batch, budget_tokens, budget_outputs);
    } else if (newcomer != nullptr) {
      admits = admit(*newcomer, budget_tokens);
      if (admits) add_prompt(*newcomer, batch, budget_tokens, budget_outputs);
    } else {
      break;
    }
  }
  return admits;
}

bool Scheduler::takes_known_blocks(const Sequence& sequence) const {
  return !sequence.wants_all_outputs && limits_.shares_prefixes;
}

void Scheduler::extend(Sequence& sequence, int most_restores) {
  sequence.computed_tokens =
      cache_.extend(sequence.owner.cache_root, sequence.tokens, sequence.computed_tokens,
                    sequence.blocks, sequence.place, most_restores);
}

// Another may have computed the same, also since this one runs. False where more comes back from
// where it was spilled to than the step has time for.
bool Scheduler::take_known_blocks(Sequence& sequence, int& budget_tokens) {
  if (!takes_known_blocks(sequence)) return true;
  const int most_restores =
      is_paced_ ? std::max(0, budget_tokens + limits_.block_tokens - 1) / limits_.block_tokens
                : std::numeric_limits<int>::max();
  const uint64_t restores_before = cache_.restores_total();
  extend(sequence, most_restores);
  const int restored = static_cast<int>(cache_.restores_total() - restores_before);
  sequence.restored_blocks += restored;
  if (!is_paced_) return true;
  budget_tokens -= restored * limits_.block_tokens;
  return restored < most_restores ||
         !cache_.has_more_saved(sequence.owner.cache_root, sequence.tokens, sequence.place);
}

void Scheduler::add_prompt(Sequence& sequence, Batch& batch, int& budget_tokens,
                           int& budget_outputs) {
  if (!take_known_blocks(sequence, budget_tokens) || budget_tokens <= 0) return;
  const int pending = sequence.pending_tokens();
  int count = std::min(pending, budget_tokens);
  const bool wants_all_logits = sequence.wants_all_outputs && !sequence.outputs_hidden;
  if (wants_all_logits) count = std::min(count, budget_outputs + 1);
  const bool reaches_end = count == pending;
  const int outputs = sequence.wants_all_outputs ? count : reaches_end ? 1 : 0;
  batch.push_back({&sequence, sequence.computed_tokens, count, reaches_end, /*drafts=*/0, outputs});
  budget_tokens -= count;
  if (wants_all_logits) budget_outputs -= count - 1;
}

Sequence* Scheduler::best_waiting() const {
  Sequence* best = nullptr;
  for (const auto& [name, group] : groups_) {
    if (group.waiting.empty()) continue;
    Sequence* first = *group.waiting.begin();
    if (best == nullptr || ranks_before(*first, *best)) best = first;
  }
  return best;
}

bool Scheduler::admit(Sequence& sequence, int& budget_tokens) {
  const int tokens = static_cast<int>(sequence.tokens.size());
  // Only what is on the device, until there is room: each block that comes back takes one that is
  // free, and is one less that is missing.
  if (takes_known_blocks(sequence)) extend(sequence, /*most_restores=*/0);
  const int missing = kvcache::BlockTable::blocks_for(tokens, limits_.block_tokens) -
                      static_cast<int>(sequence.blocks.blocks().size());
  // One block for each running sequence stays free, or the newcomer would soon be preempted.
  if (missing + running() > pool_.blocks_available()) {
    // Alone, it must fit: the pool holds the longest sequence.
    RIDGE_ASSERT(!running_.empty());
    sequence.release_blocks();
    short_of_blocks_ = &sequence;
    return false;
  }
  take_known_blocks(sequence, budget_tokens);
  RIDGE_ASSERT(reserve_free(sequence, tokens));
  group_of(sequence).waiting.erase(&sequence);
  --waiting_;
  start(sequence);
  return true;
}

void Scheduler::start(Sequence& sequence) {
  running_.push_back(&sequence);
  ++group_of(sequence).running;
  sequence.state = Sequence::State::running;
  if (short_of_blocks_ == &sequence) short_of_blocks_ = nullptr;
}

std::optional<Scheduler::BlockCopy> Scheduler::fork(const Sequence& leader, Sequence& sibling) {
  RIDGE_ASSERT(leader.state == Sequence::State::running);
  RIDGE_ASSERT(sibling.state == Sequence::State::idle && sibling.blocks.blocks().empty());
  const int tokens = static_cast<int>(sibling.tokens.size());
  const int shared_tokens = leader.computed_tokens - cache_.tokens_ahead();
  const int full_blocks = shared_tokens / limits_.block_tokens;
  const bool has_tail = leader.computed_tokens > full_blocks * limits_.block_tokens;
  const int missing = kvcache::BlockTable::blocks_for(tokens, limits_.block_tokens) - full_blocks;
  const Sequence* first = best_waiting();
  const bool is_its_turn = first == nullptr || !ranks_before(*first, sibling);
  if (!is_its_turn || running() >= limits_.max_sequences ||
      missing + running() > pool_.blocks_available()) {
    add(sibling);
    return std::nullopt;
  }
  sibling.blocks.share_prefix(leader.blocks, full_blocks);
  RIDGE_ASSERT(reserve_free(sibling, tokens));
  sibling.computed_tokens = leader.computed_tokens;
  start(sibling);
  if (!has_tail) return std::nullopt;
  const auto tail = static_cast<size_t>(full_blocks);
  return BlockCopy{leader.blocks.blocks()[tail], sibling.blocks.blocks()[tail]};
}

// From free blocks and those that only the prefix cache holds.
bool Scheduler::reserve_free(Sequence& sequence, int tokens) {
  const int missing = kvcache::BlockTable::blocks_for(tokens, limits_.block_tokens) -
                      static_cast<int>(sequence.blocks.blocks().size());
  if (missing > pool_.blocks_available()) return false;
  if (missing > pool_.blocks_free()) cache_.reclaim(missing - pool_.blocks_free());
  return sequence.blocks.reserve(tokens);
}

// One block for each running sequence stays free, or one would lose its own for a guess.
bool Scheduler::reserve_ahead(Sequence& sequence, int tokens) {
  if (tokens <= sequence.blocks.capacity_tokens()) return true;
  const int missing = kvcache::BlockTable::blocks_for(tokens, limits_.block_tokens) -
                      static_cast<int>(sequence.blocks.blocks().size());
  return missing + running() <= pool_.blocks_available() && reserve_free(sequence, tokens);
}

// Others lose their blocks where it must be, or the sequence itself its place: then false.
bool Scheduler::reserve(Sequence& sequence, int tokens) {
  while (!reserve_free(sequence, tokens)) {
    // Alone, it must fit: the pool holds the longest sequence.
    RIDGE_ASSERT(running_.size() > 1);
    Sequence& last = last_to_keep_blocks();
    preempt(last);
    if (&last == &sequence) return false;
  }
  return true;
}

void Scheduler::preempt(Sequence& sequence) {
  remember(sequence);
  std::erase(running_, &sequence);
  --group_of(sequence).running;
  sequence.release_blocks();
  sequence.draft.clear();
  enqueue(sequence);
  ++preemptions_total_;
}

void Scheduler::complete(const Batch& batch) {
  for (const Chunk& chunk : batch) {
    Sequence& sequence = *chunk.sequence;
    RIDGE_ASSERT(sequence.computed_tokens == chunk.first);
    const int computed = chunk.count - chunk.drafts - chunk.redone;
    const bool is_decoding = chunk.reaches_end && chunk.count - chunk.drafts == 1;
    sequence.computed_tokens += computed;
    Group& group = group_of(sequence);
    // Of guesses those count that are accepted: a wrong one is the server's risk.
    group.service += computed * (is_decoding ? decode_cost : prompt_cost) / group.weight;
    if (cache_.tokens_ahead() == 0) remember(sequence);
  }
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [name, group] : groups_) {
    if (group.is_active()) least = std::min(least, group.service);
  }
  if (std::isfinite(least)) level_ = std::max(level_, least);
  forget_idle_groups();
}

void Scheduler::remember(const Batch& batch) {
  for (const Chunk& chunk : batch) {
    if (chunk.sequence->state == Sequence::State::running) remember(*chunk.sequence);
  }
}

void Scheduler::accept_draft(Sequence& sequence, int32_t token) {
  sequence.tokens.push_back(token);
  ++sequence.computed_tokens;
  Group& group = group_of(sequence);
  group.service += decode_cost / group.weight;
}

void Scheduler::redo_accepted(Sequence& sequence) {
  --sequence.computed_tokens;
  Group& group = group_of(sequence);
  group.service -= decode_cost / group.weight;
}

void Scheduler::remember(Sequence& sequence) {
  if (!limits_.shares_prefixes || !sequence.is_shareable) return;
  try {
    cache_.insert(sequence.owner.cache_root, sequence.tokens, sequence.computed_tokens,
                  sequence.blocks, sequence.place);
  } catch (const std::bad_alloc&) {
    // What is not remembered is computed again.
  }
}

// Whoever has been served more than the others would be, if it came back now, is kept in mind.
void Scheduler::forget_idle_groups() {
  std::erase_if(groups_, [&](const auto& entry) {
    return !entry.second.is_active() && entry.second.service <= level_;
  });
}

}  // namespace ridge::engine
