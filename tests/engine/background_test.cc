// Work that is done only while there is no other.
#include <gtest/gtest.h>

#include <vector>

#include "engine/scheduler_fixture.h"

namespace ridge::engine::background_test {
namespace {

using State = Sequence::State;

const SequenceOwner background{.priority = background_priority};

std::vector<Sequence*> sequences_of(const Batch& batch) {
  std::vector<Sequence*> sequences;
  for (const Chunk& chunk : batch) sequences.push_back(chunk.sequence);
  return sequences;
}

TEST(Background, HasNoPartInAStepBesideOthersAndGoesOnBehindThem) {
  SchedulerFixture f(100, {.step_tokens = 32, .max_sequences = 4});
  Sequence& decoding = f.add(5, background);
  f.step();
  Sequence& prompt = f.add(60, background);
  f.step();
  ASSERT_EQ(prompt.computed_tokens, 31);
  const int computed = decoding.computed_tokens;
  Sequence& other = f.add(40);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(sequences_of(f.step()), std::vector{&other}) << "its whole prompt, then its answer";
  }
  EXPECT_EQ(other.computed_tokens, 40 + 3);
  EXPECT_EQ(decoding.computed_tokens, computed);
  EXPECT_EQ(decoding.state, State::running) << "and keeps what it has";
  EXPECT_EQ(prompt.computed_tokens, 31);
  EXPECT_EQ(f.scheduler.preemptions_total(), 0u);
  EXPECT_EQ(f.scheduler.decoding(), 1) << "those of the next step";
  f.scheduler.remove(other);
  EXPECT_EQ(f.scheduler.decoding(), 1);
  EXPECT_EQ(sequences_of(f.step()), (std::vector{&decoding, &prompt}));
}

TEST(Background, IsNotAdmittedWhileOthersRunOrWait) {
  SchedulerFixture f(100, {.step_tokens = 32, .max_sequences = 4});
  Sequence& other = f.add(4);
  Sequence& waiting = f.add(4, background);
  EXPECT_TRUE(f.scheduler.has_foreground());
  EXPECT_EQ(sequences_of(f.step()), std::vector{&other});
  EXPECT_EQ(waiting.state, State::waiting);
  f.scheduler.remove(other);
  EXPECT_FALSE(f.scheduler.has_foreground());
  EXPECT_EQ(sequences_of(f.step()), std::vector{&waiting});
}

TEST(Background, GivesPlacesToWhoeverComes) {
  SchedulerFixture f(100, {.step_tokens = 32, .max_sequences = 2});
  Sequence& first = f.add(4, background);
  Sequence& second = f.add(4, background);
  f.step();
  ASSERT_EQ(f.scheduler.running(), 2);
  Sequence& other = f.add(4);
  EXPECT_EQ(sequences_of(f.step()), std::vector{&other}) << "in the very next step";
  EXPECT_EQ(first.state, State::running);
  EXPECT_EQ(second.state, State::waiting);
}

TEST(Background, GivesAllItsBlocksToWhoeverNeedsThemAtOnce) {
  SchedulerFixture f(12, {.step_tokens = 64, .max_sequences = 4, .block_tokens = 4});
  for (int i = 0; i < 3; ++i) f.add(12, background);
  f.step();
  ASSERT_EQ(f.scheduler.running(), 3);
  Sequence& other = f.add(44);  // eleven blocks
  EXPECT_EQ(sequences_of(f.step()), std::vector{&other});
  EXPECT_EQ(other.computed_tokens, 44);
  f.scheduler.remove(other);
  while (f.scheduler.running() > 0 || f.scheduler.waiting() > 0) {
    const Batch batch = f.step();
    ASSERT_FALSE(batch.empty());
    for (const Chunk& chunk : batch) {
      if (chunk.sequence->tokens.size() > 16) f.scheduler.remove(*chunk.sequence);
    }
  }
}

TEST(Background, TakesTurnsByGroupAmongItself) {
  SchedulerFixture f(100, {.step_tokens = 8, .max_sequences = 1});
  const SequenceOwner a{.priority = background_priority, .group = "a"};
  const SequenceOwner b{.priority = background_priority, .group = "b"};
  std::vector<Sequence*> first = {&f.add(8, a), &f.add(8, a), &f.add(8, b)};
  std::vector<Sequence*> order;
  while (f.scheduler.waiting() + f.scheduler.running() > 0) {
    const Batch batch = f.step();
    order.push_back(batch[0].sequence);
    f.scheduler.remove(*batch[0].sequence);
  }
  EXPECT_EQ(order, (std::vector{first[0], first[2], first[1]}));
}

}  // namespace
}  // namespace ridge::engine::background_test
