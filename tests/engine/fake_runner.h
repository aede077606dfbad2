#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/step_runner.h"

namespace ridge::engine {

// A model with a real cache and no weights: each token's place in the cache holds the token, and
// the next token is a function of all tokens that a sequence's block table leads to. So a wrong
// slot, a stolen block or a lost chunk changes the answer. An adapter adds adapter_mark(it) to the
// first token of what it sees; its keys and values may serve no other.
class FakeRunner final : public StepRunner {
 public:
  // The next token after `context`.
  using Next = std::function<int32_t(const std::vector<int32_t>& context)>;

  FakeRunner(const RunnerLimits& limits, int vocab_size, Next next)
      : limits_(limits),
        vocab_size_(vocab_size),
        next_(std::move(next)),
        cache_(static_cast<size_t>(limits.blocks * limits.block_tokens), Cell{-1, -1}) {}

  static int32_t adapter_mark(int adapter) { return 1000 * (adapter + 1); }

  const RunnerLimits& limits() const override { return limits_; }
  int vocab_size() const override { return vocab_size_; }

  std::span<const float> run(const StepInputs& inputs) override {
    ++steps;
    if (before_step) before_step(inputs);
    EXPECT_LE(inputs.tokens(), limits_.tokens);
    EXPECT_LE(inputs.sequences(), limits_.sequences);
    EXPECT_LE(inputs.outputs(), limits_.outputs);
    store(inputs);
    logits_.assign(static_cast<size_t>(inputs.outputs()) * static_cast<size_t>(vocab_size_), 0.0f);
    for (size_t output = 0; output < inputs.output_rows.size(); ++output) {
      const int32_t token = next_(context_of(inputs, inputs.output_rows[output]));
      logits_[output * static_cast<size_t>(vocab_size_) + static_cast<size_t>(token)] = 30.0f;
    }
    if (after_step) after_step(inputs, logits_);
    return logits_;
  }

  // A hidden state is the last token, the context's length, and the sum of the context.
  int hidden_size() const override { return 3; }
  std::span<const float> run_hidden(const StepInputs& inputs) override {
    if (before_hidden) before_hidden();
    EXPECT_LE(inputs.tokens(), limits_.tokens);
    store(inputs);
    logits_.clear();
    for (int32_t row : inputs.output_rows) {
      const std::vector<int32_t> context = context_of(inputs, row);
      const float sum = std::accumulate(context.begin(), context.end(), 0.0f);
      logits_.insert(logits_.end(),
                     {static_cast<float>(context.back()), static_cast<float>(context.size()), sum});
    }
    return logits_;
  }

  size_t block_bytes() const override {
    return static_cast<size_t>(limits_.block_tokens) * sizeof(Cell);
  }
  void export_block(kvcache::BlockId block, std::span<std::byte> to) const override {
    ASSERT_EQ(to.size(), block_bytes());
    if (before_export) before_export();
    std::memcpy(to.data(), first_cell(block), to.size());
  }
  void import_block(kvcache::BlockId block, std::span<const std::byte> from) override {
    ASSERT_EQ(from.size(), block_bytes());
    std::memcpy(const_cast<Cell*>(first_cell(block)), from.data(), from.size());
  }

  int steps = 0;
  std::function<void(const StepInputs&)> before_step;  // may throw
  std::function<void()> before_hidden;                 // likewise
  std::function<void()> before_export;                 // likewise
  std::function<void(const StepInputs&, std::vector<float>& logits)> after_step;

 private:
  struct Cell {
    int32_t token;
    int32_t position;
    int32_t adapter = -1;
  };

  void store(const StepInputs& inputs) {
    for (size_t row = 0; row < inputs.token_ids.size(); ++row) {
      cache_.at(static_cast<size_t>(inputs.slots[row])) = {
          inputs.token_ids[row], inputs.positions[row], inputs.adapter_of_row[row]};
    }
  }
  const Cell* first_cell(kvcache::BlockId block) const {
    return &cache_.at(static_cast<size_t>(block.value * limits_.block_tokens));
  }
  std::vector<int32_t> context_of(const StepInputs& inputs, int32_t row) const {
    size_t sequence = 0;
    while (inputs.query_starts[sequence + 1] <= row) ++sequence;
    const int32_t last_position = inputs.positions[static_cast<size_t>(row)];
    EXPECT_LT(last_position, inputs.context_lengths[sequence]);
    const auto width = static_cast<size_t>(blocks_per_sequence(limits_));
    const int32_t adapter = inputs.adapter_of_row[static_cast<size_t>(row)];
    std::vector<int32_t> context;
    for (int32_t position = 0; position <= last_position; ++position) {
      const int32_t block =
          inputs.block_tables[sequence * width +
                              static_cast<size_t>(position / limits_.block_tokens)];
      const Cell& cell = cache_.at(
          static_cast<size_t>(block * limits_.block_tokens + position % limits_.block_tokens));
      EXPECT_EQ(cell.position, position) << "the cache was overwritten";
      EXPECT_EQ(cell.adapter, adapter) << "another adapter's keys and values";
      context.push_back(cell.token);
    }
    context.front() += adapter_mark(adapter);
    return context;
  }

  RunnerLimits limits_;
  int vocab_size_;
  Next next_;
  std::vector<Cell> cache_;
  std::vector<float> logits_;
};

}  // namespace ridge::engine
