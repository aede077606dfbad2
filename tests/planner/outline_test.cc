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

// With embedding, and 64-bit sizes, whatever a model is made of.
TEST(Outline, HasExpertsAndLatentsAsFilesHaveThem) {
  const auto check_parameters = [](const format::GgufFile& file, const ModelShape& shape) {
    EXPECT_GE(static_cast<double>(file.parameters()), shape.parameters()) << shape.name;
    EXPECT_LE(static_cast<double>(file.parameters()), 1.001 * shape.parameters()) << shape.name;
  };
  const format::GgufFile qwen3 = outline_model(shape_of("qwen3:30b-a3b"), DType::f16);
  EXPECT_EQ(qwen3.architecture(), "qwen3moe");
  EXPECT_EQ(qwen3.tensor("blk.47.ffn_down_exps.weight").view.shape, (Shape{128, 2048, 768}));
  EXPECT_EQ(qwen3.tensor("blk.0.ffn_gate_inp.weight").view.dtype, DType::f32);
  check_parameters(qwen3, shape_of("qwen3:30b-a3b"));
  const format::GgufFile v3 = outline_model(shape_of("deepseek-v3"), DType::q4_k);
  EXPECT_EQ(v3.architecture(), "deepseek2");
  EXPECT_EQ(v3.tensor("blk.2.ffn_gate.weight").view.shape, (Shape{18432, 7168}));
  EXPECT_EQ(v3.tensor("blk.3.ffn_up_exps.weight").view.shape, (Shape{256, 2048, 7168}));
  EXPECT_EQ(v3.tensor("blk.3.ffn_up_shexp.weight").view.shape, (Shape{2048, 7168}));
  EXPECT_EQ(v3.tensor("blk.60.attn_q_b.weight").view.shape, (Shape{128 * 192, 1536}));
  // Heads have 128 columns, which are no whole blocks of Q4_K.
  EXPECT_EQ(v3.tensor("blk.0.attn_k_b.weight").view.dtype, DType::q8_0);
  EXPECT_EQ(v3.tensor("blk.0.attn_k_b.weight").view.shape, (Shape{128, 512, 128}));
  EXPECT_EQ(v3.metadata().int64("deepseek2.expert_group_count"), 8);
  check_parameters(v3, shape_of("deepseek-v3"));
  const format::GgufFile lite = outline_model(shape_of("deepseek-v2-lite"), DType::q4_0);
  EXPECT_EQ(lite.tensor("blk.0.attn_q.weight").view.shape, (Shape{16 * 192, 2048}));
  EXPECT_EQ(lite.tensor("blk.1.ffn_down_shexp.weight").view.shape, (Shape{2048, 2816}));
  check_parameters(lite, shape_of("deepseek-v2-lite"));
  const format::GgufFile oss = outline_model(shape_of("gpt-oss:20b"), DType::mxfp4);
  EXPECT_EQ(oss.architecture(), "gpt-oss");
  EXPECT_EQ(oss.tensor("blk.0.attn_sinks.weight").view.shape, (Shape{64}));
  EXPECT_EQ(oss.tensor("blk.0.ffn_down_exps.bias").view.shape, (Shape{32, 2880}));
  check_parameters(oss, shape_of("gpt-oss:20b"));
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
  EXPECT_NE(message_of("deepseek-v2-lite", DType::q4_k).find("10944"), std::string::npos);
  // Rows of 576 are no whole blocks of 256.
  EXPECT_NE(message_of("smollm2:135m", DType::q4_k).find("576"), std::string::npos);
}

}  // namespace

}  // namespace ridge::planner::outline_test
