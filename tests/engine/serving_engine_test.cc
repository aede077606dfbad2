#include "engine/serving_engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>

#include "engine/loop_fixture.h"

namespace ridge::engine::serving_engine_test {
namespace {

constexpr RunnerLimits limits = {.tokens = 32,
                                 .sequences = 2,
                                 .outputs = 2,
                                 .context_tokens = 64,
                                 .block_tokens = 4,
                                 .blocks = 64};

// Room for answers that no test waits for.
constexpr RunnerLimits endless_limits = {.tokens = 32,
                                         .sequences = 2,
                                         .outputs = 2,
                                         .context_tokens = 1 << 16,
                                         .block_tokens = 4,
                                         .blocks = 1 << 15};

// An engine over a fake model that says "a" for ever, and can be held before a step.
class ServingEngineTest : public testing::Test {
 protected:
  ServingEngineTest() : engine_(create_engine(limits)) {}

  std::unique_ptr<ServingEngine> create_engine(const RunnerLimits& runner_limits) {
    const int32_t a = small_tokenizer()->encode("a").front();
    auto runner = std::make_unique<FakeRunner>(runner_limits, small_tokenizer()->vocab_size(),
                                               [a](const auto&) { return a; });
    runner->before_step = [this](const StepInputs&) {
      if (++steps_ == step_to_hold_) {
        held_.set_value();
        released_.get_future().wait();
      }
      std::lock_guard hold(gate_);
    };
    return std::make_unique<ServingEngine>(
        ServingEngine::Parts{
            .runner = std::move(runner), .tokenizer = small_tokenizer(), .max_queued = 3},
        clock_);
  }

  static Request request(int max_tokens) {
    Request request;
    request.prompt_tokens = {20, 21, 22};
    request.max_tokens = max_tokens;
    request.sampling.temperature = 0.0f;
    return request;
  }
  std::pair<RequestId, std::future<Finish>> submit(int max_tokens) {
    auto promise = std::make_shared<std::promise<Finish>>();
    auto future = promise->get_future();
    const RequestId id = engine_->submit(
        request(max_tokens), {.on_finish = [promise](const Finish& f) { promise->set_value(f); }});
    return {id, std::move(future)};
  }

  // False once drain has begun.
  bool engine_admits() {
    try {
      submit(1);
      return true;
    } catch (const Error& error) {
      return error.code() != ErrorCode::unavailable;
    }
  }

  SteadyClock clock_;
  std::mutex gate_;
  std::atomic<int> steps_ = 0;  // that have begun
  // The engine waits in the step of this number, from held_ to released_.
  std::atomic<int> step_to_hold_ = 0;
  std::promise<void> held_;
  std::promise<void> released_;
  std::unique_ptr<ServingEngine> engine_;
};

TEST_F(ServingEngineTest, ServesFromManyThreads) {
  std::atomic<int> finished = 0;
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        try {
          auto [id, future] = submit(1 + i % 5);
          EXPECT_EQ(future.get().reasons[0], FinishReason::length);
          ++finished;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::queue_full);
          ++refused;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(finished + refused, 80);
  EXPECT_GT(finished, 0);
  engine_->drain(std::chrono::seconds(10));
  EXPECT_EQ(engine_->stats().finished_total, static_cast<uint64_t>(finished));
  EXPECT_EQ(engine_->stats().blocks_free, limits.blocks);
}

TEST_F(ServingEngineTest, RefusesWhenTheQueueIsFull) {
  std::vector<std::future<Finish>> futures;
  {
    std::lock_guard hold(gate_);
    int accepted = 0;
    try {
      for (; accepted < 100; ++accepted) futures.push_back(submit(2).second);
      FAIL() << "the queue has no bound";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::queue_full);
      EXPECT_EQ(http_status(error.code()), 429);
    }
    EXPECT_GE(accepted, 3);
    EXPECT_LE(accepted, 3 + limits.sequences) << "those that run do not count";
  }
  for (auto& future : futures) EXPECT_EQ(future.get().reasons[0], FinishReason::length);
  EXPECT_EQ(submit(1).second.get().reasons[0], FinishReason::length);
}

TEST_F(ServingEngineTest, CancelEndsARunningRequestWithinTwoSteps) {
  step_to_hold_ = 5;
  auto [id, future] = submit(60);
  held_.get_future().wait();
  EXPECT_LT(engine_->stats().blocks_free, limits.blocks);
  engine_->cancel(id);
  released_.set_value();
  const Finish finish = future.get();
  EXPECT_EQ(finish.reasons[0], FinishReason::cancelled);
  EXPECT_LE(finish.usage.completion_tokens, step_to_hold_ + 1);
  engine_->cancel(id);
  engine_->cancel(RequestId{12345});
  engine_->drain(std::chrono::seconds(10));
  EXPECT_EQ(engine_->stats().blocks_free, limits.blocks);
  EXPECT_LE(steps_, step_to_hold_ + 2);
}

TEST_F(ServingEngineTest, CancelEndsARequestThatWaits) {
  step_to_hold_ = 1;
  auto [first, first_future] = submit(60);
  held_.get_future().wait();
  auto [second, second_future] = submit(60);
  engine_->cancel(second);
  engine_->cancel(first);
  released_.set_value();
  EXPECT_EQ(second_future.get().reasons[0], FinishReason::cancelled);
  EXPECT_EQ(first_future.get().reasons[0], FinishReason::cancelled);
  engine_->drain(std::chrono::seconds(10));
  EXPECT_EQ(engine_->stats().blocks_free, limits.blocks);
}

TEST_F(ServingEngineTest, AListenerMayCallTheEngine) {
  std::promise<Finish> second;
  engine_->submit(request(2), {.on_finish = [&](const Finish&) {
                    engine_->stats();
                    engine_->submit(request(3),
                                    {.on_finish = [&](const Finish& f) { second.set_value(f); }});
                  }});
  EXPECT_EQ(second.get_future().get().usage.completion_tokens, 3);
}

TEST_F(ServingEngineTest, DrainWaitsForWhatRunsAndAdmitsNoMore) {
  auto future = submit(30).second;
  engine_->drain(std::chrono::seconds(30));
  EXPECT_EQ(future.get().reasons[0], FinishReason::length);
  try {
    submit(1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unavailable);
  }
}

TEST_F(ServingEngineTest, DrainCancelsAtItsDeadline) {
  engine_ = create_engine(endless_limits);
  std::vector<std::future<Finish>> futures;
  std::thread drains;
  {
    // No step ends before drain has begun.
    std::lock_guard hold(gate_);
    for (int i = 0; i < 3; ++i) futures.push_back(submit(60'000).second);
    drains = std::thread([&] { engine_->drain(std::chrono::milliseconds(0)); });
    while (engine_admits()) std::this_thread::yield();
  }
  drains.join();
  for (auto& future : futures) EXPECT_EQ(future.get().reasons[0], FinishReason::cancelled);
  EXPECT_EQ(engine_->stats().blocks_free, endless_limits.blocks);
}

TEST_F(ServingEngineTest, EndsRequestsWhenItIsDestroyed) {
  engine_ = create_engine(endless_limits);
  std::vector<std::future<Finish>> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(submit(60'000).second);
  while (steps_ < 3) std::this_thread::yield();
  engine_.reset();
  for (auto& future : futures) EXPECT_EQ(future.get().reasons[0], FinishReason::cancelled);
}

TEST_F(ServingEngineTest, SleepsWhenIdle) {
  EXPECT_EQ(submit(2).second.get().reasons[0], FinishReason::length);
  engine_->drain(std::chrono::seconds(10));
  const uint64_t steps = engine_->stats().steps_total;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(engine_->stats().steps_total, steps);
}

}  // namespace
}  // namespace ridge::engine::serving_engine_test
