// Draws against probabilities computed here from the definition: a full sort, in doubles.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "sampling/sampler.h"

namespace ridge::sampling::sampling_distribution_test {
namespace {

std::vector<double> expected_probabilities(const SamplingParams& params,
                                           const std::vector<float>& logits) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (params.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(params.top_k)));
  const double best = logits[order[0]];
  const auto weight = [&](size_t id) { return std::exp((logits[id] - best) / params.temperature); };
  double total = 0;
  for (size_t id : order) total += weight(id);
  if (params.top_p < 1.0f) {
    double reached = 0;
    size_t kept = 0;
    while (kept < order.size() && reached < static_cast<double>(params.top_p) * total) {
      reached += weight(order[kept++]);
    }
    order.resize(kept);
  }
  std::erase_if(order, [&](size_t id) { return weight(id) < static_cast<double>(params.min_p); });
  total = 0;
  for (size_t id : order) total += weight(id);
  std::vector<double> probabilities(logits.size(), 0.0);
  for (size_t id : order) probabilities[id] = weight(id) / total;
  return probabilities;
}

// Pearson's statistic over cells of at least ten expected draws; the rarer tokens share one cell.
// `bound` gets the value that a right sampler exceeds once in about 30,000 tests (Wilson–Hilferty).
double chi_square(const std::vector<double>& probabilities, const std::vector<int>& counts,
                  int draws, double& bound) {
  double statistic = 0;
  double rare_expected = 0;
  double rare_count = 0;
  int cells = 0;
  const auto add = [&](double expected, double count) {
    statistic += (count - expected) * (count - expected) / expected;
    ++cells;
  };
  for (size_t i = 0; i < probabilities.size(); ++i) {
    const double expected = probabilities[i] * draws;
    if (expected >= 10) {
      add(expected, counts[i]);
    } else {
      rare_expected += expected;
      rare_count += counts[i];
    }
  }
  if (rare_expected >= 1) add(rare_expected, rare_count);
  const double freedom = std::max(1, cells - 1);
  const double base = 1 - 2 / (9 * freedom) + 4.0 * std::sqrt(2 / (9 * freedom));
  bound = freedom * base * base * base;
  return statistic;
}

struct Case {
  const char* name;
  SamplingParams params;
  size_t vocab;
  float spread;  // standard deviation of the logits
};

void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

class SamplingDistribution : public testing::TestWithParam<Case> {};

TEST_P(SamplingDistribution, MatchesItsDefinition) {
  const Case& test = GetParam();
  std::mt19937 random(17);
  std::normal_distribution<float> normal(0.0f, test.spread);
  std::vector<float> logits(test.vocab);
  for (float& logit : logits) logit = normal(random);
  const std::vector<double> probabilities = expected_probabilities(test.params, logits);
  constexpr int draws = 20000;
  std::vector<int> counts(test.vocab, 0);
  Sampler sampler(test.params, {});
  Workspace workspace;
  for (int i = 0; i < draws; ++i) {
    const int32_t token = sampler.pick(logits, {}, workspace).token;
    ASSERT_GT(probabilities[static_cast<size_t>(token)], 0.0) << "token " << token << " is cut off";
    ++counts[static_cast<size_t>(token)];
    sampler.accept(token);
  }
  double bound = 0;
  const double statistic = chi_square(probabilities, counts, draws, bound);
  EXPECT_LT(statistic, bound);
}

INSTANTIATE_TEST_SUITE_P(
    All, SamplingDistribution,
    testing::Values(
        Case{"plain", {.seed = 1}, 40, 2.0f}, Case{"flat", {.seed = 2}, 500, 0.01f},
        Case{"hot", {.temperature = 2.0f, .seed = 3}, 40, 2.0f},
        Case{"cold", {.temperature = 0.3f, .seed = 4}, 40, 1.0f},
        Case{"top_k", {.temperature = 0.9f, .top_k = 7, .seed = 5}, 300, 2.0f},
        Case{"top_p", {.top_p = 0.8f, .seed = 6}, 300, 2.0f},
        Case{"top_p_flat", {.top_p = 0.5f, .seed = 7}, 300, 0.01f},
        Case{"top_p_nearly_all", {.top_p = 0.999f, .seed = 8}, 200, 1.0f},
        Case{"min_p", {.min_p = 0.1f, .seed = 9}, 300, 2.0f},
        Case{"all",
             {.temperature = 0.6f, .top_k = 40, .top_p = 0.95f, .min_p = 0.02f, .seed = 10},
             1000,
             2.0f}),
    [](const auto& info) { return std::string(info.param.name); });

// The statistic must be able to fail: draws of one temperature are not those of another.
TEST(SamplingDistributionCheck, TellsTemperaturesApart) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 3.0f};
  const auto probabilities = expected_probabilities({.temperature = 1.05f}, logits);
  std::vector<int> counts(4, 0);
  Sampler sampler({.temperature = 1.0f, .seed = 1}, {});
  Workspace workspace;
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i) {
    const int32_t token = sampler.pick(logits, {}, workspace).token;
    ++counts[static_cast<size_t>(token)];
    sampler.accept(token);
  }
  double bound = 0;
  EXPECT_GT(chi_square(probabilities, counts, draws, bound), bound);
}

// The exact set of every cut, over many random logits with ties: each kept token can be drawn and
// no other, which the weights themselves show without drawing.
TEST(SamplingCuts, KeepTheRightSetOnRandomLogitsWithTies) {
  std::mt19937 random(23);
  Workspace workspace;
  for (int round = 0; round < 2000; ++round) {
    const size_t vocab = 1 + random() % 60;
    std::vector<float> logits(vocab);
    for (float& logit : logits) logit = static_cast<float>(random() % 12) * 0.5f;
    SamplingParams params{.temperature = 0.25f + static_cast<float>(random() % 8) * 0.25f,
                          .seed = round};
    if (random() % 2) params.top_k = 1 + static_cast<int>(random() % 50);
    if (round % 3 != 0) params.top_p = 0.013f + static_cast<float>(random() % 97) / 100.0f;
    if (round % 3 != 1) params.min_p = 0.0041f + static_cast<float>(random() % 90) / 100.0f;
    const auto probabilities = expected_probabilities(params, logits);
    Sampler(params, {}).pick(logits, {}, workspace);
    std::vector<bool> kept(vocab, false);
    for (const auto& candidate : workspace.candidates)
      kept[static_cast<size_t>(candidate.token.id)] = true;
    for (size_t id = 0; id < vocab; ++id) {
      ASSERT_EQ(kept[id], probabilities[id] > 0)
          << "round " << round << ", token " << id << ", top_k " << params.top_k << ", top_p "
          << params.top_p << ", min_p " << params.min_p;
    }
  }
}

}  // namespace
}  // namespace ridge::sampling::sampling_distribution_test
