// Guesses of a layer for multi-token prediction, over a model that follows every token of the
// context: each guess is right where every place of the layer's cache is.
#include "engine/mtp_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "engine/fake_runner.h"
#include "engine/loop_fixture.h"

namespace ridge::engine::mtp_drafter_test {
namespace {

using Tokens = std::vector<int32_t>;

// Pseudo-random in the whole context, so that nothing repeats and no suffix guesses.
int32_t next_token(const Tokens& context) {
  uint64_t hash = 1469598103934665603u;
  for (const int32_t token : context) hash = (hash ^ static_cast<uint64_t>(token)) * 1099511628211u;
  return static_cast<int32_t>((hash >> 20) % 280) + 20;
}

Tokens answer_to(Tokens context, int count) {
  Tokens answer;
  for (int i = 0; i < count; ++i) {
    answer.push_back(next_token(context));
    context.push_back(answer.back());
  }
  return answer;
}

struct MtpLoop : testing::Test {
  static constexpr int block_tokens = 4;

  void start(RunnerLimits limits, StepLoopOptions options = {}) {
    limits.block_tokens = block_tokens;
    runner.emplace(limits, small_tokenizer()->vocab_size(), next_token, /*guesses=*/true);
    // A row more costs next to nothing, so that the gate lets guesses through.
    runner->before_step = [this](const StepInputs& inputs) {
      clock.advance(std::chrono::microseconds(1000 + inputs.tokens()));
    };
    loop.emplace(*runner, small_tokenizer(), clock, options);
  }
  void start() {
    start({.tokens = 32, .sequences = 4, .outputs = 20, .context_tokens = 128, .blocks = 128});
  }

  static Tokens prompt(int tokens, int32_t seed) {
    Tokens prompt(static_cast<size_t>(tokens), 30);
    prompt.front() = 20 + seed;
    return prompt;
  }
  RecordedRequest& add(const Tokens& prompt, int max_tokens, int choices = 1) {
    Request request;
    request.prompt_tokens = prompt;
    request.max_tokens = max_tokens;
    request.choices = choices;
    request.sampling.temperature = 0.0f;
    request.sampling.top_logprobs = 0;
    recorded.emplace_back(choices);
    loop->add(RequestId{recorded.size()}, request, recorded.back().listener(), clock.now());
    return recorded.back();
  }
  void run_all() {
    for (int i = 0; loop->has_work(); ++i) {
      ASSERT_LT(i, 2000) << "no progress";
      loop->step();
    }
    EXPECT_EQ(loop->stats().blocks_free, loop->stats().blocks_total) << "a block leaked";
  }
  static Tokens tokens_of(const RecordedRequest& request, size_t choice = 0) {
    Tokens tokens;
    for (const TokenInfo& info : request.tokens[choice]) tokens.push_back(info.picked.token);
    return tokens;
  }
  void expect_all_right(uint64_t least) const {
    EXPECT_GE(loop->stats().draft_tokens_total, least);
    EXPECT_EQ(loop->stats().accepted_tokens_total, loop->stats().draft_tokens_total);
  }

  FakeClock clock;
  std::optional<FakeRunner> runner;
  std::optional<StepLoop> loop;
  std::deque<RecordedRequest> recorded;
};

TEST_F(MtpLoop, AllGuessesAreRightAndSaveSteps) {
  start();
  const RecordedRequest& request = add(prompt(10, 1), 60);
  run_all();
  EXPECT_EQ(tokens_of(request), answer_to(prompt(10, 1), 60));
  expect_all_right(40);
  EXPECT_LT(runner->steps, 30);
}

TEST_F(MtpLoop, AllAreRightInABatchOfChunkedPrompts) {
  start({.tokens = 7, .sequences = 4, .outputs = 11, .context_tokens = 128, .blocks = 128});
  for (const int tokens : {30, 3, 17, 8, 16}) add(prompt(tokens, tokens), 40);
  run_all();
  for (size_t i = 0; const int tokens : {30, 3, 17, 8, 16}) {
    EXPECT_EQ(tokens_of(recorded[i++]), answer_to(prompt(tokens, tokens), 40));
  }
  expect_all_right(10);
}

// The last place of a shared block holds what depends on the token behind the block.
TEST_F(MtpLoop, AllAreRightAfterAPrefixThatOthersWentOnFromOtherwise) {
  start();
  const Tokens shared = prompt(4 * block_tokens, 1);
  for (const int32_t next : {50, 51, 50}) {
    Tokens tokens = shared;
    tokens.insert(tokens.end(), {next, 60, 61});
    const uint64_t drafted = loop->stats().draft_tokens_total;
    const RecordedRequest& request = add(tokens, 20);
    run_all();
    EXPECT_EQ(tokens_of(request), answer_to(tokens, 20));
    EXPECT_GT(loop->stats().draft_tokens_total, drafted);
  }
  EXPECT_EQ(recorded[0].finish->usage.cached_tokens, 0);
  EXPECT_EQ(recorded[1].finish->usage.cached_tokens, 3 * block_tokens)
      << "the fourth goes on otherwise";
  EXPECT_EQ(recorded[2].finish->usage.cached_tokens, 4 * block_tokens);
  expect_all_right(20);
}

// What an answer left behind serves the next turn, its last step's blocks among it.
TEST_F(MtpLoop, AllAreRightAfterTheAnswerOfATurnBefore) {
  start();
  Tokens tokens = prompt(9, 1);
  for (int turn = 0; turn < 3; ++turn) {
    const RecordedRequest& request = add(tokens, 13);
    run_all();
    EXPECT_EQ(tokens_of(request), answer_to(tokens, 13));
    if (turn > 0) {
      const int known = static_cast<int>(tokens.size()) - 4;  // the last token and the turn's three
      EXPECT_EQ(request.finish->usage.cached_tokens, known / block_tokens * block_tokens);
    }
    const Tokens answer = tokens_of(request);
    tokens.insert(tokens.end(), answer.begin(), answer.end());
    tokens.insert(tokens.end(), {70, 71, 72});
  }
  expect_all_right(12);
}

TEST_F(MtpLoop, AllAreRightForChoicesThatShareAPrompt) {
  for (const int tokens : {8, 9, 11, 12}) {
    start();
    RecordedRequest& request = add(prompt(tokens, 1), 20, /*choices=*/3);
    run_all();
    for (size_t choice = 0; choice < 3; ++choice) {
      EXPECT_EQ(tokens_of(request, choice), answer_to(prompt(tokens, 1), 20));
    }
    expect_all_right(20);
  }
}

// Their first tokens differ, and so do the last places of the prompt's last block.
TEST_F(MtpLoop, AllAreRightForChoicesThatGoOnOtherwise) {
  for (const int tokens : {8, 9, 11, 12}) {
    start();
    // The model's own choice is likeliest by little, so that the choices' draws differ.
    runner->after_step = [](const StepInputs&, std::vector<float>& logits) {
      for (float& logit : logits) logit /= 4.5f;
    };
    Request wish;
    wish.prompt_tokens = prompt(tokens, 1);
    wish.max_tokens = 30;
    wish.choices = 3;
    wish.sampling.temperature = 1.0f;
    wish.sampling.seed = 5;
    wish.sampling.top_logprobs = 0;
    recorded.emplace_back(3);
    loop->add(RequestId{recorded.size()}, wish, recorded.back().listener(), clock.now());
    run_all();
    const RecordedRequest& request = recorded.back();
    EXPECT_NE(tokens_of(request, 0), tokens_of(request, 1));
    EXPECT_GT(loop->stats().accepted_tokens_total, 10u);
  }
}

TEST_F(MtpLoop, AllAreRightOfThoseThatLostTheirBlocks) {
  start({.tokens = 16, .sequences = 4, .outputs = 20, .context_tokens = 64, .blocks = 24});
  for (int32_t i = 0; i < 6; ++i) add(prompt(12, i), 40);
  run_all();
  EXPECT_GT(loop->stats().preemptions_total, 0u);
  for (int32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(tokens_of(recorded[static_cast<size_t>(i)]), answer_to(prompt(12, i), 40));
  }
  expect_all_right(10);
}

TEST_F(MtpLoop, AFailureOfTheLayerCostsGuessesAlone) {
  start();
  runner->checks_followers = false;
  int passes = 0;
  runner->before_guessing = [&](const StepInputs&) {
    if (++passes % 3 == 0) throw Error(ErrorCode::io, "injected");
  };
  for (int32_t i = 0; i < 6; ++i) add(prompt(12, i), 30);
  run_all();
  for (int32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(tokens_of(recorded[static_cast<size_t>(i)]), answer_to(prompt(12, i), 30));
    EXPECT_FALSE(recorded[static_cast<size_t>(i)].finish->error);
  }
}

// Blocks that the layer did not fill serve nobody else.
TEST_F(MtpLoop, AfterAFailureItsBlocksAreNotShared) {
  start();
  runner->before_guessing = [](const StepInputs&) { throw Error(ErrorCode::io, "injected"); };
  add(prompt(20, 1), 5);
  run_all();
  runner->before_guessing = nullptr;
  const RecordedRequest& request = add(prompt(20, 1), 20);
  run_all();
  EXPECT_EQ(request.finish->usage.cached_tokens, 0);
  expect_all_right(5);
}

// A choice's copy of a full block that came to nothing is found by nobody.
TEST_F(MtpLoop, AfterACopyThatFailedAnswersAreRight) {
  start();
  runner->before_export = [] { throw Error(ErrorCode::io, "injected"); };
  RecordedRequest& failed = add(prompt(8, 1), 20, /*choices=*/2);
  run_all();
  ASSERT_TRUE(failed.finish->error);
  runner->before_export = nullptr;
  const RecordedRequest& request = add(prompt(8, 1), 20);
  run_all();
  EXPECT_EQ(tokens_of(request), answer_to(prompt(8, 1), 20));
  Tokens later = prompt(8, 1);
  const Tokens answer = answer_to(later, 20);
  later.insert(later.end(), answer.begin(), answer.end());
  const RecordedRequest& turn = add(later, 10);
  run_all();
  EXPECT_EQ(tokens_of(turn), answer_to(later, 10));
}

// Nor do a choice's blocks, whose first ones the leader's failure left unfilled.
TEST_F(MtpLoop, AfterAFailureChoicesShareNoMore) {
  start({.tokens = 8, .sequences = 4, .outputs = 20, .context_tokens = 128, .blocks = 128});
  int passes = 0;
  runner->checks_followers = false;
  runner->before_guessing = [&](const StepInputs&) {
    if (++passes == 1) throw Error(ErrorCode::io, "injected");
  };
  add(prompt(12, 1), 20, /*choices=*/2);
  run_all();
  runner->checks_followers = true;
  const RecordedRequest& request = add(prompt(12, 1), 20);
  run_all();
  EXPECT_EQ(request.finish->usage.cached_tokens, 0);
  EXPECT_EQ(tokens_of(request), answer_to(prompt(12, 1), 20));
}

TEST_F(MtpLoop, GuessesThatAreNoNumbersAreDropped) {
  start();
  runner->after_guess = [this](std::vector<float>& logits) {
    clock.advance(std::chrono::microseconds(500));  // half a step
    std::ranges::fill(logits, std::numeric_limits<float>::quiet_NaN());
  };
  const RecordedRequest& request = add(prompt(10, 1), 60);
  run_all();
  EXPECT_EQ(tokens_of(request), answer_to(prompt(10, 1), 60));
  EXPECT_EQ(loop->stats().draft_tokens_total, 0u);
  EXPECT_LT(runner->guesses_made, 40) << "the gate closes";
}

TEST_F(MtpLoop, NobodyIsFollowedWhereGuessesAreOff) {
  start({.tokens = 32, .sequences = 4, .outputs = 20, .context_tokens = 128, .blocks = 128},
        {.speculation = false});
  add(prompt(20, 1), 20);
  run_all();
  EXPECT_EQ(runner->guessing_passes, 0);
  EXPECT_EQ(loop->stats().draft_tokens_total, 0u);
}

TEST_F(MtpLoop, EmbeddingsAndAnswersShareNoBlocks) {
  start();
  Request request;
  request.prompt_tokens = prompt(20, 1);
  request.embedding = Pooling::last;
  recorded.emplace_back(1);
  loop->add(RequestId{1}, request, recorded.back().listener(), clock.now());
  run_all();
  const RecordedRequest& answer = add(prompt(20, 1), 20);
  run_all();
  EXPECT_EQ(answer.finish->usage.cached_tokens, 0);
  expect_all_right(5);
}

}  // namespace
}  // namespace ridge::engine::mtp_drafter_test
