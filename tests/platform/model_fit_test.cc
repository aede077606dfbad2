#include "platform/model_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ridge::platform::model_fit_test {
namespace {

constexpr int64_t gib = int64_t{1} << 30;
constexpr MachineRoom room = {
    .memory_bytes = 16 * gib, .memory_available_bytes = 8 * gib, .disk_free_bytes = 20 * gib};

TEST(ModelFit, IsYesWhereItsNeedIsFreeNow) {
  const ModelFit fit = fit_of(4 * gib, /*is_here=*/false, room);
  EXPECT_EQ(fit.fit, Fit::yes);
  EXPECT_GT(fit.needs_bytes, 4 * gib);
  EXPECT_EQ(fit.why, "");
}

TEST(ModelFit, IsTightWhereOthersHoldTheMemory) {
  const ModelFit fit =
      fit_of(8 * gib, /*is_here=*/false, room);  // and something beside the weights
  EXPECT_EQ(fit.fit, Fit::tight);
  EXPECT_FALSE(fit.fits_memory_now);
  EXPECT_THAT(fit.why, testing::HasSubstr("9.2 GiB of memory, of which 8.0 GiB are free"));
}

TEST(ModelFit, IsNoWhereTheMachineIsTooSmall) {
  const ModelFit fit = fit_of(15 * gib, /*is_here=*/true, room);
  EXPECT_EQ(fit.fit, Fit::no);
  EXPECT_THAT(fit.why, testing::HasSubstr("this machine has 16.0 GiB"));
}

TEST(ModelFit, AsksForDiskOnlyWhereTheFileIsNotHere) {
  MachineRoom full = room;
  full.disk_free_bytes = gib;
  EXPECT_EQ(fit_of(4 * gib, /*is_here=*/true, full).fit, Fit::yes);
  const ModelFit fit = fit_of(4 * gib, /*is_here=*/false, full);
  EXPECT_EQ(fit.fit, Fit::no);
  EXPECT_THAT(fit.why, testing::HasSubstr("4.0 GiB of disk, and 1.0 GiB are free"));
}

}  // namespace
}  // namespace ridge::platform::model_fit_test
