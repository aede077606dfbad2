#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "engine/scheduler_fixture.h"

namespace ridge::engine::scheduler_test {
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

TEST(Scheduler, TellsWhetherPromptsWantAPartOfTheNextStep) {
  SchedulerFixture f(100, {.step_tokens = 8, .max_sequences = 2});
  EXPECT_FALSE(f.scheduler.has_prompts()) << "nobody is there";
  f.add(12);
  EXPECT_TRUE(f.scheduler.has_prompts()) << "it waits, and there is a place";
  f.step();
  EXPECT_TRUE(f.scheduler.has_prompts()) << "a chunk is left";
  f.step();
  EXPECT_FALSE(f.scheduler.has_prompts()) << "it decodes";
  f.add(4, {.priority = background_priority});
  EXPECT_FALSE(f.scheduler.has_prompts()) << "a background prompt has no part beside others";
  f.add(4);
  f.step();
  f.add(4);
  EXPECT_FALSE(f.scheduler.has_prompts()) << "all places are taken";
}

TEST(Scheduler, AdmitsByPriorityThenArrival) {
  SchedulerFixture f(100, {.step_tokens = 8, .max_sequences = 1});
  Sequence& first = f.add(4);
  Sequence& second = f.add(4);
  Sequence& urgent = f.add(4, {.priority = 5});
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
  EXPECT_EQ(batch[0].first + batch[0].count, tokens) << "prompt and generated tokens alike";
  EXPECT_TRUE(batch[0].reaches_end);
}

TEST(Scheduler, HigherPriorityKeepsItsBlocksEvenWhenYounger) {
  SchedulerFixture f(4, {.step_tokens = 16, .max_sequences = 2, .block_tokens = 4});
  Sequence& ordinary = f.add(3);
  Sequence& urgent = f.add(3, {.priority = 1});
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
  EXPECT_EQ(f.pool.blocks_available(), 3);
  f.scheduler.remove(running);
  EXPECT_EQ(f.pool.blocks_available(), 8);
  f.scheduler.remove(waiting);
  f.scheduler.remove(waiting);
  EXPECT_EQ(f.scheduler.waiting() + f.scheduler.running(), 0);
  EXPECT_TRUE(f.scheduler.schedule().empty());
}

TEST(Scheduler, AForkSharesFullBlocksAndCopiesTheLast) {
  SchedulerFixture f(8, {.step_tokens = 16, .max_sequences = 2, .block_tokens = 4});
  Sequence& leader = f.add(10);
  f.step();
  std::vector<int32_t> tokens = leader.tokens;
  tokens.back() = 99;
  Sequence& sibling = f.make(tokens, {});
  const auto copy = f.scheduler.fork(leader, sibling);
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->from, leader.blocks.blocks()[2]);
  EXPECT_EQ(copy->to, sibling.blocks.blocks()[2]);
  EXPECT_EQ(f.pool.blocks_free(), 4) << "only the tail has a block of its own";
  const Batch batch = f.step();
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch[1].first, 10) << "nothing is computed again";
  EXPECT_EQ(batch[1].count, 1);
}

TEST(Scheduler, AForkWithoutAPlaceWaitsAndThenFindsThePrefixInTheCache) {
  SchedulerFixture f(16, {.step_tokens = 16, .max_sequences = 1, .block_tokens = 4});
  Sequence& leader = f.add(10);
  f.step();
  Sequence& sibling = f.make(leader.tokens, {});
  EXPECT_FALSE(f.scheduler.fork(leader, sibling));
  EXPECT_EQ(sibling.state, State::waiting);
  f.scheduler.remove(leader);
  const Batch batch = f.step();
  ASSERT_EQ(batch.size(), 1u);
  EXPECT_EQ(batch[0].first, 8);
}

TEST(Scheduler, AForkTakesNoPlaceFromWhoRanksBefore) {
  SchedulerFixture f(100, {.step_tokens = 10, .max_sequences = 2, .block_tokens = 4});
  Sequence& leader = f.add(10, {.group = "a"});
  f.step();
  Sequence& other = f.add(10, {.group = "b"});
  Sequence& sibling = f.make(leader.tokens, {.group = "a"});
  EXPECT_FALSE(f.scheduler.fork(leader, sibling));
  EXPECT_EQ(sibling.state, State::waiting) << "its group was served already";
  f.step();
  EXPECT_EQ(other.state, State::running);
  EXPECT_EQ(sibling.state, State::waiting);
}

TEST(Scheduler, APromptHoldsWhatTheCacheKnowsOfIt) {
  SchedulerFixture f(64, {.step_tokens = 64, .max_sequences = 4, .block_tokens = 4});
  Sequence& first = f.add(40);
  f.step();
  f.scheduler.remove(first);
  Sequence& again = f.make(std::vector<int32_t>(40, first.tokens[0]), {});
  f.scheduler.add(again);
  const Batch batch = f.step();
  EXPECT_EQ(batch[0].first, 36);
  EXPECT_EQ(again.cached_tokens, 36);
  Sequence& other_root = f.make(std::vector<int32_t>(40, first.tokens[0]), {.cache_root = "x"});
  f.scheduler.add(other_root);
  EXPECT_EQ(f.step().back().first, 0);
  Sequence& scored = f.make(std::vector<int32_t>(40, first.tokens[0]), {});
  scored.wants_all_outputs = true;
  f.scheduler.add(scored);
  EXPECT_EQ(f.step().back().first, 0) << "what is not computed has no logits";
}

TEST(Scheduler, AStepWithDecodingKeepsToThePromptsBudget) {
  SchedulerFixture f(100, {.step_tokens = 64, .max_sequences = 4});
  f.add(8);
  EXPECT_EQ(f.scheduler.schedule(/*prompt_tokens=*/5).front().count, 8) << "nobody waits for it";
  SchedulerFixture g(100, {.step_tokens = 64, .max_sequences = 4});
  g.add(8);
  g.step();
  g.add(50);
  const Batch batch = g.scheduler.schedule(/*prompt_tokens=*/5);
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch[1].count, 5);
}

TEST(Scheduler, AGroupThatSendsMuchDoesNotHoldUpAnother) {
  SchedulerFixture f(1000, {.step_tokens = 32, .max_sequences = 8});
  for (int i = 0; i < 20; ++i) f.add(100, {.group = "much"});
  for (int i = 0; i < 10; ++i) f.step();
  Sequence& little = f.add(30, {.group = "little"});
  Batch batch = f.step();
  EXPECT_EQ(batch.back().sequence, &little) << "its first chunk comes in the next step";
  for (int i = 0; i < 3 && little.pending_tokens() > 1; ++i) f.step();
  EXPECT_EQ(little.pending_tokens(), 1);
}

TEST(Scheduler, AGroupAboveItsShareOfPlacesGivesOneUp) {
  SchedulerFixture f(1000, {.step_tokens = 64, .max_sequences = 4});
  for (int i = 0; i < 6; ++i) f.add(4, {.group = "much"});
  f.step();
  ASSERT_EQ(f.scheduler.running(), 4);
  Sequence& little = f.add(4, {.group = "little"});
  f.step();
  EXPECT_EQ(little.state, State::running);
  EXPECT_EQ(f.scheduler.preemptions_total(), 1u);
  for (int i = 0; i < 50; ++i) f.step();
  EXPECT_EQ(f.scheduler.preemptions_total(), 1u) << "nobody is displaced back and forth";
}

TEST(Scheduler, AHigherPriorityTakesThePlaceOfALowerOne) {
  SchedulerFixture f(100, {.step_tokens = 8, .max_sequences = 1});
  Sequence& ordinary = f.add(4);
  f.step();
  Sequence& urgent = f.add(4, {.priority = 1});
  f.step();
  EXPECT_EQ(urgent.state, State::running);
  EXPECT_EQ(ordinary.state, State::waiting);
}

TEST(Scheduler, TheEarlierDeadlineComesFirstWithinAGroup) {
  SchedulerFixture f(100, {.step_tokens = 8, .max_sequences = 1});
  const auto at = [](int ms) { return Clock::TimePoint() + std::chrono::milliseconds(ms); };
  f.add(4);
  Sequence& late = f.add(4, {.deadline = at(200)});
  Sequence& early = f.add(4, {.deadline = at(100)});
  EXPECT_EQ(f.step()[0].sequence, &early);
  f.scheduler.remove(early);
  EXPECT_EQ(f.step()[0].sequence, &late);
}

TEST(Scheduler, ServesGroupsByTheirWeights) {
  SchedulerFixture f(4000, {.step_tokens = 16, .max_sequences = 2});
  std::map<std::string, int> tokens;
  std::map<std::string, Sequence*> live;
  const std::map<std::string, double> weights = {{"one", 1.0}, {"three", 3.0}};
  for (int step = 0; step < 4000; ++step) {
    for (const auto& [name, weight] : weights) {
      Sequence*& sequence = live[name];
      if (sequence != nullptr && sequence->pending_tokens() <= 1) {
        f.scheduler.remove(*sequence);
        sequence = nullptr;
      }
      if (sequence == nullptr) sequence = &f.add(50, {.group = name, .weight = weight});
    }
    const Batch batch = f.scheduler.schedule();
    for (const Chunk& chunk : batch) tokens[chunk.sequence->owner.group] += chunk.count;
    f.scheduler.complete(batch);
  }
  EXPECT_NEAR(tokens["three"] / static_cast<double>(tokens["one"]), 3.0, 0.1);
}

TEST(Scheduler, GuessesAreComputedWithTheirSequenceAndCountOnlyWhenAccepted) {
  SchedulerFixture f(100, {.step_tokens = 16, .max_sequences = 2, .outputs = 8});
  Sequence& a = f.add(5);
  f.step();
  a.draft = {7, 8, 9};
  const Batch batch = f.scheduler.schedule();
  ASSERT_EQ(batch.size(), 1u);
  EXPECT_EQ(batch[0].count, 4);
  EXPECT_EQ(batch[0].drafts, 3);
  EXPECT_EQ(batch[0].outputs, 4);
  EXPECT_GE(a.blocks.capacity_tokens(), 9);
  f.scheduler.complete(batch);
  EXPECT_EQ(a.computed_tokens, 6);
  f.scheduler.accept_draft(a, 7);
  a.tokens.push_back(3);
  EXPECT_EQ(a.pending_tokens(), 1);
  EXPECT_EQ(f.scheduler.schedule()[0].first, 7);
}

TEST(Scheduler, AGroupIsChargedForGuessesThatAreAcceptedAlone) {
  SchedulerFixture f(100, {.step_tokens = 16, .max_sequences = 2, .outputs = 8});
  Sequence& a = f.add(5, {.group = "g", .weight = 2});
  f.step();
  const double before = f.scheduler.service("g");
  a.draft = {7, 8, 9};
  f.scheduler.complete(f.scheduler.schedule());
  EXPECT_EQ(f.scheduler.service("g") - before, Scheduler::decode_cost / 2) << "as without guesses";
  f.scheduler.accept_draft(a, 7);
  EXPECT_EQ(f.scheduler.service("g") - before, Scheduler::decode_cost);
}

TEST(Scheduler, GuessesLeaveRowsToAPromptThatIsScored) {
  SchedulerFixture f(100,
                     {.step_tokens = 64, .max_sequences = 2, .outputs = 14, .scoring_outputs = 8});
  Sequence& decoding = f.add(1);
  f.step();
  Sequence& scored = f.make(30);
  scored.wants_all_outputs = true;
  f.scheduler.add(scored);
  decoding.draft.assign(12, 7);
  const Batch batch = f.scheduler.schedule();
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch[0].drafts, 4);
  EXPECT_EQ(batch[1].count, 9) << "the kept rows, and the one that each sequence has";
  EXPECT_EQ(batch[1].outputs, 9);
}

// Keeps nothing but the promise to have kept it.
class CountingSpill final : public kvcache::SpillStore {
 public:
  int64_t save(kvcache::BlockId) override { return saved++; }
  bool load(int64_t, kvcache::BlockId) override { return ++loads > 0; }
  void forget(int64_t) override {}
  int64_t saved = 0;
  int loads = 0;
};

// The prompt of 101 tokens 1 was computed, and its 25 full blocks are kept outside of the pool
// alone.
struct SpilledPrompt {
  static constexpr SchedulerLimits limits = {
      .step_tokens = 200, .max_sequences = 4, .block_tokens = 4};

  explicit SpilledPrompt(int blocks) : pool(blocks) {
    Sequence first = make(101, 1);
    scheduler.add(first);
    scheduler.complete(scheduler.schedule());
    scheduler.remove(first);
    cache.reclaim(25);
  }
  Sequence make(int tokens, int32_t token, int priority = 0) {
    return Sequence(SequenceId{next_id++}, {.priority = priority},
                    std::vector<int32_t>(static_cast<size_t>(tokens), token),
                    kvcache::BlockTable(pool, limits.block_tokens));
  }

  CountingSpill spill;
  kvcache::BlockPool pool;
  kvcache::PrefixCache cache{pool, limits.block_tokens, &spill};
  Scheduler scheduler{pool, cache, limits};
  uint64_t next_id = 0;
};

TEST(Scheduler, BlocksComeBackWithinThePromptsBudget) {
  SpilledPrompt f(64);
  ASSERT_EQ(f.cache.blocks_spilled(), 25);
  Sequence decoding = f.make(1, 2);
  f.scheduler.add(decoding);
  f.scheduler.complete(f.scheduler.schedule());
  decoding.tokens.push_back(3);
  Sequence again = f.make(101, 1);
  f.scheduler.add(again);
  int steps = 0;
  int computed = 0;
  while (again.pending_tokens() > 0 && steps < 50) {
    const int before = f.spill.loads;
    const Batch batch = f.scheduler.schedule(/*prompt_tokens=*/10);
    EXPECT_LE(f.spill.loads - before, 3) << "blocks of the 10 tokens";
    EXPECT_EQ(batch[0].sequence, &decoding) << "which misses no step";
    for (const Chunk& chunk : batch) computed += chunk.sequence == &again ? chunk.count : 0;
    f.scheduler.complete(batch);
    decoding.tokens.push_back(3);
    ++steps;
  }
  EXPECT_EQ(f.spill.loads, 25);
  EXPECT_EQ(computed, 1) << "nothing is computed that comes back";
  EXPECT_EQ(again.cached_tokens, 100) << "in whichever step";
  EXPECT_LE(steps, 10);
  f.scheduler.remove(again);
  // With nobody to hold up, all at once.
  f.scheduler.remove(decoding);
  f.cache.reclaim(64);
  const int before = f.spill.loads;
  Sequence alone = f.make(101, 1);
  f.scheduler.add(alone);
  f.scheduler.complete(f.scheduler.schedule(/*prompt_tokens=*/10));
  EXPECT_EQ(f.spill.loads - before, 25);
  EXPECT_EQ(alone.pending_tokens(), 0);
  f.scheduler.remove(alone);
}

TEST(Scheduler, NothingComesBackForWhoFindsNoRoom) {
  SpilledPrompt f(40);
  ASSERT_EQ(f.cache.blocks_spilled(), 25);
  Sequence decoding = f.make(1, 2);
  f.scheduler.add(decoding);
  f.scheduler.complete(f.scheduler.schedule());
  Sequence running = f.make(100, 3);  // 25 blocks of 40
  f.scheduler.add(running);
  decoding.tokens.push_back(3);
  f.scheduler.complete(f.scheduler.schedule(/*prompt_tokens=*/10));
  Sequence again = f.make(101, 1, /*priority=*/1);
  f.scheduler.add(again);
  decoding.tokens.push_back(3);
  const Batch batch = f.scheduler.schedule(/*prompt_tokens=*/10);
  EXPECT_EQ(f.spill.loads, 0);
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch[1].sequence, &running);
  EXPECT_EQ(batch[1].count, 10) << "all of what the step has for prompts";
  f.scheduler.complete(batch);
  for (Sequence* each : {&decoding, &running, &again}) f.scheduler.remove(*each);
}

TEST(Scheduler, GuessesTakeNeitherRowsNorBlocksFromOthers) {
  SchedulerFixture f(4, {.step_tokens = 4, .max_sequences = 2, .block_tokens = 4, .outputs = 3});
  Sequence& a = f.add(3);
  Sequence& b = f.add(1);
  f.step();
  a.draft = {1, 2, 3, 4};
  b.draft = {1, 2, 3, 4};
  const Batch batch = f.scheduler.schedule();
  int tokens = 0;
  int logits = 0;
  for (const Chunk& chunk : batch) {
    tokens += chunk.count;
    logits += chunk.outputs;
  }
  EXPECT_EQ(tokens, 3) << "one guess, for which there is a row of logits";
  EXPECT_EQ(logits, 3);
  EXPECT_EQ(f.scheduler.preemptions_total(), 0u);
}

TEST(Scheduler, APromptThatIsScoredGetsLogitsForEveryTokenInChunksOfTheRows) {
  SchedulerFixture f(100, {.step_tokens = 32, .max_sequences = 2, .outputs = 10});
  Sequence& a = f.make(20);
  a.wants_all_outputs = true;
  f.scheduler.add(a);
  std::vector<int> counts;
  while (a.pending_tokens() > 1 || counts.empty()) {
    const Batch batch = f.step();
    EXPECT_EQ(batch[0].outputs, batch[0].count);
    counts.push_back(batch[0].count);
  }
  EXPECT_EQ(counts, (std::vector<int>{9, 9, 2}));
}

}  // namespace
}  // namespace ridge::engine::scheduler_test
