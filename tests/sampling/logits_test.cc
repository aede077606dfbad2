#include "sampling/logits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"

namespace ridge::sampling::logits_test {
namespace {

std::vector<float> random_logits(size_t size, uint32_t seed, int distinct_values) {
  std::mt19937 random(seed);
  std::vector<float> logits(size);
  for (float& logit : logits) {
    logit =
        static_cast<float>(static_cast<int>(random() % static_cast<uint32_t>(distinct_values))) /
            8 -
        20;
  }
  return logits;
}

TEST(ExpNonPositive, IsWithinItsBoundOfTheExactValue) {
  std::vector<float> x;
  for (float value = 0.0f; value > -87.0f; value -= 0.00137f) x.push_back(value);
  std::vector<float> y = x;
  exp_non_positive(y);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(y[i] - exact) / exact);
  }
  EXPECT_LT(worst, 2e-7);
  EXPECT_GT(worst, 0.0);
}

TEST(ExpNonPositive, EndsAreExact) {
  std::vector<float> x = {0.0f, -87.5f, -1e30f, -std::numeric_limits<float>::infinity()};
  exp_non_positive(x);
  EXPECT_EQ(x, (std::vector<float>{1.0f, 0.0f, 0.0f, 0.0f}));
}

TEST(LogSumExp, AgreesWithDoubles) {
  for (size_t size : {1u, 2u, 15u, 16u, 17u, 1024u, 1025u, 5000u}) {
    const std::vector<float> logits = random_logits(size, static_cast<uint32_t>(size), 200);
    double sum = 0;
    for (float logit : logits) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(log_sum_exp(logits), std::log(sum), 1e-6) << size;
  }
}

TEST(LogSumExp, DoesNotOverflow) {
  const std::vector<float> logits = {3e38f, 3e38f, -3e38f};
  EXPECT_NEAR(log_sum_exp(logits), 3e38, 1e32);
}

TEST(Argmax, TakesTheSmallerIdOfEquals) {
  std::vector<float> logits(100, -5.0f);
  logits[37] = logits[36] = logits[99] = -1.0f;
  EXPECT_EQ(argmax(logits), 36);
  EXPECT_EQ(argmax(std::vector<float>{4.0f}), 0);
}

TEST(TopTokens, EqualAFullSortWithTies) {
  for (size_t size : {1u, 5u, 64u, 1000u, 3001u}) {
    for (int distinct : {1, 3, 50, 100000}) {
      const std::vector<float> logits = random_logits(size, 11, distinct);
      std::vector<ScoredToken> all;
      for (size_t i = 0; i < size; ++i) all.push_back({static_cast<int32_t>(i), logits[i]});
      std::stable_sort(all.begin(), all.end(),
                       [](const auto& a, const auto& b) { return a.score > b.score; });
      for (int count : {0, 1, 2, 20, 999, 5000}) {
        const auto top = top_tokens(logits, count);
        ASSERT_EQ(top.size(), std::min(size, static_cast<size_t>(count)));
        for (size_t i = 0; i < top.size(); ++i) {
          ASSERT_EQ(top[i].id, all[i].id)
              << "size " << size << ", count " << count << ", place " << i;
          ASSERT_EQ(top[i].score, all[i].score);
        }
      }
    }
  }
}

TEST(CheckFinite, NamesTheFirstBadToken) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (size_t place : {0u, 17u, 49u}) {
      std::vector<float> logits(50, 1.0f);
      EXPECT_NO_THROW(check_finite(logits));
      logits[place] = bad;
      logits[49] = bad;
      try {
        check_finite(logits);
        FAIL() << "accepted " << bad;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::internal);
        EXPECT_NE(error.message().find("token " + std::to_string(place)), std::string::npos)
            << error.message();
      }
    }
  }
  EXPECT_NO_THROW(check_finite(std::vector<float>{3.4e38f, -3.4e38f, -0.0f}));
}

}  // namespace
}  // namespace ridge::sampling::logits_test
