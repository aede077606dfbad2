#include "engine/pace.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ridge::engine {

namespace {

// Of what was known before, at each observation: some 50 steps are remembered.
constexpr double decay = 0.98;
// A step that took longer than so many times what was expected counts as that long. Without it the
// first step with guesses, which waits for memory that it is the first to touch, made guesses look
// too dear to be tried again for hundreds of steps. A machine that slows down is still followed:
// what is expected grows with each such step.
constexpr double most_surprise = 2;
// Of a new value in a moving average.
constexpr double share = 0.2;

}  // namespace

void StepCost::observe(int rows, int prompt_tokens, double milliseconds) {
  if (prompt_tokens > 0) {
    const double others = rows > 0 && knows_decoding() ? decode_ms(rows) : 0;
    const double token_ms = std::max(0.0, milliseconds - others) / prompt_tokens;
    // A short prompt's time is mostly what any step takes.
    const double weight = share * std::min(1.0, prompt_tokens / 32.0);
    prompt_token_ms_ = prompt_token_ms_ == 0
                           ? token_ms
                           : prompt_token_ms_ + weight * (token_ms - prompt_token_ms_);
    return;
  }
  if (rows == 0) return;
  if (knows_decoding()) milliseconds = std::min(milliseconds, most_surprise * decode_ms(rows));
  const double x = rows;
  for (double* sum : {&weight_, &rows_, &rows_squared_, &ms_, &rows_ms_}) *sum *= decay;
  weight_ += 1;
  rows_ += x;
  rows_squared_ += x * x;
  ms_ += milliseconds;
  rows_ms_ += x * milliseconds;
}

double StepCost::decode_ms(int rows) const {
  if (weight_ == 0) return 0;
  const double mean_rows = rows_ / weight_;
  const double mean_ms = ms_ / weight_;
  const double variance = rows_squared_ / weight_ - mean_rows * mean_rows;
  if (variance < 0.01) return mean_ms;
  const double slope = (rows_ms_ / weight_ - mean_rows * mean_ms) / variance;
  // Noise may tilt the line; but no step is faster for doing more, nor its first rows dearer than
  // the others.
  const double least = mean_ms * std::min(1.0, rows / mean_rows);
  return std::max(mean_ms + std::max(0.0, slope) * (rows - mean_rows), least);
}

int Pace::prompt_tokens(const StepCost& cost, int rows, double guessing_ms) const {
  if (itl_target_ms_ <= 0 || rows == 0) return step_tokens_;
  return tokens_within(itl_target_ms_ - cost.decode_ms(rows) - guessing_ms, cost.prompt_token_ms());
}

int Pace::draft_tokens(const StepCost& cost, int rows, double guessing_ms, double token_ms) const {
  if (itl_target_ms_ <= 0) return step_tokens_;
  return tokens_within((itl_target_ms_ - cost.decode_ms(rows) - guessing_ms) / 2, token_ms);
}

double Pace::most_ms(const StepCost& cost, int rows, bool has_prompts) const {
  const double rows_ms = cost.decode_ms(rows);
  const bool keeps_target = itl_target_ms_ > 0 && rows_ms < itl_target_ms_;
  if (!keeps_target) return std::numeric_limits<double>::infinity();
  return has_prompts ? (rows_ms + itl_target_ms_) / 2 : itl_target_ms_;
}

int Pace::tokens_within(double room_ms, double token_ms) const {
  if (token_ms == 0) return std::min(first_tokens, step_tokens_);
  return static_cast<int>(std::clamp(std::floor(room_ms / token_ms),
                                     static_cast<double>(std::min(least_tokens, step_tokens_)),
                                     static_cast<double>(step_tokens_)));
}

}  // namespace ridge::engine
