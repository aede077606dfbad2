// A program of its own, because it lets allocations of the whole process fail.
#include <gtest/gtest.h>

#include "base/watched_allocation.h"
#include "engine/loop_fixture.h"

namespace {

// Allocations of this thread that still succeed; below 0 all do.
thread_local int allocations_left = -1;
thread_local bool has_failed = false;

}  // namespace

void before_allocation(size_t) {
  if (allocations_left == 0) {
    allocations_left = -1;
    has_failed = true;
    throw std::bad_alloc();
  }
  if (allocations_left > 0) --allocations_left;
}

namespace ridge::engine::step_loop_memory_test {

namespace {

constexpr RunnerLimits limits = {.tokens = 32,
                                 .sequences = 4,
                                 .outputs = 4,
                                 .context_tokens = 128,
                                 .block_tokens = 4,
                                 .blocks = 128};

TEST(StepLoopMemory, ARequestThatFindsNoneEndsAloneAsFailed) {
  LoopFixture f(limits, "The river is brown.");
  int failures = 0;
  for (int allocations = 0; allocations < 10'000; ++allocations) {
    std::vector<Finish> ends;
    RequestListener listener{.on_finish = [&](const Finish& finish) { ends.push_back(finish); }};
    Request request = f.request(5, 100);
    request.choices = 2;
    has_failed = false;
    allocations_left = allocations;
    f.loop.add(RequestId{1'000'000u + static_cast<uint64_t>(allocations)}, std::move(request),
               std::move(listener), f.clock.now());
    allocations_left = -1;
    if (!has_failed) {
      f.loop.cancel_all();
      break;
    }
    ++failures;
    ASSERT_EQ(ends.size(), 1u) << "after " << allocations << " allocations";
    ASSERT_TRUE(ends[0].error);
    EXPECT_EQ(ends[0].error->code(), ErrorCode::out_of_memory);
    EXPECT_FALSE(f.loop.has_work());
  }
  EXPECT_GT(failures, 10);
  EXPECT_EQ(f.loop.stats().finished_total, static_cast<uint64_t>(failures) + 1);
  RecordedRequest& next = f.add(f.request(5, 100));
  f.run_all();
  EXPECT_EQ(next.content[0], "The river is brown.");
}

}  // namespace

}  // namespace ridge::engine::step_loop_memory_test
