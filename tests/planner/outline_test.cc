#include "planner/outline.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ridge::planner::outline_test {

namespace {

const ModelShape& shape_of(const char* name) {
  static const ModelTable models = ModelTable::built_in();
  return *models.find(name);
}

TEST(Outline, HasTheTensorsOfItsFamilyAndAllItsParameters) {
  const ModelShape& shape = shape_of("deepseek-r1:7b");
  const format::GgufFile file = outline_model(shape, DType::f16);
  EXPECT_EQ(file.architecture(), "qwen2");
  EXPECT_EQ(file.tensor("blk.27.ffn_down.weight").view.shape, (Shape{3584, 18944}));
  EXPECT_EQ(file.tensor("blk.27.ffn_down.weight").view.dtype, DType::f16);
  EXPECT_EQ(file.tensor("blk.0.attn_k.bias").view.shape, (Shape{512}));
  EXPECT_EQ(file.tensor("output_norm.weight").view.dtype, DType::f32);
  EXPECT_EQ(file.find("blk.28.attn_norm.weight"), nullptr);
  // The shape counts matrices alone.
  const auto parameters = static_cast<double>(file.parameters());
  EXPECT_GE(parameters, shape.parameters());
  EXPECT_LE(parameters, 1.0005 * shape.parameters());
}

TEST(Outline, TakesTheFamilyFromTheName) {
  EXPECT_EQ(outline_model(shape_of("deepseek-r1:8b"), DType::q8_0).architecture(), "llama");
  const format::GgufFile qwen3 = outline_model(shape_of("qwen3:8b"), DType::q4_0);
  EXPECT_EQ(qwen3.architecture(), "qwen3");
  EXPECT_EQ(qwen3.tensor("blk.0.attn_q_norm.weight").view.shape, (Shape{128}));
  EXPECT_EQ(outline_model(shape_of("smollm2:135m"), DType::f16).find("output.weight"), nullptr);
}

TEST(Outline, SaysWhatItCannotStandFor) {
  const auto message_of = [](const char* name, DType dtype) -> std::string {
    try {
      outline_model(shape_of(name), dtype);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      return std::string(error.message());
    }
    return "";
  };
  EXPECT_NE(message_of("deepseek-r1:671b", DType::f16).find("experts"), std::string::npos);
  // Rows of 576 are no whole blocks of 256.
  EXPECT_NE(message_of("smollm2:135m", DType::q4_k).find("576"), std::string::npos);
}

}  // namespace

}  // namespace ridge::planner::outline_test
