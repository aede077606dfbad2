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

int choose_drafts(const StepCost& cost, double rate, int most, int rows, int sequences,
                  double guess_ms) {
  if (!cost.knows_decoding()) return 0;
  const auto tokens_per_ms = [&](int drafts) {
    return (sequences - 1 + expected_tokens(rate, drafts)) /
           (cost.decode_ms(rows + drafts) + drafts * guess_ms);
  };
  int best = 0;
  double best_rate = tokens_per_ms(0);
  for (int drafts = 1; drafts <= most; ++drafts) {
    const double each = tokens_per_ms(drafts);
    if (each > best_rate) {
      best = drafts;
      best_rate = each;
    }
  }
  return best;
}

}  // namespace ridge::engine
