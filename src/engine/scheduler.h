#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/sequence.h"
#include "engine/wait.h"
#include "kvcache/block_pool.h"
#include "kvcache/prefix_cache.h"

namespace ridge::engine {

struct SchedulerLimits {
  int step_tokens = 512;   // tokens of one step, at least max_sequences
  int max_sequences = 16;  // running at once
  int block_tokens = 16;
  int outputs = 0;          // rows of logits of one step, at least max_sequences; 0: so many
  int scoring_outputs = 0;  // of those, beyond max_sequences, that guesses leave to scored prompts
  bool shares_prefixes = true;  // through the prefix cache
};

// Tokens [first, first + count) of one sequence in a step, the last `drafts` of them guesses.
struct Chunk {
  Sequence* sequence;
  int first;
  int count;
  bool reaches_end;  // the logits of its last token that is no guess give the sequence's next token
  int drafts = 0;
  int outputs = 0;  // rows of logits, or of hidden states, of so many of its last tokens
  // Its last tokens without guesses that do not count as computed, so that a later step has them
  // again.
  int redone = 0;
};

// The work of one step, decoding sequences before prompts.
using Batch = std::vector<Chunk>;

// Decides what each step computes, and who holds blocks. Pure logic: no model, clock or thread.
//
// Continuous batching: every decoding sequence gets its row in every step; the rest of the token
// budget goes to prompts in chunks. A sequence is admitted when all its tokens so far fit, and
// holds what the prefix cache knows of them. When a decoding sequence finds no block, another gives
// its blocks up, which the cache keeps while it can.
//
// Turns go by priority, those of background_priority only while there are no others, then to the
// group that was served least: each token computed counts prompt_cost or decode_cost divided by the
// group's weight, and a group that comes back from idling starts level with the others (virtual
// token counters; Sheng et al., "Fairness in serving large language models", OSDI 2024). Within a
// group the earliest deadline, then the first to arrive. Where all places are taken, one that waits
// gets the place of a sequence of lower priority, or of a group that has more than its share of
// places while its own has less.
class Scheduler {
 public:
  static constexpr double prompt_cost = 1;
  static constexpr double decode_cost = 2;

  // The pool must hold the longest sequence alone. Pool and cache must outlive the scheduler.
  Scheduler(kvcache::BlockPool& pool, kvcache::PrefixCache& cache, const SchedulerLimits& limits);

  // Puts an idle sequence in line. It must stay where it is until `remove`.
  void add(Sequence& sequence);
  struct BlockCopy {
    kvcache::BlockId from, to;
  };
  // Puts an idle sequence in line that begins with all that `leader`, which runs, has computed, and
  // goes on otherwise. Where there is room, and nobody waits whose turn comes before, it runs at
  // once and shares the leader's full blocks; the caller copies the one that is returned, if any,
  // before the next step.
  std::optional<BlockCopy> fork(const Sequence& leader, Sequence& sibling);
  // Takes it out, whatever its state, and frees its blocks. Not between `schedule` and `complete`.
  void remove(Sequence& sequence);

  // Plans the next step and reserves its blocks; empty only when nobody waits or runs, but for
  // those that sit out. prompt_tokens: at most so many tokens of prompts beside those that decode,
  // at least 1; blocks that come back from where they were spilled to count with their tokens.
  Batch schedule(int prompt_tokens);
  Batch schedule() { return schedule(limits_.step_tokens); }
  // The batch was computed. Guesses do not count until they are accepted.
  void complete(const Batch& batch);
  // Where blocks hold what depends on tokens ahead, which is computed after `complete`: that was
  // done, and they may be remembered.
  void remember(const Batch& batch);
  // The sequence goes on with the first guess that was computed and not accepted yet.
  void accept_draft(Sequence& sequence, int32_t token);
  // What was accepted last is computed once more, in a later step.
  void redo_accepted(Sequence& sequence);

  // Room for so many tokens of a running sequence, at nobody's cost; false where there is none.
  bool reserve_ahead(Sequence& sequence, int tokens);

  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const { return waiting_; }
  // Why those that wait after `schedule` do.
  Wait why_waiting() const { return why_waiting_; }
  // Whether a sequence runs or waits that is not of background_priority: such have no part in a
  // step then, and keep their places and blocks until others want these.
  bool has_foreground() const;
  // Those of the running that decode in the next step.
  int decoding() const;
  // Whether prompts, of those that run or of one that may get a place, want a part of the next
  // step.
  bool has_prompts() const;
  uint64_t preemptions_total() const { return preemptions_total_; }
  // What a group was served, in tokens by cost and weight; 0 for one that is not known (any more).
  double service(const std::string& group) const;

 private:
  struct BeforeInGroup {
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  struct Group {
    double weight = 1;
    double service = 0;
    int running = 0;
    std::set<Sequence*, BeforeInGroup> waiting;
    bool is_active() const { return running > 0 || !waiting.empty(); }
  };

  bool ranks_before(const Sequence& a, const Sequence& b) const;
  bool keeps_blocks_before(const Sequence& a, const Sequence& b) const;
  Group& group_of(const Sequence& sequence) { return groups_.at(sequence.owner.group); }
  const Group& group_of(const Sequence& sequence) const { return groups_.at(sequence.owner.group); }
  double places_of(const Group& group) const;
  bool may_displace(const Sequence& newcomer, const Sequence& running) const;
  void make_places();
  Sequence& last_to_keep_blocks() const;
  void reserve_decoding();
  void add_decoding(Batch& batch, int& budget_tokens, int& budget_drafts);
  bool add_prompts(Batch& batch, int budget_tokens, int budget_outputs, bool admits);
  void add_prompt(Sequence& sequence, Batch& batch, int& budget_tokens, int& budget_outputs);
  Sequence* best_waiting() const;
  bool admit(Sequence& sequence, int& budget_tokens);
  bool takes_part(const Sequence& sequence) const;
  bool reserve_free(Sequence& sequence, int tokens);
  bool reserve(Sequence& sequence, int tokens);
  void start(Sequence& sequence);
  void preempt(Sequence& sequence);
  void enqueue(Sequence& sequence);
  bool takes_known_blocks(const Sequence& sequence) const;
  void extend(Sequence& sequence, int most_restores);
  bool take_known_blocks(Sequence& sequence, int& budget_tokens);
  void remember(Sequence& sequence);
  void forget_idle_groups();

  kvcache::BlockPool& pool_;
  kvcache::PrefixCache& cache_;
  const SchedulerLimits limits_;
  std::vector<Sequence*> running_;  // in the order of their admission
  std::map<std::string, Group> groups_;
  int waiting_ = 0;
  bool is_busy_ = false;   // has_foreground() of the step that is planned
  bool is_paced_ = false;  // others decode in it: prompts keep to their budget
  // Waits for blocks, not only for a place.
  const Sequence* short_of_blocks_ = nullptr;
  // The least service of an active group, as of the last step with one: never falls.
  double level_ = 0;
  uint64_t preemptions_total_ = 0;
  Wait why_waiting_ = Wait::turn;
};

}  // namespace ridge::engine
