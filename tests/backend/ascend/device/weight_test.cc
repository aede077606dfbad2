#include "backend/ascend/device/weight.h"

#include <gtest/gtest.h>

#include <limits>

#include "backend/ascend/device/open.h"
#include "backend/ascend/tiling.h"
#include "backend/device.h"

namespace ridge::backend::ascend::weight_test {

namespace {

// The head of a model with more words than rows that one copy can take: each part is multiplied by the
// kernels for few rows, as decoding needs it.
TEST(AscendWeight, PartsOfLargeVocabulariesFitTheKernelsForFewRows) {
  const auto device = open_twin("910B4", {});
  constexpr int64_t rows = 70000, columns = 32;
  for (const DType dtype : {DType::q4_0, DType::q8_0}) {
    const std::vector<std::byte> blocks(static_cast<size_t>(rows) * row_bytes(dtype, columns));
    const auto weight = device->prepare_weight({.name = "output",
                                                .segments = {{dtype, Shape{rows, columns}, blocks}},
                                                .use = WeightUse::linear});
    uint32_t next_row = 0;
    for (const WeightPart& part : as_ascend(*weight).parts()) {
      EXPECT_EQ(part.first_row, next_row);
      next_row += part.rows;
      const LinearShape shape = {.m = 1,
                                 .n = part.rows,
                                 .k = columns,
                                 .x_stride = columns,
                                 .out_stride = rows,
                                 .layout = LinearTiling::nz,
                                 .out_floats = true};
      const auto plan = plan_quantized_linear(find_soc("910B4"), shape, *part.format);
      EXPECT_STREQ(plan.kernel, dtype == DType::q4_0 ? "ridge_linear_i4_few_rows"
                                                     : "ridge_linear_i8_few_rows");
    }
    EXPECT_EQ(next_row, rows);
  }
}

// What is not finite stays so; it is no measure of what halves have to hold.
TEST(AscendWeight, HalvesHoldWhatIsFiniteBesideWhatIsNot) {
  const auto device = open_twin("910B4", {});
  std::vector<float> values(16 * 16, 1.0f);
  values[3] = std::numeric_limits<float>::infinity();
  values[20] = 0x1.8p99f;
  const auto weight = device->prepare_weight(
      {.name = "w",
       .segments = {{DType::f32, Shape{16, 16}, std::as_bytes(std::span(values))}},
       .use = WeightUse::linear});
  EXPECT_EQ(as_ascend(*weight).parts().front().factor, 0x1p86f);
}

}  // namespace

}  // namespace ridge::backend::ascend::weight_test
