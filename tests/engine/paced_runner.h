#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "engine/forwarding_runner.h"

namespace ridge::engine {

// A model whose steps take a time that depends on their size alone, so that the loop decides alike
// in every run. Every few rows it is mistaken, where it is to be.
class PacedRunner final : public ForwardingRunner {
 public:
  PacedRunner(std::unique_ptr<StepRunner> runner, FakeClock& clock, std::chrono::microseconds step,
              int mistaken_each = 0,
              std::chrono::microseconds token = std::chrono::microseconds(20))
      : ForwardingRunner(std::move(runner)),
        clock_(clock),
        step_(step),
        token_(token),
        mistaken_each_(mistaken_each) {}

  std::span<const float> run(const StepInputs& inputs) override {
    clock_.advance(step_ + inputs.tokens() * token_);
    const auto logits = ForwardingRunner::run(inputs);
    if (mistaken_each_ == 0) return logits;
    changed_.assign(logits.begin(), logits.end());
    for (int row = 0; row < inputs.outputs(); ++row) {
      const int token = 20 + rows_ % 200;
      const auto at = static_cast<size_t>(row * vocab_size() + token);
      if (++rows_ % mistaken_each_ == 0) changed_[at] = 1e6f;
    }
    return changed_;
  }
  std::span<const float> run_guessing(const StepInputs& following,
                                      std::span<const float> hidden) override {
    clock_.advance(following.tokens() * token_);
    return ForwardingRunner::run_guessing(following, hidden);
  }
  std::span<const float> run_guess(std::span<const float> states) override {
    clock_.advance(token_);
    return ForwardingRunner::run_guess(states);
  }

 private:
  FakeClock& clock_;
  const std::chrono::microseconds step_;
  const std::chrono::microseconds token_;
  const int mistaken_each_;
  int rows_ = 0;
  std::vector<float> changed_;
};

}  // namespace ridge::engine
