#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include "engine/scheduler_fixture.h"

namespace ridge::engine {
namespace {

using State = Sequence::State;

TEST(Scheduler, SplitsALongPromptIntoChunksOfTheBudget) {
  SchedulerFixture f(100, {.step_tokens = 32, .max_sequences = 4});
  Sequence& a = f.add(70);
  std::vector<int> counts;
  for (int i = 0; i < 4; ++i) {
    const Batch batch = f.step();
    ASSERT_EQ(batch.size(), 1u);
    counts.push_back(batch[0].count);
    EXPECT_EQ(batch[0].reaches_end, i >= 2);
  }
  EXPECT_EQ(counts, (std::vector<int>{32, 32, 6, 1}));
  EXPECT_EQ(a.computed_tokens, 71);
}

TEST(Scheduler, DecodingContinuesWhileAPromptIsComputed) {
  SchedulerFixture f(100, {.step_tokens = 16, .max_sequences = 4});
  Sequence& a = f.add(5);
  f.step();
  Sequence& b = f.add(100);
  for (int i = 0; i < 6; ++i) {
    const Batch batch = f.step();
    ASSERT_EQ(batch.size(), 2u);
    EXPECT_EQ(batch[0].sequence, &a) << "decoding rows come first";
    EXPECT_EQ(batch[0].count, 1);
    EXPECT_EQ(batch[1].sequence, &b);
    EXPECT_EQ(batch[1].count, 15) << "the prompt gets the rest of the budget";
  }
}

TEST(Scheduler, PacksSeveralPromptsIntoOneStep) {
  SchedulerFixture f(100, {.step_tokens = 32, .max_sequences = 4});
  f.add(10);
  f.add(10);
  f.add(20);
  const Batch batch = f.step();
  ASSERT_EQ(batch.size(), 3u);
  EXPECT_EQ(batch[2].count, 12);
  EXPECT_FALSE(batch[2].reaches_end);
}

TEST(Scheduler, AdmitsByPriorityThenArrival) {
  SchedulerFixture f(100, {.step_tokens = 8, .max_sequences = 1});
  Sequence& first = f.add(4);
  Sequence& second = f.add(4);
  Sequence& urgent = f.add(4, /*priority=*/5);
  std::vector<Sequence*> order;
  while (f.scheduler.waiting() + f.scheduler.running() > 0) {
    const Batch batch = f.step();
    order.push_back(batch[0].sequence);
    f.scheduler.remove(*batch[0].sequence);
  }
  EXPECT_EQ(order, (std::vector<Sequence*>{&urgent, &first, &second}));
}

TEST(Scheduler, KeepsToMaxSequences) {
  SchedulerFixture f(100, {.step_tokens = 64, .max_sequences = 3});
  for (int i = 0; i < 5; ++i) f.add(4);
  f.step();
  EXPECT_EQ(f.scheduler.running(), 3);
  EXPECT_EQ(f.scheduler.waiting(), 2);
}

TEST(Scheduler, PreemptsTheYoungestWhenBlocksRunOutAndComputesItAgain) {
  // 4 blocks of 4 tokens; two sequences of 7 tokens hold 2 blocks each and soon need a third.
  SchedulerFixture f(4, {.step_tokens = 16, .max_sequences = 2, .block_tokens = 4});
  Sequence& old = f.add(7);
  f.step();
  Sequence& young = f.make(3);
  f.scheduler.add(young);
  f.step();
  ASSERT_EQ(f.scheduler.running(), 2);
  while (f.scheduler.preemptions_total() == 0) f.step();
  EXPECT_EQ(old.state, State::running);
  EXPECT_EQ(young.state, State::waiting);
  EXPECT_EQ(young.computed_tokens, 0);
  EXPECT_TRUE(young.blocks.blocks().empty());
  f.scheduler.remove(old);
  const int tokens = static_cast<int>(young.tokens.size());
  const Batch batch = f.step();
  ASSERT_EQ(batch.size(), 1u);
  EXPECT_EQ(batch[0].sequence, &young);
  EXPECT_EQ(batch[0].first, 0);
  EXPECT_EQ(batch[0].count, tokens) << "prompt and generated tokens alike";
}

TEST(Scheduler, HigherPriorityKeepsItsBlocksEvenWhenYounger) {
  SchedulerFixture f(4, {.step_tokens = 16, .max_sequences = 2, .block_tokens = 4});
  Sequence& ordinary = f.add(3);
  Sequence& urgent = f.add(3, /*priority=*/1);
  while (f.scheduler.preemptions_total() == 0) f.step();
  EXPECT_EQ(urgent.state, State::running);
  EXPECT_EQ(ordinary.state, State::waiting);
}

TEST(Scheduler, ANewcomerDoesNotTakeTheBlocksThatRunningSequencesNeedNext) {
  SchedulerFixture f(5, {.step_tokens = 16, .max_sequences = 4, .block_tokens = 4});
  f.add(8);
  f.step();
  f.add(8);
  f.step();
  EXPECT_EQ(f.scheduler.running(), 1);
  EXPECT_EQ(f.scheduler.waiting(), 1);
}

TEST(Scheduler, RemoveFreesBlocksInEveryState) {
  SchedulerFixture f(8, {.step_tokens = 16, .max_sequences = 1, .block_tokens = 4});
  Sequence& running = f.add(20);
  Sequence& waiting = f.add(4);
  f.step();
  EXPECT_EQ(f.pool.blocks_free(), 3);
  f.scheduler.remove(running);
  EXPECT_EQ(f.pool.blocks_free(), 8);
  f.scheduler.remove(waiting);
  f.scheduler.remove(waiting);
  EXPECT_EQ(f.scheduler.waiting() + f.scheduler.running(), 0);
  EXPECT_TRUE(f.scheduler.schedule().empty());
}

TEST(Scheduler, ASequenceMayComeWithBlocksThatItShares) {
  SchedulerFixture f(8, {.step_tokens = 16, .max_sequences = 2, .block_tokens = 4});
  Sequence& leader = f.add(10);
  f.step();
  Sequence& sibling = f.make(10);
  sibling.blocks.share_prefix(leader.blocks, 2);
  sibling.computed_tokens = 8;
  f.scheduler.add(sibling);
  EXPECT_EQ(f.pool.blocks_free(), 5);
  const Batch batch = f.step();
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch[1].first, 8);
  EXPECT_EQ(batch[1].count, 2);
  EXPECT_EQ(f.pool.blocks_free(), 4) << "only the tail has a block of its own";
  EXPECT_NE(sibling.blocks.blocks()[2], leader.blocks.blocks()[2]);
}

TEST(Scheduler, WaitingSharersGiveUpBlocksBeforeAnyoneIsPreempted) {
  // The leader ends; only the waiting sibling holds its two blocks. Another needs them.
  SchedulerFixture f(5, {.step_tokens = 16, .max_sequences = 1, .block_tokens = 4});
  Sequence& leader = f.add(8);
  f.step();
  Sequence& sibling = f.make(9);
  sibling.blocks.share_prefix(leader.blocks, 2);
  sibling.computed_tokens = 8;
  f.scheduler.add(sibling);
  f.scheduler.remove(leader);
  Sequence& urgent = f.add(16, /*priority=*/1);
  f.step();
  EXPECT_EQ(urgent.state, State::running);
  EXPECT_EQ(sibling.computed_tokens, 0);
  EXPECT_TRUE(sibling.blocks.blocks().empty());
  EXPECT_EQ(f.scheduler.preemptions_total(), 0u);
}

}  // namespace
}  // namespace ridge::engine
