#include "engine/speculation_gate.h"

#include <cmath>

namespace ridge::engine {

namespace {

constexpr double right_decay = 0.9;
constexpr double slow_decay = 0.98;

}  // namespace

void Acceptance::observe(int drafted, int accepted) {
  right_ = right_ * right_decay + accepted;
  wrong_ = wrong_ * right_decay + (accepted < drafted ? 1 : 0);
}

void Acceptance::fade() {
  right_ *= slow_decay;
  wrong_ *= slow_decay;
}

double Acceptance::rate() const {
  return (right_ + prior_right) / (right_ + wrong_ + prior_right + prior_wrong);
}

double expected_tokens(double rate, int drafts) {
  return (1 - std::pow(rate, drafts + 1)) / (1 - rate);
}

int choose_drafts(const StepCost& cost, double rate, int most, int rows, double others_tokens,
                  const GuessCost& guess) {
  if (!cost.knows_decoding()) return 0;
  const auto step_ms = [&](int drafts) {
    return cost.decode_ms(rows + drafts) + drafts * guess.guess_ms;
  };
  const auto tokens_per_ms = [&](int drafts) {
    return (others_tokens + expected_tokens(rate, drafts)) / step_ms(drafts);
  };
  const double plain_rate = tokens_per_ms(0);
  int best = 0;
  double best_rate = plain_rate;
  for (int drafts = 1; drafts <= most && step_ms(drafts) <= guess.most_ms; ++drafts) {
    const double each = tokens_per_ms(drafts);
    if (each > best_rate) {
      best = drafts;
      best_rate = each;
    }
  }
  if (best == 0 || guess.read_ms == 0) return best;
  const double steps = guess.answer_tokens / expected_tokens(rate, best);
  const double gained_tokens = steps * step_ms(best) * (best_rate - plain_rate);
  return gained_tokens > guess.read_ms * plain_rate ? best : 0;
}

}  // namespace ridge::engine
