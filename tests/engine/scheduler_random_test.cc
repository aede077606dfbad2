// Random arrivals, endings and cancellations,
// with the scheduler's promises checked after every step.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "engine/scheduler_fixture.h"

namespace ridge::engine {
namespace {

class RandomRun {
 public:
  explicit RandomRun(uint32_t seed) : random_(seed), f_(pick(8, 40), limits()) {
    longest_ = f_.pool.blocks_total() * f_.limits.block_tokens;
  }

  void run() {
    const int arrivals = pick(3, 20);
    int arrived = 0;
    for (int step = 0; arrived < arrivals || !live_.empty(); ++step) {
      ASSERT_LT(step, 20000) << "no progress";
      while (arrived < arrivals && pick(0, 2) == 0) {
        arrive();
        ++arrived;
      }
      if (!live_.empty() && pick(0, 15) == 0) end(random_live());
      const Batch batch = f_.scheduler.schedule();
      check(batch);
      if (testing::Test::HasFatalFailure()) return;
      f_.scheduler.complete(batch);
      grow(batch);
      ++steps;
    }
    EXPECT_EQ(f_.pool.blocks_free(), f_.pool.blocks_total()) << "a block leaked";
    EXPECT_EQ(f_.scheduler.running() + f_.scheduler.waiting(), 0);
    preemptions = f_.scheduler.preemptions_total();
  }

  uint64_t steps = 0;
  uint64_t preemptions = 0;
  int forks = 0;

 private:
  int pick(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<uint32_t>(high - low + 1));
  }
  SchedulerLimits limits() {
    const int max_sequences = pick(1, 6);
    return {.step_tokens = max_sequences + pick(0, 40),
            .max_sequences = max_sequences,
            .block_tokens = 1 << pick(0, 4)};
  }
  Sequence* random_live() {
    auto it = live_.begin();
    std::advance(it, pick(0, static_cast<int>(live_.size()) - 1));
    return it->first;
  }

  void arrive() {
    const int prompt = pick(1, std::max(1, longest_ - 1));
    Sequence& sequence = f_.add(prompt, /*priority=*/pick(0, 1));
    live_[&sequence] = pick(prompt + 1, longest_ + 1);  // ends with so many tokens
  }
  // As choices of one prompt do it.
  void fork(Sequence& leader) {
    const int tokens = static_cast<int>(leader.tokens.size());
    Sequence& sibling = f_.make(tokens, leader.priority);
    const int shared = (tokens - 1) / f_.limits.block_tokens;
    sibling.blocks.share_prefix(leader.blocks, shared);
    sibling.computed_tokens = shared * f_.limits.block_tokens;
    f_.scheduler.add(sibling);
    live_[&sibling] = pick(tokens + 1, longest_ + 1);
  }
  void end(Sequence* sequence) {
    f_.scheduler.remove(*sequence);
    EXPECT_TRUE(sequence->blocks.blocks().empty());
    live_.erase(sequence);
  }
  void grow(const Batch& batch) {
    for (const Chunk& chunk : batch) {
      if (!chunk.reaches_end) continue;
      Sequence& sequence = *chunk.sequence;
      if (forks < 5 && pick(0, 20) == 0) {
        ++forks;
        fork(sequence);
      }
      sequence.tokens.push_back(1);
      if (static_cast<int>(sequence.tokens.size()) >= live_.at(&sequence)) end(&sequence);
    }
  }

  void check(const Batch& batch) {
    int tokens = 0;
    std::set<Sequence*> in_batch;
    for (const Chunk& chunk : batch) {
      Sequence& s = *chunk.sequence;
      ASSERT_TRUE(live_.count(&s)) << "an ended sequence was scheduled";
      ASSERT_TRUE(in_batch.insert(&s).second);
      ASSERT_EQ(s.state, Sequence::State::running);
      ASSERT_EQ(chunk.first, s.computed_tokens);
      ASSERT_GE(chunk.count, 1);
      ASSERT_LE(chunk.count, s.pending_tokens());
      ASSERT_EQ(chunk.reaches_end, chunk.count == s.pending_tokens());
      ASSERT_GE(s.blocks.capacity_tokens(), chunk.first + chunk.count) << "no block for its keys";
      tokens += chunk.count;
    }
    ASSERT_LE(tokens, f_.limits.step_tokens);
    ASSERT_LE(f_.scheduler.running(), f_.limits.max_sequences);
    ASSERT_EQ(f_.scheduler.running() + f_.scheduler.waiting(), static_cast<int>(live_.size()));
    ASSERT_EQ(batch.empty(), live_.empty());
    std::map<int32_t, int> holders;
    for (auto& [s, end] : live_) {
      if (s->state == Sequence::State::running && s->pending_tokens() == 1) {
        ASSERT_TRUE(in_batch.count(s)) << "a decoding sequence missed a step";
      }
      for (kvcache::BlockId block : s->blocks.blocks()) ++holders[block.value];
      // Blocks that a step writes are its sequence's own.
      for (size_t i = static_cast<size_t>(s->computed_tokens / f_.limits.block_tokens);
           i < s->blocks.blocks().size(); ++i) {
        ASSERT_EQ(f_.pool.references(s->blocks.blocks()[i]), 1);
      }
    }
    for (auto [block, count] : holders) {
      ASSERT_EQ(f_.pool.references(kvcache::BlockId{block}), count);
    }
    ASSERT_EQ(f_.pool.blocks_free(), f_.pool.blocks_total() - static_cast<int>(holders.size()))
        << "a block leaked";
  }

  std::mt19937 random_;
  SchedulerFixture f_;
  int longest_ = 0;
  std::map<Sequence*, int> live_;
};

TEST(SchedulerRandom, KeepsItsPromisesOverManySeeds) {
  uint64_t steps = 0;
  uint64_t preemptions = 0;
  int forks = 0;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomRun run(seed);
    run.run();
    if (HasFailure()) return;
    steps += run.steps;
    preemptions += run.preemptions;
    forks += run.forks;
  }
  // The runs must reach what they are there to test.
  EXPECT_GT(steps, 100000u);
  EXPECT_GT(preemptions, 1000u);
  EXPECT_GT(forks, 1000);
}

}  // namespace
}  // namespace ridge::engine
