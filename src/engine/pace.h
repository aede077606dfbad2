#pragma once

#include "base/clock.h"

namespace ridge::engine {

// What steps of this model on this machine take, learned from those that were run. Until it has
// seen enough it says what costs nothing to be wrong about: see each call.
class StepCost {
 public:
  // A step of `rows` tokens of decoding sequences, guesses included, and `prompt_tokens` of
  // prompts. One that decodes and took far longer than expected counts in part.
  void observe(int rows, int prompt_tokens, double milliseconds);

  // A step that only decodes. Until steps of different sizes were seen, more rows cost nothing.
  double decode_ms(int rows) const;
  // What one more prompt token adds; 0 until there was a step with a prompt.
  double prompt_token_ms() const { return prompt_token_ms_; }
  bool knows_decoding() const { return weight_ > 0; }

 private:
  // Decaying sums of a least-squares line of milliseconds over rows.
  double weight_ = 0;
  double rows_ = 0;
  double rows_squared_ = 0;
  double ms_ = 0;
  double rows_ms_ = 0;
  double prompt_token_ms_ = 0;
};

// How many prompt tokens may join a step that others decode in, so that a step takes no longer than
// the target: a bound on the time between two tokens of one answer.
class Pace {
 public:
  // itl_target_ms: 0 for none.
  Pace(double itl_target_ms, int step_tokens)
      : itl_target_ms_(itl_target_ms), step_tokens_(step_tokens) {}

  // At least `least_tokens`, or prompts would wait for ever where decoding alone exceeds the
  // target. rows: guesses included, of which making them took `guessing_ms`.
  int prompt_tokens(const StepCost& cost, int rows, double guessing_ms = 0) const;
  // Tokens, of token_ms each, that a draft model may read before a step of so many rows, its
  // guesses taking `guessing_ms`: half of what is left, since others' prompts want their part.
  int draft_tokens(const StepCost& cost, int rows, double guessing_ms, double token_ms) const;
  // What a step may take, guesses and all: half of what its rows leave of the target where others'
  // prompts want their part. Infinite where rows alone take longer, so that nothing is lost by
  // guessing.
  double most_ms(const StepCost& cost, int rows, bool has_prompts) const;

  static constexpr int least_tokens = 16;
  // Where nothing is known yet.
  static constexpr int first_tokens = 64;

 private:
  int tokens_within(double room_ms, double token_ms) const;

  double itl_target_ms_;
  int step_tokens_;
};

}  // namespace ridge::engine
