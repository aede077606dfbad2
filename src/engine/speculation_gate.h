#pragma once

#include <limits>

#include "engine/pace.h"

namespace ridge::engine {

// How often guesses of one sequence have been right lately.
class Acceptance {
 public:
  // `accepted` of `drafted` guesses, from the first on, were right.
  void observe(int drafted, int accepted);
  // A step without guesses: what was seen counts less.
  void fade();
  // The probability that the next guess is right where all before it were; in (0, 1).
  double rate() const;

 private:
  // As if so many guesses had been seen before the first.
  static constexpr double prior_right = 1.4;
  static constexpr double prior_wrong = 0.6;
  double right_ = 0;
  double wrong_ = 0;
};

// Tokens that a step gives a sequence with `drafts` guesses, each right with probability `rate`
// where all before it were: (1 - rate^(drafts + 1)) / (1 - rate). Leviathan et al., "Fast inference
// from transformers via speculative decoding", ICML 2023, equation 1.
double expected_tokens(double rate, int drafts);

// What guesses of one sequence cost beside their rows of the step, and what they may.
struct GuessCost {
  double guess_ms = 0;       // to make each
  double read_ms = 0;        // before the first, once
  double answer_tokens = 0;  // still to come at most, in which the reading must be repaid
  double most_ms = std::numeric_limits<double>::infinity();  // of the step, guesses made within it
};

// How many of at most `most` guesses to check for one sequence, in a step that has `rows` rows
// without them, of which `others_tokens` tokens of other sequences are expected, their guesses
// included: as many as give the most tokens a millisecond. None where the reading before them would
// cost more tokens than they can give in the rest of the answer.
int choose_drafts(const StepCost& cost, double rate, int most, int rows, double others_tokens,
                  const GuessCost& guess = {});

}  // namespace ridge::engine
