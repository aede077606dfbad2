// Holds the precompiled header that all tests use (precompiled.h).
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

// The assertions of the other programs must be able to fail.
TEST(Precompiled, AFailingExpectationIsAFailure) {
  testing::TestPartResultArray results;
  {
    const testing::ScopedFakeTestPartResultReporter reporter(
        testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
    EXPECT_TRUE(false);
  }
  EXPECT_EQ(results.size(), 1);
}
