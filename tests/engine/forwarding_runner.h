#pragma once

#include <memory>
#include <span>
#include <utility>

#include "engine/step_runner.h"

namespace ridge::engine {

// Another runner, for tests that change or watch a part of it.
class ForwardingRunner : public StepRunner {
 public:
  explicit ForwardingRunner(StepRunner& runner) : runner_(runner) {}
  explicit ForwardingRunner(std::unique_ptr<StepRunner> runner)
      : owned_(std::move(runner)), runner_(*owned_) {}

  const RunnerLimits& limits() const override { return runner_.limits(); }
  int vocab_size() const override { return runner_.vocab_size(); }
  int hidden_size() const override { return runner_.hidden_size(); }
  std::span<const float> run(const StepInputs& inputs) override { return runner_.run(inputs); }
  std::span<const float> run_hidden(const StepInputs& inputs) override {
    return runner_.run_hidden(inputs);
  }
  bool guesses() const override { return runner_.guesses(); }
  std::span<const float> hidden() override { return runner_.hidden(); }
  std::span<const float> run_guessing(const StepInputs& following,
                                      std::span<const float> hidden) override {
    return runner_.run_guessing(following, hidden);
  }
  std::span<const float> run_guess(std::span<const float> states) override {
    return runner_.run_guess(states);
  }
  size_t block_bytes() const override { return runner_.block_bytes(); }
  void export_block(kvcache::BlockId block, std::span<std::byte> to) const override {
    runner_.export_block(block, to);
  }
  void import_block(kvcache::BlockId block, std::span<const std::byte> from) override {
    runner_.import_block(block, from);
  }

 private:
  std::unique_ptr<StepRunner> owned_;
  StepRunner& runner_;
};

}  // namespace ridge::engine
