// Masks of grammars that are computed beside the steps: a slow one costs nobody else time, and no
// answer depends on when it comes.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/loop_fixture.h"
#include "engine/mask_pool.h"
#include "engine/paced_runner.h"
#include "text/grammar.h"

namespace ridge::engine::step_masks_test {
namespace {

using namespace std::chrono_literals;

constexpr RunnerLimits limits = {.tokens = 64,
                                 .sequences = 8,
                                 .outputs = 40,
                                 .context_tokens = 256,
                                 .block_tokens = 4,
                                 .blocks = 512};
constexpr auto step_time = 10ms;

std::shared_ptr<const text::Grammar> grammar(const std::string& regex) {
  static text::GrammarCompiler compiler(*small_tokenizer(), {.limit = std::chrono::minutes(2)});
  return compiler.compile("", text::GrammarKind::regex, regex);
}

// Says itself when a mask is there; who waits for one moves the clock on.
class FakeMasks final : public MaskPool {
 public:
  explicit FakeMasks(FakeClock& clock) : clock_(clock) {}

  void start(const std::string& group, std::shared_ptr<MaskJob> job) override {
    if (is_slow && is_slow(group)) {
      waiting_.push_back(std::move(job));
    } else {
      job->run();
    }
  }
  void wait(std::chrono::nanoseconds most, const std::function<bool()>& holds) override {
    if (holds()) return;
    clock_.advance(std::chrono::duration_cast<Clock::Duration>(most));
    if (after_wait) after_wait();
  }
  void finish_one() {
    if (waiting_.empty()) return;
    waiting_.front()->run();
    waiting_.pop_front();
  }
  size_t waiting() const { return waiting_.size(); }

  std::function<bool(const std::string& group)> is_slow;
  std::function<void()> after_wait;

 private:
  FakeClock& clock_;
  std::deque<std::shared_ptr<MaskJob>> waiting_;
};

struct StepMasks : testing::Test {
  StepMasks() : masks(clock) {
    runner = std::make_unique<PacedRunner>(
        std::make_unique<FakeRunner>(limits, small_tokenizer()->vocab_size(),
                                     [](const std::vector<int32_t>& context) {
                                       return 20 + (context.back() * 7 + context.front()) % 60;
                                     }),
        clock, step_time);
  }

  void start(bool with_pool = true) {
    requests.clear();
    loop.emplace(*runner, small_tokenizer(), clock,
                 StepLoopOptions{.masks = with_pool ? &masks : nullptr});
  }

  RequestId add(const std::string& group, std::shared_ptr<const text::Grammar> form, int max_tokens,
                int choices = 1, std::function<void()> on_delta = {}) {
    Request request;
    request.group = group;
    request.grammar = std::move(form);
    request.max_tokens = max_tokens;
    request.choices = choices;
    request.ignore_eos = true;
    request.sampling.temperature = 0.9f;
    request.sampling.seed = requests.size();
    for (int i = 0; i < 9; ++i) {
      request.prompt_tokens.push_back(20 + (static_cast<int>(requests.size()) * 5 + i) % 40);
    }
    requests.emplace_back(choices);
    RequestListener listener = requests.back().listener();
    if (on_delta) {
      listener.on_delta = [on_delta, tell = std::move(listener.on_delta)](Delta&& delta) {
        tell(std::move(delta));
        on_delta();
      };
    }
    const RequestId id{requests.size()};
    loop->add(id, std::move(request), std::move(listener), clock.now());
    return id;
  }

  void run_all(int most_steps = 5000) {
    for (int i = 0; loop->has_work(); ++i) {
      ASSERT_LT(i, most_steps) << "no progress";
      loop->step();
    }
    EXPECT_EQ(loop->stats().blocks_free, loop->stats().blocks_total) << "a block leaked";
  }

  FakeClock clock;
  FakeMasks masks;
  std::unique_ptr<PacedRunner> runner;
  std::optional<StepLoop> loop;
  std::deque<RecordedRequest> requests;
};

TEST_F(StepMasks, ASlowOneHoldsNobodyElseUp) {
  masks.is_slow = [](const std::string& group) { return group == "slow"; };
  start();
  std::vector<Clock::TimePoint> times;
  add("fast", grammar("[a-z ]{200,}"), 60, 1, [&] { times.push_back(clock.now()); });
  add("free", nullptr, 60);
  add("slow", grammar("[0-9]{6}"), 60);
  add("slow", grammar("[0-9]{6}"), 60, /*choices=*/3);
  while (!requests[0].finish) loop->step();
  ASSERT_EQ(times.size(), 60u);
  for (size_t i = 1; i < times.size(); ++i) {
    // The step, and no more than one short wait for what comes late.
    EXPECT_LE(times[i] - times[i - 1], step_time + 5ms) << i;
  }
  // Who sits out has no rows in steps, and is waited for once.
  const auto since_the_second = times.back() - times[5];
  EXPECT_LT(since_the_second, 54 * (step_time + 1ms));
  EXPECT_EQ(requests[2].deltas, 0);
  EXPECT_FALSE(requests[2].finish);
  EXPECT_EQ(masks.waiting(), 4u) << "one for each choice";
  masks.after_wait = [&] { masks.finish_one(); };
  run_all();
  EXPECT_EQ(requests[2].content[0].size(), 6u);
  for (int choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(requests[3].content[static_cast<size_t>(choice)].size(), 6u);
  }
}

// Whenever masks come, also behind guesses, answers are those of masks that are asked for in the
// step.
TEST_F(StepMasks, AnswersDoNotDependOnWhenTheyCome) {
  const auto answers = [&](bool with_pool, unsigned seed) {
    std::mt19937 random(seed);
    masks.is_slow = [&](const std::string&) { return random() % 3 != 0; };
    masks.after_wait = [&] {
      if (random() % 2 == 0) masks.finish_one();
    };
    start(with_pool);
    for (int i = 0; i < 12; ++i) {
      // Of forms that repeat, so that much is guessed.
      add(i % 2 == 0 ? "a" : "b", i % 4 == 3 ? nullptr : grammar("((ab|cd)x ){5,9}[0-9]{2}"), 60,
          1 + i % 3);
    }
    run_all();
    std::vector<std::vector<std::string>> all;
    for (const RecordedRequest& request : requests) {
      all.push_back(request.content);
      EXPECT_FALSE(request.finish->error);
    }
    return all;
  };
  const auto expected = answers(/*with_pool=*/false, 0);
  EXPECT_GT(loop->stats().accepted_tokens_total, 0u) << "nothing was guessed";
  for (unsigned seed = 1; seed <= 30; ++seed) {
    EXPECT_EQ(answers(/*with_pool=*/true, seed), expected) << seed;
  }
  EXPECT_GT(loop->stats().accepted_tokens_total, 0u);
}

TEST_F(StepMasks, WhoLeavesMeanwhileHoldsNothing) {
  masks.is_slow = [](const std::string& group) { return group == "slow"; };
  start();
  const RequestId id = add("slow", grammar("[0-9]{6}"), 60, /*choices=*/2);
  for (int i = 0; i < 5; ++i) loop->step();
  loop->cancel(id);
  EXPECT_EQ(loop->stats().blocks_free, loop->stats().blocks_total);
  while (masks.waiting() > 0) masks.finish_one();
  add("slow", nullptr, 5);
  run_all();
  EXPECT_EQ(requests[1].token_counts[0], 5);
}

TEST(MaskJob, ThrowsWhatItsWorkThrew) {
  MaskJob job([] { throw Error(ErrorCode::invalid_argument, "too complex"); });
  EXPECT_FALSE(job.is_done());
  job.run();
  EXPECT_TRUE(job.is_done());
  EXPECT_THROW(job.check(), Error);
}

TEST(MaskThreads, NoGroupHoldsBothOfThem) {
  MaskThreads threads;
  std::mutex mutex;
  std::condition_variable go;
  bool may_go = false;
  const auto blocked = [&] {
    std::unique_lock lock(mutex);
    go.wait(lock, [&] { return may_go; });
  };
  std::vector<std::shared_ptr<MaskJob>> held;
  for (int i = 0; i < 4; ++i) {
    held.push_back(std::make_shared<MaskJob>(blocked));
    threads.start("hard", held.back());
  }
  const auto other = std::make_shared<MaskJob>([] {});
  threads.start("other", other);
  threads.wait(60s, [&] { return other->is_done(); });
  EXPECT_TRUE(other->is_done());
  EXPECT_FALSE(held[0]->is_done());
  {
    std::lock_guard lock(mutex);
    may_go = true;
  }
  go.notify_all();
  threads.wait(60s, [&] { return held[3]->is_done(); });
  for (const auto& job : held) EXPECT_TRUE(job->is_done());
}

}  // namespace
}  // namespace ridge::engine::step_masks_test
