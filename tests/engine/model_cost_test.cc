#include "engine/model_cost.h"

#include <gtest/gtest.h>

#include <string>

namespace ridge::engine::model_cost_test {
namespace {

// By hand for llama-f32: hidden 128, feed-forward 96, 2 layers, 4 heads of 32 over 2 KV heads, 320
// tokens, tied embedding.
TEST(ModelCost, CountsWhatAStepMustDo) {
  const auto file =
      format::GgufFile::open(std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/llama-f32.gguf");
  const backend::KvCacheLayout layout = {
      .layers = 2, .kv_heads = 2, .key_dim = 32, .value_dim = 32, .dtype = DType::f16};
  const ModelCost cost = cost_of(file, layout, /*heads=*/4);
  const uint64_t layer = 128 * 128 + 2 * 64 * 128 + 128 * 128 + 3 * 96 * 128;
  EXPECT_EQ(cost.layer_weights, 2 * layer);
  EXPECT_EQ(cost.head_weights, 320u * 128);
  EXPECT_EQ(cost.kv_bytes, 2u * 2 * 64 * 2);
  EXPECT_EQ(cost.attention_weights, 2u * 4 * 64);
  const uint64_t norms = 5 * 128;
  EXPECT_EQ(cost.weight_bytes, 4 * (2 * layer + 320 * 128 + norms));
  EXPECT_DOUBLE_EQ(cost.decode_step_bytes(3, 10),
                   static_cast<double>(cost.weight_bytes) + 512.0 * 30);
  // Ten tokens after five see 6 + 7 + … + 15 = 105.
  EXPECT_DOUBLE_EQ(cost.prefill_flops(10, 5), 2.0 * (10.0 * 2 * layer + 512.0 * 105 + 320 * 128));
}

// By hand for qwen3moe-f32: hidden 64, 2 layers, 7 experts of 40, of which a token uses 3, 4 heads
// of 16 over 2 KV heads.
TEST(ModelCost, CountsTheExpertsThatTokensUse) {
  const auto file =
      format::GgufFile::open(std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/qwen3moe-f32.gguf");
  const ModelCost cost = cost_of(file, {.layers = 2}, /*heads=*/4);
  const uint64_t expert = 3 * 40 * 64;
  EXPECT_EQ(cost.layer_weights, 2u * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 7 * 64 + 3 * expert));
  EXPECT_EQ(cost.expert_bytes, 2u * 7 * expert * 4);
  EXPECT_DOUBLE_EQ(cost.decode_step_bytes(1, 0),
                   static_cast<double>(cost.weight_bytes) + 2.0 * 3 * expert * 4);
  // Two tokens that choose alike read no more, but are expected to choose 3 + 3 · 4 / 7 experts.
  EXPECT_NEAR(cost.decode_step_bytes(2, 0),
              static_cast<double>(cost.weight_bytes) + 2 * (3 + 12.0 / 7) * expert * 4, 1e-3);
}

// A layer that guesses is no part of the model's passes.
TEST(ModelCost, LeavesOutLayersForMultiTokenPrediction) {
  const auto file = format::GgufFile::open(std::string(RIDGE_SOURCE_DIR) +
                                           "/tests/goldens/deepseek-v3-mtp-f32.gguf");
  const ModelCost cost = cost_of(file, {.layers = 2}, /*heads=*/3);
  EXPECT_EQ(cost.expert_bytes, 12u * 3 * 32 * 64 * 4) << "the second of the two layers";
}

}  // namespace
}  // namespace ridge::engine::model_cost_test
