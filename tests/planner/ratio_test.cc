#include "planner/ratio.h"

#include <gmock/gmock.h>

#include "planner/throws.h"

namespace ridge::planner::ratio_test {
namespace {

const RatioRow& row_of(const std::vector<RatioRow>& rows, std::string_view weights,
                       std::string_view regime) {
  for (const RatioRow& row : rows) {
    if (row.weights == weights && row.regime == regime) return row;
  }
  ADD_FAILURE() << "no " << weights << ", " << regime;
  return rows.front();
}

// A dense model on one device each: prompts go by arithmetic, single answers by memory.
TEST(Ratio, IsThatOfTheFiguresThatLimit) {
  const DeviceTable devices = DeviceTable::built_in();
  const ModelTable models = ModelTable::built_in();
  const auto rows =
      ratios(*models.find("qwen3:8b"), devices.get("910C-die"), devices.get("H100"), 1, 4096);
  EXPECT_NEAR(row_of(rows, "bf16 / bf16", "prompts of 4096").ratio(), 353.9 / 989.4, 0.005);
  EXPECT_NEAR(row_of(rows, "bf16 / bf16", "decode, 1 a device").ratio(), 1600.0 / 3350, 0.005);
  EXPECT_NEAR(row_of(rows, "bf16 / fp8", "decode, 1 a device").ratio(), 0.5 * 1600.0 / 3350, 0.06);
}

TEST(Ratio, OfDevicesThatNothingLinksIsRefused) {
  Device alone = DeviceTable::built_in().get("H100");
  alone.name = "X1";
  alone.link_devices = 1;
  alone.link_gbps.value = alone.network_gbps.value = 0;
  const ModelTable models = ModelTable::built_in();
  EXPECT_EQ(thrown([&] { ratios(*models.find("deepseek-r1:671b"), alone, alone, 32, 4096); }),
            "invalid_argument: nothing links 32 of X1, as experts on all of them need");
  EXPECT_EQ(thrown([&] { ratios(*models.find("qwen3:8b"), alone, alone, 32, 4096); }), "nothing");
}

TEST(Ratio, OfADeviceToItselfIsOne) {
  const DeviceTable devices = DeviceTable::built_in();
  const ModelTable models = ModelTable::built_in();
  for (const RatioRow& row : ratios(*models.find("deepseek-r1:671b"), devices.get("H800"),
                                    devices.get("H800"), 32, 4096)) {
    if (row.weights == "bf16 / fp8") continue;
    EXPECT_DOUBLE_EQ(row.ratio(), 1) << row.regime;
  }
}

}  // namespace
}  // namespace ridge::planner::ratio_test
