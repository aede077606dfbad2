#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "engine/speculation_gate.h"
#include "engine/suffix_drafter.h"

namespace ridge::engine::speculation_test {
namespace {

using Tokens = std::vector<int32_t>;

Tokens proposed(SuffixDrafter& drafter, const Tokens& sequence, int most = 8) {
  const auto draft = drafter.propose(sequence, most).tokens;
  return {draft.begin(), draft.end()};
}

TEST(SuffixDrafter, ProposesWhatFollowedTheSameTokens) {
  SuffixDrafter drafter;
  EXPECT_EQ(proposed(drafter, {1, 2, 3, 4, 5, 6, 1, 2, 3}), (Tokens{4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(proposed(drafter, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4}, 2), (Tokens{5, 6}));
}

TEST(SuffixDrafter, ProposesNothingWithoutAMatch) {
  SuffixDrafter drafter;
  EXPECT_TRUE(proposed(drafter, {}).empty());
  EXPECT_TRUE(proposed(drafter, {1, 2}).empty());
  EXPECT_TRUE(proposed(drafter, {1, 2, 3}).empty());
  EXPECT_TRUE(proposed(drafter, {1, 2, 3, 4, 9, 2, 3}).empty()) << "two tokens are no match";
}

TEST(SuffixDrafter, PrefersTheLongestMatchThenTheLatest) {
  SuffixDrafter drafter;
  const Tokens sequence = {7, 1, 2, 3, 40, 8, 1, 2, 3, 50, 7, 1, 2, 3};
  EXPECT_EQ(proposed(drafter, sequence, 1), (Tokens{40})) << "7 1 2 3 is longer than 1 2 3";
  SuffixDrafter other;
  EXPECT_EQ(proposed(other, {1, 2, 3, 40, 1, 2, 3, 50, 1, 2, 3}, 1), (Tokens{50}));
}

TEST(SuffixDrafter, GrowsWithItsSequence) {
  SuffixDrafter drafter;
  std::mt19937 random(3);
  Tokens sequence;
  for (int i = 0; i < 2000; ++i) {
    sequence.push_back(static_cast<int32_t>(random() % 3));
    const auto draft = drafter.propose(sequence, 4);
    if (draft.tokens.empty()) continue;
    // What is proposed did follow the last tokens somewhere before.
    const auto place = draft.tokens.data() - sequence.data();
    for (int back = 1; back <= draft.match_length; ++back) {
      ASSERT_EQ(sequence[static_cast<size_t>(place - back)],
                sequence[sequence.size() - static_cast<size_t>(back)]);
    }
    ASSERT_GE(draft.match_length, SuffixDrafter::least_match);
  }
}

TEST(SpeculationGate, ExpectsTheTokensOfAGeometricRun) {
  EXPECT_NEAR(expected_tokens(0.5, 0), 1, 1e-12);
  EXPECT_NEAR(expected_tokens(0.5, 1), 1.5, 1e-12);
  EXPECT_NEAR(expected_tokens(0.5, 3), 1.875, 1e-12);
  EXPECT_NEAR(expected_tokens(0.9, 2), 1 + 0.9 + 0.81, 1e-12);
}

TEST(SpeculationGate, GuessesMoreWhereGuessesAreRightAndRowsAreCheap) {
  StepCost cheap;
  StepCost dear;
  for (int rows = 1; rows <= 32; ++rows) {
    cheap.observe(rows, 0, 30 + 0.5 * rows);
    dear.observe(rows, 0, 5 + 30.0 * rows);
  }
  EXPECT_EQ(choose_drafts(cheap, 0.95, 15, 1, 0), 15);
  EXPECT_LT(choose_drafts(cheap, 0.6, 15, 1, 0), 8);
  EXPECT_GE(choose_drafts(cheap, 0.6, 15, 1, 0), 2);
  EXPECT_EQ(choose_drafts(dear, 0.8, 15, 1, 0), 0);
  EXPECT_EQ(choose_drafts(cheap, 0.95, 0, 1, 0), 0) << "no room";
  EXPECT_EQ(choose_drafts(StepCost(), 0.95, 15, 1, 0), 0) << "nothing is known yet";
  EXPECT_LT(choose_drafts(cheap, 0.8, 15, 64, 63), choose_drafts(cheap, 0.8, 15, 1, 0));
}

// 16 rows that cost as much together as the step itself: what others guess makes every millisecond
// of the step worth more, so that a guess which is as good as theirs alone is not as good any more.
TEST(SpeculationGate, CountsWhatOthersGuess) {
  StepCost cost;
  for (int rows = 1; rows <= 64; ++rows) cost.observe(rows, 0, 12 + 0.75 * rows);
  const double rate = 0.7;
  const int rows = 16 + 15 * 3;
  const double others_tokens = 15 * expected_tokens(0.95, 3);
  EXPECT_GT(choose_drafts(cost, rate, 15, 16, 15), 0);
  // Each token of the step costs 1.02 ms, a guess 0.75 and is right in 70 of 100: 1.07 ms a token.
  EXPECT_EQ(choose_drafts(cost, rate, 15, rows, others_tokens), 0);
}

TEST(SpeculationGate, GuessesOnlyWhereTheReadingIsRepaidAndTheStepKeepsItsTime) {
  StepCost cost;
  for (int rows = 1; rows <= 32; ++rows) cost.observe(rows, 0, 30 + 0.5 * rows);
  const GuessCost cheap = {.guess_ms = 2};
  const int free_choice = choose_drafts(cost, 0.8, 8, 1, 0, cheap);
  EXPECT_GE(free_choice, 2);
  EXPECT_EQ(
      choose_drafts(cost, 0.8, 8, 1, 0, {.guess_ms = 2, .read_ms = 500, .answer_tokens = 200}),
      free_choice);
  EXPECT_EQ(choose_drafts(cost, 0.8, 8, 1, 0, {.guess_ms = 2, .read_ms = 500, .answer_tokens = 5}),
            0);
  const int within = choose_drafts(cost, 0.8, 8, 1, 0, {.guess_ms = 2, .most_ms = 36});
  EXPECT_EQ(within, 2) << "30.5 ms and 2.5 for each";
}

TEST(SpeculationGate, LearnsFromWhatWasRightAndForgets) {
  Acceptance acceptance;
  const double prior = acceptance.rate();
  for (int i = 0; i < 10; ++i) acceptance.observe(4, 4);
  EXPECT_GT(acceptance.rate(), 0.95);
  for (int i = 0; i < 20; ++i) acceptance.observe(4, 0);
  EXPECT_LT(acceptance.rate(), 0.35);
  for (int i = 0; i < 500; ++i) acceptance.fade();
  EXPECT_NEAR(acceptance.rate(), prior, 0.01) << "later it is worth another try";
}

}  // namespace
}  // namespace ridge::engine::speculation_test
