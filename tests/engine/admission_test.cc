#include "engine/admission.h"

#include <gtest/gtest.h>

namespace ridge::engine::admission_test {
namespace {

TEST(Admission, AnyGroupMayWaitUntilTheQueueIsFull) {
  EXPECT_TRUE(may_wait({}, "a", 1));
  EXPECT_TRUE(may_wait({{"a", 7}}, "a", 8));
  EXPECT_FALSE(may_wait({{"a", 8}}, "a", 8));
}

TEST(Admission, AGroupThatFillsTheQueueDoesNotShutOutAnother) {
  EXPECT_TRUE(may_wait({{"a", 8}}, "b", 8));
  EXPECT_TRUE(may_wait({{"a", 8}, {"b", 3}}, "b", 8));
  EXPECT_FALSE(may_wait({{"a", 8}, {"b", 4}}, "b", 8)) << "it has its half";
  EXPECT_FALSE(may_wait({{"a", 8}, {"b", 3}}, "a", 8));
}

TEST(Admission, TheQueueIsBoundedForAnyNumberOfGroups) {
  WaitingCounts waiting;
  for (int group = 0; group < 1000; ++group) {
    const std::string name = std::to_string(group);
    while (may_wait(waiting, name, 64)) ++waiting[name];
  }
  EXPECT_LE(total(waiting), 128);
  EXPECT_GE(total(waiting), 64);
}

}  // namespace
}  // namespace ridge::engine::admission_test
