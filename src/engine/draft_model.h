#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "engine/pace.h"
#include "engine/sequence.h"
#include "engine/step_runner.h"
#include "kvcache/block_pool.h"
#include "kvcache/block_table.h"

namespace ridge::engine {

// A small model of the same vocabulary that guesses how sequences of a larger one go on: its
// likeliest token, again and again. It keeps a cache of its own and computes only what is new since
// the last call.
class DraftModel {
 public:
  // The runner and the clock must outlive it. Its limits must allow as many sequences and as long a
  // context as the larger model's.
  DraftModel(StepRunner& runner, const Clock& clock);

  struct Job {
    SequenceId sequence;
    std::span<const int32_t> tokens;  // of the sequence so far
    int most = 0;                     // guesses wanted, at least 1
    std::vector<int32_t> draft;       // filled; empty while the sequence's prompt is still read
  };
  // Reads at most so many tokens of sequences that it is behind with, beside the new ones of those
  // that it follows. Throws what the runner throws; nothing is lost then but the guesses.
  void propose(std::span<Job> jobs, int read_tokens = std::numeric_limits<int>::max());
  // The sequence has ended.
  void forget(SequenceId sequence) { states_.erase(sequence); }

  // What one guess for each of the sequences takes that it guessed for last; 0 before the first.
  double guess_ms() const { return cost_.decode_ms(guessed_sequences_); }
  // What reading a token takes; 0 before the first.
  double token_ms() const { return cost_.prompt_token_ms(); }
  // Tokens of a sequence of so many that are to be read before its first guess; 0 where the
  // sequence is followed.
  int unread(SequenceId sequence, size_t tokens) const;

 private:
  struct State {
    kvcache::BlockTable blocks;
    std::vector<int32_t> computed;  // tokens whose keys and values are in the cache
  };

  void guess(std::span<Job> jobs, int read_tokens);
  State* prepare(const Job& job);
  std::vector<Job*> read_new_tokens(std::span<Job> jobs, int read_tokens);
  void guess_next(std::vector<Job*>& jobs);

  StepRunner& runner_;
  const Clock& clock_;
  kvcache::BlockPool pool_;
  StepInputs inputs_;
  std::unordered_map<SequenceId, State> states_;
  StepCost cost_;
  int guessed_sequences_ = 1;
};

}  // namespace ridge::engine
