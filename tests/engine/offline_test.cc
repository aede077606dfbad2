#include "engine/offline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>

#include "engine/fake_runner.h"

namespace ridge::engine::offline_test {
namespace {

// The sum of the context: shows which tokens the model saw.
int32_t sum_of(const std::vector<int32_t>& context) {
  int32_t sum = 0;
  for (int32_t token : context) sum += token;
  return sum % 100;
}

TEST(Score, GivesEveryPositionTheLogitsOfItsWholeContext) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(1 + i % 7);
  RunnerLimits limits = scoring_limits(100, 100);
  limits.tokens = limits.outputs = 17;  // so that chunks end anywhere
  FakeRunner runner(limits, 100, sum_of);
  int32_t sum = 0;
  int next = 0;
  score(runner, tokens, [&](int position, std::span<const float> logits) {
    ASSERT_EQ(position, next++);
    ASSERT_EQ(logits.size(), 100u);
    sum += tokens[static_cast<size_t>(position)];
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(best, sum % 100);
  });
  EXPECT_EQ(next, 100);
  EXPECT_EQ(runner.steps, 6);
}

TEST(ScoringLimits, KeepLogitsBelowTheirBound) {
  EXPECT_EQ(scoring_limits(10, 1000).tokens, 10);
  EXPECT_EQ(scoring_limits(4096, 1000).tokens, 512);
  EXPECT_EQ(scoring_limits(4096, 151936).tokens, 110);
  EXPECT_EQ(scoring_limits(33, 1000).blocks, 3);
}

TEST(MeasureThroughput, CountsTheTokensOfAllSequences) {
  const Workload workload = {
      .batch = 3, .depth_tokens = 5, .prompt_tokens = 50, .generated_tokens = 10, .repetitions = 3};
  FakeClock clock;
  FakeRunner runner(workload_limits(workload, /*step_tokens=*/32), 100, sum_of);
  int prefill_tokens = 0;
  int decode_steps = 0;
  runner.before_step = [&](const StepInputs& inputs) {
    const bool decodes = inputs.tokens() == 3;
    (decodes ? decode_steps : prefill_tokens) += decodes ? 1 : inputs.tokens();
    // 1 ms for each prompt token, 30 ms for a step of three decoding rows.
    clock.advance(std::chrono::milliseconds(decodes ? 30 : inputs.tokens()));
  };
  const Throughput throughput = measure_throughput(std::array{TimedWorkload{runner, workload}}, clock)[0];
  EXPECT_NEAR(throughput.prefill_tokens_per_second, 1000, 1e-6);
  EXPECT_NEAR(throughput.decode_tokens_per_second, 100, 1e-6);
  EXPECT_EQ(prefill_tokens, 3 * (5 + 3 * 50 + 32)) << "the depth once, three rounds and a warm-up";
  EXPECT_EQ(decode_steps, 3 * 10 + 2);
}

TEST(MeasureThroughput, TakesTurnsWithEachGeneratedToken) {
  const Workload shallow = {.prompt_tokens = 0, .generated_tokens = 4, .repetitions = 1};
  Workload deep = shallow;
  deep.depth_tokens = 20;
  FakeClock clock;
  FakeRunner first(workload_limits(shallow, 32), 100, sum_of), second(workload_limits(deep, 32), 100, sum_of);
  std::string order;
  // A machine that becomes slower all the time.
  int milliseconds = 10;
  const auto step_of = [&](char name) {
    return [&, name](const StepInputs& inputs) {
      if (inputs.tokens() > 1) return;
      order += name;
      clock.advance(std::chrono::milliseconds(milliseconds++));
    };
  };
  first.before_step = step_of('s');
  second.before_step = step_of('d');
  const std::vector<Throughput> throughputs =
      measure_throughput(std::array{TimedWorkload{first, shallow}, TimedWorkload{second, deep}}, clock);
  EXPECT_EQ(order, "ssddsdsdsdsd") << "both warm up alone";
  ASSERT_EQ(throughputs.size(), 2u);
  // 14, 16, 18, 20 and 15, 17, 19, 21 ms.
  EXPECT_NEAR(throughputs[0].decode_tokens_per_second, 4 / 0.068, 1e-6);
  EXPECT_NEAR(throughputs[1].decode_tokens_per_second, 4 / 0.072, 1e-6);
}

TEST(MeasureThroughput, LeavesOutWhatTheWorkloadLacks) {
  SteadyClock clock;
  const Workload only_decode = {.prompt_tokens = 0, .generated_tokens = 3, .repetitions = 1};
  FakeRunner runner(workload_limits(only_decode, 8), 100, sum_of);
  const Throughput throughput = measure_throughput(std::array{TimedWorkload{runner, only_decode}}, clock)[0];
  EXPECT_EQ(throughput.prefill_tokens_per_second, 0);
  EXPECT_GT(throughput.decode_tokens_per_second, 0);
}

}  // namespace
}  // namespace ridge::engine::offline_test
