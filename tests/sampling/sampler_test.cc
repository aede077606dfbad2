#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "base/error.h"

namespace ridge::sampling::sampler_test {
namespace {

class SamplerTest : public testing::Test {
 protected:
  // Tokens that many draws give.
  std::set<int32_t> support(const SamplingParams& params, std::span<const float> logits,
                            int draws = 400) {
    Sampler sampler(params, {});
    std::set<int32_t> tokens;
    for (int i = 0; i < draws; ++i) {
      const int32_t token = sampler.pick(logits, {}, workspace_).token;
      tokens.insert(token);
      sampler.accept(token);
    }
    return tokens;
  }
  int32_t greedy(const SamplingParams& params, std::span<const float> logits,
                 std::span<const int32_t> prompt = {}, std::span<const int32_t> generated = {},
                 const Constraints& constraints = {}) {
    SamplingParams changed = params;
    changed.temperature = 0.0f;
    Sampler sampler(changed, prompt);
    for (int32_t token : generated) sampler.accept(token);
    return sampler.pick(logits, constraints, workspace_).token;
  }

  Workspace workspace_;
};

const std::vector<float> five = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f};

TEST_F(SamplerTest, GreedyTakesTheLargestAndTheSmallerIdOfEquals) {
  EXPECT_EQ(greedy({}, five), 1);
}

TEST_F(SamplerTest, TinyTemperatureIsGreedyWithoutOverflow) {
  const std::vector<float> logits = {1.0f, 2.0f, 2.001f, -3e38f};
  EXPECT_EQ(support({.temperature = 1e-38f, .seed = 1}, logits), (std::set<int32_t>{2}));
}

TEST_F(SamplerTest, TopKOneIsGreedy) {
  EXPECT_EQ(support({.top_k = 1, .seed = 3}, five), (std::set<int32_t>{1}));
}

TEST_F(SamplerTest, TopKKeepsExactlyKAndTheSmallerIdsOfEquals) {
  const std::vector<float> logits = {0.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  EXPECT_EQ(support({.top_k = 2, .seed = 3}, logits), (std::set<int32_t>{1, 2}));
  EXPECT_EQ(support({.top_k = 5, .seed = 3}, logits), (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(support({.top_k = 500, .seed = 3}, logits), (std::set<int32_t>{0, 1, 2, 3, 4}));
}

TEST_F(SamplerTest, TopPKeepsTheTokenThatCrossesTheLine) {
  // Probabilities 0.5, 0.3, 0.2.
  const std::vector<float> logits = {std::log(0.3f), std::log(0.5f), std::log(0.2f)};
  EXPECT_EQ(support({.top_p = 0.45f, .seed = 1}, logits), (std::set<int32_t>{1}));
  EXPECT_EQ(support({.top_p = 0.55f, .seed = 1}, logits), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(support({.top_p = 0.79f, .seed = 1}, logits), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(support({.top_p = 0.81f, .seed = 1}, logits), (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(support({.top_p = 1e-6f, .seed = 1}, logits), (std::set<int32_t>{1}));
}

TEST_F(SamplerTest, TopPIsOfWhatTopKLeft) {
  // Of 0.4, 0.3, 0.2, 0.1, top-k 2 leaves 4/7 and 3/7, of which 0.57 needs only the first.
  const std::vector<float> logits = {std::log(0.4f), std::log(0.3f), std::log(0.2f),
                                     std::log(0.1f)};
  EXPECT_EQ(support({.top_k = 2, .top_p = 0.56f, .seed = 1}, logits), (std::set<int32_t>{0}));
  EXPECT_EQ(support({.top_p = 0.56f, .seed = 1}, logits), (std::set<int32_t>{0, 1}));
}

TEST_F(SamplerTest, MinPIsRelativeToTheBest) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.26f), std::log(0.24f)};
  EXPECT_EQ(support({.min_p = 0.5f, .seed = 1}, logits), (std::set<int32_t>{0, 1}));
  EXPECT_EQ(support({.min_p = 1.0f, .seed = 1}, logits), (std::set<int32_t>{0}));
  EXPECT_EQ(support({.min_p = 0.4f, .seed = 1}, logits), (std::set<int32_t>{0, 1, 2}));
}

TEST_F(SamplerTest, RepetitionPenaltyCountsPromptAndAnswerOnce) {
  const std::vector<int32_t> seen = {1, 1, 1};
  // 3.0 / 1.4 = 2.14 still beats 2.0; were it applied three times it would not.
  const std::vector<float> logits = {1.0f, 3.0f, 2.0f};
  EXPECT_EQ(greedy({.repetition_penalty = 1.4f}, logits, seen), 1);
  EXPECT_EQ(greedy({.repetition_penalty = 1.6f}, logits, seen), 2);
  EXPECT_EQ(greedy({.repetition_penalty = 1.6f}, logits, {}, seen), 2);
  // Negative logits are multiplied.
  const std::vector<float> negative = {-1.0f, -1.5f};
  const std::vector<int32_t> first = {0};
  EXPECT_EQ(greedy({.repetition_penalty = 1.4f}, negative, first), 0);
  EXPECT_EQ(greedy({.repetition_penalty = 1.6f}, negative, first), 1);
}

TEST_F(SamplerTest, PresenceAndFrequencyPenaltiesCountTheAnswerOnly) {
  const std::vector<float> logits = {1.0f, 2.0f};
  const std::vector<int32_t> once = {1};
  const std::vector<int32_t> thrice = {1, 1, 1};
  EXPECT_EQ(greedy({.presence_penalty = 1.5f}, logits, /*prompt=*/once), 1);
  EXPECT_EQ(greedy({.presence_penalty = 1.5f}, logits, {}, once), 0);
  EXPECT_EQ(greedy({.presence_penalty = 0.9f}, logits, {}, thrice), 1);
  EXPECT_EQ(greedy({.frequency_penalty = 0.4f}, logits, {}, once), 1);
  EXPECT_EQ(greedy({.frequency_penalty = 0.4f}, logits, {}, thrice), 0);
  EXPECT_EQ(greedy({.presence_penalty = -2.0f}, logits, {}, std::vector<int32_t>{0}), 0);
}

TEST_F(SamplerTest, LogitBiasMovesTokens) {
  EXPECT_EQ(greedy({.logit_bias = {{4, 100.0f}}}, five), 4);
  EXPECT_EQ(greedy({.logit_bias = {{1, -100.0f}}}, five), 3);
  EXPECT_EQ(greedy({.logit_bias = {{1, -100.0f}, {1, 100.5f}}}, five), 1) << "entries add up";
}

TEST_F(SamplerTest, TinyRepetitionPenaltyStaysFinite) {
  const std::vector<int32_t> seen = {0};
  const std::vector<float> logits = {1000.0f, 1001.0f};
  EXPECT_EQ(greedy({.repetition_penalty = 1e-38f}, logits, seen), 0);
  EXPECT_EQ(support({.repetition_penalty = 1e-38f, .seed = 1}, logits).size(), 1u);
}

TEST_F(SamplerTest, NeverPicksOutsideTheMask) {
  std::vector<float> logits(70, 0.0f);
  const std::vector<uint32_t> allowed = {0x00000008u, 0x80000000u};  // tokens 3 and 63
  Sampler sampler({.seed = 9}, {});
  std::set<int32_t> tokens;
  for (int i = 0; i < 100; ++i) {
    const int32_t token = sampler.pick(logits, {.allowed = allowed}, workspace_).token;
    tokens.insert(token);
    sampler.accept(token);
  }
  EXPECT_EQ(tokens, (std::set<int32_t>{3, 63}));
  logits[69] = 50.0f;
  EXPECT_EQ(greedy({}, logits, {}, {}, {.allowed = allowed}), 3)
      << "past the mask's end is not allowed";
}

TEST_F(SamplerTest, NeverPicksABannedToken) {
  const std::vector<int32_t> banned = {1, 3, 700, -1};
  EXPECT_EQ(greedy({.logit_bias = {{1, 100.0f}}}, five, {}, {}, {.banned = banned}), 2);
}

TEST_F(SamplerTest, FailsClosedWhenNothingIsAllowed) {
  const std::vector<uint32_t> none = {0u};
  for (float temperature : {0.0f, 1.0f}) {
    Sampler sampler({.temperature = temperature, .seed = 1}, {});
    try {
      sampler.pick(five, {.allowed = none}, workspace_);
      FAIL() << "picked a token outside the mask";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::internal);
    }
  }
}

TEST_F(SamplerTest, BadLogitsAreAnErrorInEveryMode) {
  const std::vector<float> logits = {1.0f, std::numeric_limits<float>::quiet_NaN(), 2.0f};
  for (const SamplingParams& params : {SamplingParams{.temperature = 0.0f},
                                       SamplingParams{.top_k = 2}, SamplingParams{.top_p = 0.5f}}) {
    Sampler sampler(params, {});
    EXPECT_THROW(sampler.pick(logits, {}, workspace_), Error);
  }
}

TEST_F(SamplerTest, SameSeedSameTokensAndPickDoesNotAdvance) {
  const std::vector<float> logits(50, 0.0f);
  Sampler first({.seed = 42}, {});
  Sampler second({.seed = 42}, {});
  Sampler other_seed({.seed = 43}, {});
  Sampler other_choice({.seed = 42}, {}, /*choice=*/1);
  int equal_seed = 0;
  int equal_choice = 0;
  for (int i = 0; i < 200; ++i) {
    const int32_t token = first.pick(logits, {}, workspace_).token;
    EXPECT_EQ(first.pick(logits, {}, workspace_).token, token);
    EXPECT_EQ(second.pick(logits, {}, workspace_).token, token);
    equal_seed += other_seed.pick(logits, {}, workspace_).token == token;
    equal_choice += other_choice.pick(logits, {}, workspace_).token == token;
    for (Sampler* sampler : {&first, &second, &other_seed, &other_choice}) sampler->accept(token);
  }
  EXPECT_LT(equal_seed, 20);
  EXPECT_LT(equal_choice, 20);
}

// Pins the text of a seed: a change here changes what users get for seeds that they have stored.
// The tokens were computed apart from this code, in Python's doubles from the definitions.
TEST_F(SamplerTest, SeedsKeepTheirTokens) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>((i * 7919) % 1000) / 100.0f;
  }
  std::vector<int32_t> tokens;
  Sampler sampler({.temperature = 0.8f, .top_k = 200, .top_p = 0.9f, .seed = 2026}, {});
  for (int i = 0; i < 8; ++i) {
    tokens.push_back(sampler.pick(logits, {}, workspace_).token);
    sampler.accept(tokens.back());
  }
  EXPECT_EQ(tokens, (std::vector<int32_t>{531, 346, 729, 926, 173, 99, 963, 889}));
}

TEST_F(SamplerTest, AnAbsentSeedIsFresh) {
  EXPECT_NE(Sampler({}, {}).seed(), Sampler({}, {}).seed());
}

TEST_F(SamplerTest, LogprobsAreOfTheRawLogits) {
  double sum = 0;
  for (float logit : five) sum += std::exp(static_cast<double>(logit));
  SamplingParams params{.temperature = 0.0f, .logit_bias = {{4, 100.0f}}, .top_logprobs = 3};
  const Pick pick = Sampler(params, {}).pick(five, {}, workspace_);
  EXPECT_EQ(pick.token, 4);
  EXPECT_NEAR(pick.logprob, -1.0 - std::log(sum), 1e-6);
  ASSERT_EQ(pick.top.size(), 3u);
  EXPECT_EQ(pick.top[0].id, 1);
  EXPECT_EQ(pick.top[1].id, 3);
  EXPECT_EQ(pick.top[2].id, 2);
  EXPECT_NEAR(pick.top[2].score, 2.0 - std::log(sum), 1e-6);
  params.top_logprobs = 0;
  EXPECT_TRUE(Sampler(params, {}).pick(five, {}, workspace_).top.empty());
  EXPECT_NEAR(Sampler(params, {}).pick(five, {}, workspace_).logprob, -1.0 - std::log(sum), 1e-6);
}

}  // namespace
}  // namespace ridge::sampling::sampler_test
