#include "engine/serving_engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>

#include "engine/loop_fixture.h"

namespace ridge::engine {
namespace {

constexpr RunnerLimits limits = {.tokens = 32,
                                 .sequences = 2,
                                 .outputs = 2,
                                 .context_tokens = 64,
                                 .block_tokens = 4,
                                 .blocks = 64};

// An engine over a fake model that says "a" for ever, and can be held before a step.
class ServingEngineTest : public testing::Test {
 protected:
  ServingEngineTest() {
    const int32_t a = small_tokenizer()->encode("a").front();
    auto runner = std::make_unique<FakeRunner>(limits, small_tokenizer()->vocab_size(),
                                               [a](const auto&) { return a; });
    runner->before_step = [this](const StepInputs&) { std::lock_guard hold(gate_); };
    engine_ = std::make_unique<ServingEngine>(
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

TEST_F(ServingEngineTest, CancelEndsARunningRequest) {
  std::promise<void> started;
  std::promise<Finish> ended;
  std::atomic<bool> once = false;
  const RequestId id =
      engine_->submit(request(60), {.on_delta =
                                        [&](Delta&&) {
                                          if (!once.exchange(true)) started.set_value();
                                        },
                                    .on_finish = [&](const Finish& f) { ended.set_value(f); }});
  started.get_future().wait();
  engine_->cancel(id);
  const Finish finish = ended.get_future().get();
  EXPECT_TRUE(finish.reasons[0] == FinishReason::cancelled ||
              finish.reasons[0] == FinishReason::length);
  engine_->cancel(id);
  engine_->cancel(RequestId{12345});
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
  std::vector<std::future<Finish>> futures;
  std::thread drains;
  {
    // No step ends before drain has given up waiting.
    std::lock_guard hold(gate_);
    for (int i = 0; i < 3; ++i) futures.push_back(submit(60).second);
    drains = std::thread([&] { engine_->drain(std::chrono::milliseconds(0)); });
    while (engine_admits()) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  drains.join();
  int cancelled = 0;
  for (auto& future : futures) cancelled += future.get().reasons[0] == FinishReason::cancelled;
  EXPECT_GE(cancelled, 1);
  EXPECT_EQ(engine_->stats().blocks_free, limits.blocks);
}

TEST_F(ServingEngineTest, EndsRequestsWhenItIsDestroyed) {
  std::vector<std::future<Finish>> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(submit(60).second);
  engine_.reset();
  for (auto& future : futures) {
    const FinishReason reason = future.get().reasons[0];
    EXPECT_TRUE(reason == FinishReason::cancelled || reason == FinishReason::length);
  }
}

TEST_F(ServingEngineTest, SleepsWhenIdle) {
  EXPECT_EQ(submit(2).second.get().reasons[0], FinishReason::length);
  engine_->drain(std::chrono::seconds(10));
  const uint64_t steps = engine_->stats().steps_total;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(engine_->stats().steps_total, steps);
}

}  // namespace
}  // namespace ridge::engine
