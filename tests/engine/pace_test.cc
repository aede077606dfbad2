#include "engine/pace.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/speculation_gate.h"

namespace ridge::engine::pace_test {
namespace {

// A machine on which a decoding step takes 20 ms and 2 ms a row, and a prompt token 1.5 ms.
StepCost learned() {
  StepCost cost;
  for (int i = 0; i < 60; ++i) {
    const int rows = 1 + i % 8;
    cost.observe(rows, 0, 20.0 + 2.0 * rows);
    cost.observe(rows, 64, 20.0 + 2.0 * rows + 1.5 * 64);
  }
  return cost;
}

TEST(StepCost, FindsTheLineOfDecodingSteps) {
  const StepCost cost = learned();
  EXPECT_NEAR(cost.decode_ms(1), 22, 0.1);
  EXPECT_NEAR(cost.decode_ms(8), 36, 0.1);
  EXPECT_NEAR(cost.decode_ms(16), 52, 0.1);
  EXPECT_NEAR(cost.prompt_token_ms(), 1.5, 0.05);
}

TEST(StepCost, SaysThatRowsCostNothingUntilItHasSeenOthers) {
  StepCost cost;
  EXPECT_FALSE(cost.knows_decoding());
  cost.observe(1, 0, 30);
  cost.observe(1, 0, 34);
  EXPECT_NEAR(cost.decode_ms(16), 32, 0.1);
}

// The first step with guesses may wait for memory; that must not make guesses dear for the rest of
// an answer, in which, once they are too dear, no further step would show that they are not.
TEST(StepCost, OneSlowStepDoesNotMakeGuessesDear) {
  StepCost cost;
  for (int i = 0; i < 4; ++i) cost.observe(1, 0, 2.6);
  cost.observe(16, 0, 54);
  EXPECT_GT(choose_drafts(cost, 0.9, 15, 1, 0), 3);
  for (int i = 0; i < 20; ++i) cost.observe(16, 0, 13.8);
  EXPECT_NEAR(cost.decode_ms(16), 13.8, 1);
  EXPECT_GT(choose_drafts(cost, 0.9, 15, 1, 0), 3);
}

TEST(StepCost, FollowsAMachineThatSlowsDown) {
  StepCost cost = learned();
  for (int i = 0; i < 200; ++i) cost.observe(1 + i % 8, 0, 100);
  EXPECT_NEAR(cost.decode_ms(4), 100, 5);
}

TEST(Pace, LetsInWhatFitsTheTarget) {
  const StepCost cost = learned();
  const Pace pace(/*itl_target_ms=*/120, /*step_tokens=*/512);
  // 4 rows take 28 ms; 92 ms are left.
  EXPECT_NEAR(pace.prompt_tokens(cost, 4), 61, 3);
  EXPECT_EQ(pace.prompt_tokens(cost, 0), 512) << "nobody waits";
  EXPECT_EQ(Pace(10, 512).prompt_tokens(cost, 4), Pace::least_tokens) << "prompts go on";
  EXPECT_EQ(Pace(1e6, 512).prompt_tokens(cost, 4), 512);
  EXPECT_EQ(Pace(0, 512).prompt_tokens(cost, 4), 512) << "without a target";
  EXPECT_EQ(pace.prompt_tokens(StepCost(), 4), Pace::first_tokens);
  EXPECT_EQ(Pace(10, 8).prompt_tokens(cost, 4), 8) << "a small budget";
}

TEST(Pace, LeavesHalfOfTheRoomToPromptsWhereThereAreSome) {
  const StepCost cost = learned();
  const Pace pace(/*itl_target_ms=*/120, /*step_tokens=*/512);
  EXPECT_NEAR(pace.most_ms(cost, 4, /*has_prompts=*/false), 120, 0.1);
  EXPECT_NEAR(pace.most_ms(cost, 4, /*has_prompts=*/true), 28 + (120 - 28) / 2.0, 0.1);
  EXPECT_TRUE(std::isinf(Pace(10, 512).most_ms(cost, 4, /*has_prompts=*/true)));
  EXPECT_TRUE(std::isinf(Pace(0, 512).most_ms(cost, 4, /*has_prompts=*/true)));
}

}  // namespace
}  // namespace ridge::engine::pace_test
