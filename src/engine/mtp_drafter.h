#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "engine/pace.h"
#include "engine/sequence.h"
#include "engine/step_runner.h"
#include "kvcache/block_table.h"

namespace ridge::engine {

// Guesses by the model's own layer for multi-token prediction. Its keys and values lie in the
// sequences' blocks, behind those of the model's layers. The entry of position i is made of the
// model's hidden state there and of token i + 1 (docs/adr/0042), so the layer follows the model
// after each step, as soon as the tokens are picked.
class MtpDrafter {
 public:
  // The runner, which must guess, and the clock must outlive it.
  MtpDrafter(StepRunner& runner, const Clock& clock);

  // Positions of a sequence that the runner's last run computed, and whose next tokens are known.
  struct Part {
    SequenceId sequence;
    const kvcache::BlockTable* blocks = nullptr;
    int first_position = 0;
    std::span<const int32_t> following;  // the token behind each position; of one at least
    int first_row = 0;                   // of the run's hidden states
  };
  // Computes the layer's entries of all parts, each of another sequence and no longer than a step.
  // Throws what the runner throws; then there are no guesses for the sequences.
  void follow(std::span<const Part> parts);

  struct Job {
    SequenceId sequence;
    const kvcache::BlockTable* blocks = nullptr;  // which has a place for each guess but the last
    int tokens = 0;                               // of the sequence
    int most = 0;                                 // guesses wanted, at least 1
    std::vector<int32_t> draft;                   // filled
  };
  // The likeliest token after the sequence, and the likeliest after that: the layer is applied
  // again to what it gave. The sequences must be followed. Throws what the runner throws.
  void propose(std::span<Job> jobs);

  // Whether all positions before the last of so many tokens were followed.
  bool follows(SequenceId sequence, int tokens) const;
  // The sequence has ended.
  void forget(SequenceId sequence) { states_.erase(sequence); }

  // What one guess for each of the sequences takes that it guessed for last; 0 before the first.
  double guess_ms() const { return cost_.decode_ms(guessed_sequences_); }

 private:
  struct State {
    std::vector<float> hidden;  // what the layer gave last
    int tokens = 0;             // of the sequence, the last of which it was given
  };

  void run(std::span<const Part> parts, std::span<const float> hidden);
  std::vector<Job*> guess(const std::vector<Job*>& jobs, std::span<const float> states);
  bool goes_on(const Job& job) const;

  StepRunner& runner_;
  const Clock& clock_;
  StepInputs inputs_;
  std::unordered_map<SequenceId, State> states_;
  std::vector<float> rows_;  // for one pass
  StepCost cost_;
  int guessed_sequences_ = 1;
};

}  // namespace ridge::engine
