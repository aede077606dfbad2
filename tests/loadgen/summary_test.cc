#include "loadgen/summary.h"

#include <gtest/gtest.h>

namespace ridge::loadgen::summary_test {
namespace {

// Expected values: numpy.percentile([15, 20, 35, 40, 50], p).
TEST(Summary, PercentilesAreThoseOfNumpy) {
  const std::vector<double> sorted = {15, 20, 35, 40, 50};
  EXPECT_DOUBLE_EQ(percentile(sorted, 0), 15);
  EXPECT_DOUBLE_EQ(percentile(sorted, 5), 16);
  EXPECT_DOUBLE_EQ(percentile(sorted, 40), 29);
  EXPECT_DOUBLE_EQ(percentile(sorted, 50), 35);
  EXPECT_DOUBLE_EQ(percentile(sorted, 90), 46);
  EXPECT_DOUBLE_EQ(percentile(sorted, 100), 50);
}

TEST(Summary, SortsAndCounts) {
  const Summary summary = summarize({50, 15, 40, 20, 35});
  EXPECT_EQ(summary.count, 5u);
  EXPECT_DOUBLE_EQ(summary.mean, 32);
  EXPECT_DOUBLE_EQ(summary.p50, 35);
  EXPECT_DOUBLE_EQ(summary.p90, 46);
  EXPECT_DOUBLE_EQ(summary.p95, 48);
  EXPECT_DOUBLE_EQ(summary.p99, 49.6);
  EXPECT_DOUBLE_EQ(summary.max, 50);
}

TEST(Summary, OneValueIsEveryPercentile) {
  const Summary summary = summarize({7});
  EXPECT_EQ(summary.p50, 7);
  EXPECT_EQ(summary.p99, 7);
}

TEST(Summary, NothingIsAllZero) { EXPECT_EQ(summarize({}).count, 0u); }

}  // namespace
}  // namespace ridge::loadgen::summary_test
