#include "engine/draft_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/fake_runner.h"

namespace ridge::engine::draft_model_test {
namespace {

using Tokens = std::vector<int32_t>;

constexpr RunnerLimits limits = {.tokens = 16,
                                 .sequences = 4,
                                 .outputs = 4,
                                 .context_tokens = 64,
                                 .block_tokens = 4,
                                 .blocks = 64};

// Counts on by the length of the context, so that a lost or doubled token shows.
int32_t next_token(const Tokens& context) {
  return (context.back() + static_cast<int32_t>(context.size())) % 50;
}

Tokens continued(Tokens tokens, int count) {
  Tokens draft;
  for (int i = 0; i < count; ++i) {
    draft.push_back(next_token(tokens));
    tokens.push_back(draft.back());
  }
  return draft;
}

struct DraftModelTest : testing::Test {
  Tokens propose(uint64_t sequence, const Tokens& tokens, int most) {
    std::vector<DraftModel::Job> jobs = {{SequenceId{sequence}, tokens, most, {}}};
    model.propose(jobs);
    return jobs[0].draft;
  }

  FakeClock clock;
  FakeRunner runner{limits, 50, next_token};
  DraftModel model{runner, clock};
};

TEST_F(DraftModelTest, GuessesTheLikeliestTokensInTurn) {
  EXPECT_EQ(propose(1, {3, 4, 5}, 4), continued({3, 4, 5}, 4));
}

TEST_F(DraftModelTest, GoesOnFromAcceptedAndFromRefusedGuesses) {
  Tokens tokens = {3, 4, 5};
  Tokens draft = propose(1, tokens, 4);
  tokens.insert(tokens.end(), {draft[0], draft[1], 49});  // the third was refused
  const int before = runner.steps;
  EXPECT_EQ(propose(1, tokens, 3), continued(tokens, 3));
  EXPECT_EQ(runner.steps - before, 3) << "a step for each guess, and none to read the rest again";
  draft = propose(1, tokens, 3);
  tokens.insert(tokens.end(), draft.begin(), draft.end());
  EXPECT_EQ(propose(1, tokens, 2), continued(tokens, 2)) << "all were accepted";
  EXPECT_EQ(propose(1, tokens, 2), continued(tokens, 2)) << "the same question again";
}

TEST_F(DraftModelTest, ReadsALongPromptInSteps) {
  const Tokens prompt(40, 7);
  EXPECT_TRUE(propose(1, prompt, 2).empty());
  EXPECT_TRUE(propose(1, prompt, 2).empty());
  EXPECT_EQ(propose(1, prompt, 2), continued(prompt, 2));
}

TEST_F(DraftModelTest, ReadsNoMoreThanItMayAndHoldsUpNobodyThatItFollows) {
  const Tokens followed = {3, 4, 5}, prompt(40, 7);
  propose(1, followed, 2);
  EXPECT_EQ(model.unread(SequenceId{1}, followed.size() + 1), 0);
  int most_tokens = 0;
  runner.before_step = [&](const StepInputs& inputs) {
    most_tokens = std::max(most_tokens, inputs.tokens());
  };
  for (const int left : {40, 33, 26}) {
    EXPECT_EQ(model.unread(SequenceId{2}, prompt.size()), left);
    std::vector<DraftModel::Job> jobs = {{SequenceId{2}, prompt, 2, {}},
                                         {SequenceId{1}, followed, 2, {}}};
    model.propose(jobs, /*read_tokens=*/7);
    EXPECT_TRUE(jobs[0].draft.empty());
    EXPECT_EQ(jobs[1].draft, continued(followed, 2));
  }
  EXPECT_EQ(most_tokens, 8);
}

TEST_F(DraftModelTest, SequencesDoNotDisturbEachOther) {
  std::vector<DraftModel::Job> jobs;
  const std::vector<Tokens> prompts = {{1, 2}, {3, 4, 5}, {6}};
  for (size_t i = 0; i < 3; ++i) {
    jobs.push_back({SequenceId{i}, prompts[i], static_cast<int>(i) + 1, {}});
  }
  model.propose(jobs);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(jobs[i].draft, continued(prompts[i], static_cast<int>(i) + 1));
  }
}

TEST_F(DraftModelTest, StopsAtTheEndOfItsContext) {
  EXPECT_EQ(propose(1, Tokens(16, 7), 4).size(), 4u);
  Tokens prompt(63, 7);
  for (int i = 0; i < 3; ++i) propose(2, prompt, 8);
  EXPECT_LE(propose(2, prompt, 8).size(), 2u);
}

TEST_F(DraftModelTest, AFailedPassLosesNothingButItsGuesses) {
  propose(1, {3, 4, 5}, 2);
  int passes = 0;
  runner.before_step = [&](const StepInputs&) {
    if (++passes == 2) throw Error(ErrorCode::io, "injected");
  };
  EXPECT_THROW(propose(1, {3, 4, 5, 6, 7}, 3), Error);
  EXPECT_EQ(propose(1, {3, 4, 5, 6, 7}, 3), continued({3, 4, 5, 6, 7}, 3));
}

TEST_F(DraftModelTest, WithoutRoomThereAreNoGuesses) {
  for (uint64_t sequence = 0; sequence < 4; ++sequence) {
    const Tokens prompt(60, static_cast<int32_t>(sequence));
    for (int i = 0; i < 4; ++i) propose(sequence, prompt, 4);
  }
  EXPECT_TRUE(propose(9, Tokens(12, 1), 4).empty());
  model.forget(SequenceId{0});
  EXPECT_EQ(propose(9, Tokens(12, 1), 4).size(), 4u);
}

}  // namespace
}  // namespace ridge::engine::draft_model_test
