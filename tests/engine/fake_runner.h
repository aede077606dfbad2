#pragma once

#include <gtest/gtest.h>

#include <algorithm>
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
//
// Where it guesses, each place holds the token behind it as well, as a layer for multi-token
// prediction has it, and a guess is a function of all those: right if every place is.
class FakeRunner final : public StepRunner {
 public:
  // The next token after `context`.
  using Next = std::function<int32_t(const std::vector<int32_t>& context)>;

  FakeRunner(const RunnerLimits& limits, int vocab_size, Next next, bool guesses = false)
      : limits_(limits),
        vocab_size_(vocab_size),
        next_(std::move(next)),
        guesses_(guesses),
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
    if (guesses_) {
      hidden_.clear();
      for (int row = 0; row < inputs.tokens(); ++row) add_hidden(context_of(inputs, row), hidden_);
    }
    if (after_step) after_step(inputs, logits_);
    return logits_;
  }

  // A hidden state is the last token, the context's length, and the sum of the context.
  int hidden_size() const override { return 3; }
  bool guesses() const override { return guesses_; }
  std::span<const float> hidden() override { return hidden_; }
  // A state of the layer is its guess, the length of the context before that, and -1.
  std::span<const float> run_guessing(const StepInputs& inputs,
                                      std::span<const float> hidden) override {
    ++guessing_passes;
    if (before_guessing) before_guessing(inputs);
    EXPECT_LE(inputs.tokens(), limits_.tokens);
    EXPECT_LE(inputs.sequences(), limits_.sequences);
    EXPECT_EQ(hidden.size(), static_cast<size_t>(inputs.tokens() * hidden_size()));
    for (size_t row = 0; row < inputs.token_ids.size(); ++row) {
      Cell& cell = cache_.at(static_cast<size_t>(inputs.slots[row]));
      cell.following = inputs.token_ids[row];
      cell.following_position = inputs.positions[row];
    }
    for (int row = 0; row < inputs.tokens(); ++row) {
      check_given(inputs, row, hidden.subspan(static_cast<size_t>(row * hidden_size()), 3));
    }
    states_.clear();
    for (const int32_t row : inputs.output_rows) {
      const std::vector<int32_t> context = followed_context(inputs, row);
      states_.insert(states_.end(), {static_cast<float>(next_(context)),
                                     static_cast<float>(context.size()), -1.0f});
    }
    return states_;
  }
  std::span<const float> run_guess(std::span<const float> states) override {
    const size_t rows = states.size() / 3;
    EXPECT_LE(static_cast<int>(rows), limits_.sequences);
    guess_logits_.assign(rows * static_cast<size_t>(vocab_size_), 0.0f);
    for (size_t row = 0; row < rows; ++row) {
      EXPECT_EQ(states[3 * row + 2], -1) << "not a state of the layer";
      const auto token = static_cast<size_t>(states[3 * row]);
      guess_logits_[row * static_cast<size_t>(vocab_size_) + token] = 30.0f;
    }
    ++guesses_made;
    if (after_guess) after_guess(guess_logits_);
    return guess_logits_;
  }
  std::span<const float> run_hidden(const StepInputs& inputs) override {
    if (before_hidden) before_hidden();
    EXPECT_LE(inputs.tokens(), limits_.tokens);
    store(inputs);
    logits_.clear();
    for (int32_t row : inputs.output_rows) add_hidden(context_of(inputs, row), logits_);
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
  int guessing_passes = 0;
  int guesses_made = 0;          // passes of the layer's head
  bool checks_followers = true;  // that no place of the layer was left out, as after a failure
  std::function<void(const StepInputs&)> before_guessing;  // may throw
  std::function<void(std::vector<float>& logits)> after_guess;
  std::function<void(const StepInputs&)> before_step;  // may throw
  std::function<void()> before_hidden;                 // likewise
  std::function<void()> before_export;                 // likewise
  std::function<void(const StepInputs&, std::vector<float>& logits)> after_step;

 private:
  struct Cell {
    int32_t token;
    int32_t position;
    int32_t adapter = -1;
    int32_t following = -1;
    int32_t following_position = -1;  // of the place, as the layer had it
  };

  static void add_hidden(const std::vector<int32_t>& context, std::vector<float>& to) {
    const float sum = std::accumulate(context.begin(), context.end(), 0.0f);
    to.insert(to.end(),
              {static_cast<float>(context.back()), static_cast<float>(context.size()), sum});
  }

  void store(const StepInputs& inputs) {
    for (size_t row = 0; row < inputs.token_ids.size(); ++row) {
      Cell& cell = cache_.at(static_cast<size_t>(inputs.slots[row]));
      cell.token = inputs.token_ids[row];
      cell.position = inputs.positions[row];
      cell.adapter = inputs.adapter_of_row[row];
    }
  }
  const Cell* first_cell(kvcache::BlockId block) const {
    return &cache_.at(static_cast<size_t>(block.value * limits_.block_tokens));
  }
  // The row's sequence's place of a position.
  const Cell& cell_at(const StepInputs& inputs, int32_t row, int32_t position) const {
    size_t sequence = 0;
    while (inputs.query_starts[sequence + 1] <= row) ++sequence;
    EXPECT_LT(position, inputs.context_lengths[sequence]);
    const auto width = static_cast<size_t>(blocks_per_sequence(limits_));
    const int32_t block =
        inputs
            .block_tables[sequence * width + static_cast<size_t>(position / limits_.block_tokens)];
    return cache_.at(
        static_cast<size_t>(block * limits_.block_tokens + position % limits_.block_tokens));
  }
  // What the layer sees at a row: the sequence up to the token behind it.
  std::vector<int32_t> followed_context(const StepInputs& inputs, int32_t row) const {
    const Cell& first = cell_at(inputs, row, 0);
    std::vector<int32_t> context = {first.token + adapter_mark(first.adapter)};
    for (int32_t position = 0; position <= inputs.positions[static_cast<size_t>(row)]; ++position) {
      const Cell& cell = cell_at(inputs, row, position);
      EXPECT_TRUE(!checks_followers || cell.following_position == position)
          << "position " << position << " was left out";
      context.push_back(cell.following);
    }
    return context;
  }
  // The hidden state of a row is the model's there, or the layer's at the position before.
  void check_given(const StepInputs& inputs, int32_t row, std::span<const float> hidden) const {
    const int32_t last = inputs.positions[static_cast<size_t>(row)];
    if (hidden[2] == -1) {
      EXPECT_EQ(hidden[1], static_cast<float>(last + 1));
      EXPECT_EQ(hidden[0], static_cast<float>(inputs.token_ids[static_cast<size_t>(row)]));
      return;
    }
    const int32_t adapter = cell_at(inputs, row, 0).adapter;
    std::vector<int32_t> context;
    for (int32_t position = 0; position <= last; ++position) {
      const Cell& cell = cell_at(inputs, row, position);
      EXPECT_EQ(cell.position, position) << "the cache was overwritten";
      if (position < last && checks_followers) {
        EXPECT_EQ(cell.following, cell_at(inputs, row, position + 1).token)
            << "position " << position << " of " << last << " is of another's next token";
      }
      context.push_back(cell.token);
    }
    context.front() += adapter_mark(adapter);
    std::vector<float> expected;
    add_hidden(context, expected);
    EXPECT_TRUE(std::ranges::equal(expected, hidden)) << "another's hidden state";
  }

  std::vector<int32_t> context_of(const StepInputs& inputs, int32_t row) const {
    const int32_t last_position = inputs.positions[static_cast<size_t>(row)];
    const int32_t adapter = inputs.adapter_of_row[static_cast<size_t>(row)];
    std::vector<int32_t> context;
    for (int32_t position = 0; position <= last_position; ++position) {
      const Cell& cell = cell_at(inputs, row, position);
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
  bool guesses_;
  std::vector<Cell> cache_;
  std::vector<float> logits_;
  std::vector<float> hidden_;  // of the last step
  std::vector<float> states_, guess_logits_;
};

}  // namespace ridge::engine
