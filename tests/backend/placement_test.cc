#include "backend/cpu/placement.h"

#include <gtest/gtest.h>

#include <set>

#include "backend/cpu/open.h"
#include "base/cpu_count.h"
#include "base/error.h"

namespace ridge::backend::cpu::placement_test {

TEST(Placement, GivesEachThreadAProcessorOfItsOwn) {
  const int cpus = available_cpus();
  const std::vector<int> processors = choose_processors(cpus, Toggle::on);
  EXPECT_EQ(std::set<int>(processors.begin(), processors.end()).size(), static_cast<size_t>(cpus));
  EXPECT_EQ(choose_processors(1, Toggle::on).size(), 1u);
}

TEST(Placement, PinsNothingUnlessAskedOrUseful) {
  EXPECT_TRUE(choose_processors(1, Toggle::off).empty());
  // One thread has nowhere better to be than where the system puts it.
  EXPECT_TRUE(choose_processors(1, Toggle::automatic).empty());
  EXPECT_TRUE(choose_processors(1000, Toggle::automatic).empty());
}

TEST(Placement, RefusesMoreThreadsThanProcessors) {
  try {
    choose_processors(1024, Toggle::on);
    FAIL() << "this machine has 1024 processors";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(error.message().find("1024 threads cannot be pinned to"), std::string::npos);
  }
}

TEST(Placement, ReadsWhatTheKernelSaysOfHugePages) {
  EXPECT_TRUE(huge_pages_allowed_by("[always] madvise never"));
  EXPECT_TRUE(huge_pages_allowed_by("always [madvise] never"));
  EXPECT_FALSE(huge_pages_allowed_by("always madvise [never]"));
  EXPECT_FALSE(huge_pages_allowed_by(""));
}

TEST(Placement, TellsWhatADeviceChose) {
  const auto device = open({.threads = 1, .pin_threads = Toggle::on, .huge_pages = Toggle::off});
  EXPECT_TRUE(device->info().threads_pinned);
  EXPECT_FALSE(device->info().huge_pages);
  const auto plain = open({.threads = 1, .pin_threads = Toggle::off});
  EXPECT_FALSE(plain->info().threads_pinned);
  EXPECT_EQ(plain->info().huge_pages, huge_pages_available());
}

}  // namespace ridge::backend::cpu::placement_test
