// The bound on the time between two tokens of an answer, while others' prompts are read: over a
// clock that each forward pass moves on by its cost.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "engine/loop_fixture.h"
#include "engine/paced_runner.h"

namespace ridge::engine::inter_token_test {
namespace {

using namespace std::chrono_literals;

constexpr double target_ms = 60;
constexpr RunnerLimits limits = {.tokens = 256,
                                 .sequences = 4,
                                 .outputs = 24,
                                 .context_tokens = 1024,
                                 .block_tokens = 16,
                                 .blocks = 256};

// Steps of 10 ms and 0.5 ms a token; the draft model's take 1 ms and 0.25 ms a token.
struct InterToken : testing::Test {
  std::unique_ptr<PacedRunner> runner(std::chrono::microseconds step,
                                      std::chrono::microseconds token, int outputs) {
    RunnerLimits own = limits;
    own.outputs = outputs;
    return std::make_unique<PacedRunner>(
        std::make_unique<FakeRunner>(own, small_tokenizer()->vocab_size(),
                                     [](const std::vector<int32_t>& context) {
                                       return 20 + (context.back() * 7 + 3) % 250;
                                     }),
        clock, step, /*mistaken_each=*/0, token);
  }

  void start(bool has_draft_model) {
    model = runner(10ms, 500us, limits.outputs);
    if (has_draft_model) draft = runner(1ms, 250us, limits.sequences);
    loop.emplace(*model, small_tokenizer(), clock, StepLoopOptions{.itl_target_ms = target_ms},
                 draft.get());
  }

  void add(int prompt_tokens, int max_tokens, RequestListener listener) {
    Request request;
    for (int i = 0; i < prompt_tokens; ++i) {
      request.prompt_tokens.push_back(20 +
                                      static_cast<int32_t>((prompt_tokens * 31 + i * i) % 250));
    }
    request.max_tokens = max_tokens;
    request.ignore_eos = true;
    request.sampling.temperature = 0.0f;
    loop->add(RequestId{++requests}, std::move(request), std::move(listener), clock.now());
  }

  // Times between two deltas of an answer, while six long prompts come.
  std::vector<double> gaps_of_an_answer() {
    std::vector<Clock::TimePoint> times;
    bool has_ended = false;
    add(8, 700,
        {.on_delta = [&](Delta&&) { times.push_back(clock.now()); },
         .on_finish = [&](const Finish&) { has_ended = true; }});
    int others = 0;
    const RequestListener other = {
        .on_finish = [&](const Finish& finish) { answered += !finish.error; }};
    for (int step = 0; loop->has_work() && step < 2000; ++step) {
      if (step % 15 == 5 && others < 6 && !has_ended) add(500 + 10 * others++, 20, other);
      loop->step();
    }
    EXPECT_TRUE(has_ended);
    std::vector<double> gaps;
    for (size_t i = 1; i < times.size(); ++i) gaps.push_back(milliseconds(times[i] - times[i - 1]));
    return gaps;
  }

  FakeClock clock;
  std::unique_ptr<PacedRunner> model, draft;
  std::optional<StepLoop> loop;
  uint64_t requests = 0;
  int answered = 0;
};

TEST_F(InterToken, PromptsTakeWhatDecodingLeavesOfTheTarget) {
  start(/*has_draft_model=*/false);
  const std::vector<double> gaps = gaps_of_an_answer();
  // The first prompt is paced by a guess of its cost.
  EXPECT_LE(*std::ranges::max_element(gaps), 1.1 * target_ms);
  EXPECT_EQ(answered, 6);
  EXPECT_GT(*std::ranges::max_element(gaps), 0.8 * target_ms) << "prompts have what there is";
}

TEST_F(InterToken, ADraftModelKeepsToItToo) {
  start(/*has_draft_model=*/true);
  const std::vector<double> gaps = gaps_of_an_answer();
  EXPECT_LE(*std::ranges::max_element(gaps), 1.1 * target_ms);
  EXPECT_EQ(answered, 6);
  EXPECT_GT(loop->stats().accepted_tokens_total, 200u) << "it was of use";
}

}  // namespace
}  // namespace ridge::engine::inter_token_test
