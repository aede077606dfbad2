#include "format/quantization_recipe.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace ridge::format::quantization_recipe_test {

namespace {

const Shape matrix = {1536, 1536};

// As DeepSeek-R1-Distill-Qwen-7B.
ModelOutline outline_of_28_layers() { return {28, 28, 4, /*output_is_embedding=*/false}; }

DType chosen(std::string_view recipe, const ModelOutline& outline, std::string_view tensor) {
  const auto choice = choose_type(quantization_recipe(recipe), outline, tensor, matrix);
  EXPECT_TRUE(choice.has_value()) << tensor;
  EXPECT_FALSE(choice->replaced.has_value()) << tensor;
  return choice->dtype;
}

std::vector<int> layers_with(DType dtype, std::string_view recipe, const ModelOutline& outline,
                             std::string_view role) {
  std::vector<int> layers;
  for (int layer = 0; layer < outline.layers; ++layer) {
    if (chosen(recipe, outline, fmt::format("blk.{}.{}", layer, role)) == dtype) {
      layers.push_back(layer);
    }
  }
  return layers;
}

}  // namespace

TEST(QuantizationRecipe, GivesMXFP4ToExpertsAlone) {
  const ModelOutline outline = outline_of_28_layers();
  for (const char* role : {"ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"}) {
    EXPECT_EQ(chosen("mxfp4_moe", outline, fmt::format("blk.3.{}", role)), DType::mxfp4) << role;
  }
  for (const char* name : {"token_embd.weight", "output.weight", "blk.3.attn_v.weight",
                           "blk.3.ffn_down.weight", "blk.3.ffn_gate_shexp.weight"}) {
    EXPECT_EQ(chosen("mxfp4_moe", outline, name), DType::q8_0) << name;
  }
}

// The layers of llama.cpp's own Q4_K_M files of the 28-layer Qwen2 models.
TEST(QuantizationRecipe, GivesQ6KToTheLayersThatLlamaCppGivesIt) {
  const ModelOutline outline = outline_of_28_layers();
  const std::vector<int> expected = {0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27};
  for (const char* recipe : {"Q4_K_M", "Q5_K_M"}) {
    for (const char* role : {"attn_v.weight", "ffn_down.weight"}) {
      EXPECT_EQ(layers_with(DType::q6_k, recipe, outline, role), expected) << recipe << role;
    }
    for (const char* role : {"attn_q.weight", "attn_k.weight", "attn_output.weight",
                             "ffn_gate.weight", "ffn_up.weight"}) {
      EXPECT_TRUE(layers_with(DType::q6_k, recipe, outline, role).empty()) << recipe << role;
    }
  }
}

TEST(QuantizationRecipe, GivesTheSmallMixesTheirExtraBits) {
  const ModelOutline outline = outline_of_28_layers();
  const std::vector<int> three = {0, 1, 2};
  const std::vector<int> four = {0, 1, 2, 3};
  EXPECT_EQ(layers_with(DType::q5_k, "Q4_K_S", outline, "attn_v.weight"), four);
  EXPECT_EQ(layers_with(DType::q5_k, "Q4_K_S", outline, "ffn_down.weight"), three);
  EXPECT_EQ(layers_with(DType::q5_k, "IQ4_XS", outline, "ffn_down.weight"), three);
  EXPECT_EQ(layers_with(DType::q5_k, "IQ4_XS", outline, "attn_v.weight").size(), 28u);
  ModelOutline two_heads_share = outline;
  two_heads_share.kv_heads = 14;
  EXPECT_TRUE(layers_with(DType::q5_k, "IQ4_XS", two_heads_share, "attn_v.weight").empty());
  EXPECT_TRUE(layers_with(DType::q6_k, "Q5_K_S", outline, "ffn_down.weight").empty());
  const ModelOutline seventy_billion = {80, 64, 8, false};
  EXPECT_EQ(chosen("Q4_K_M", seventy_billion, "blk.12.attn_v.weight"), DType::q6_k);
  EXPECT_EQ(chosen("Q4_K_M", seventy_billion, "blk.13.attn_v.weight"), DType::q5_k);
}

TEST(QuantizationRecipe, KeepsTheOutputFiner) {
  ModelOutline outline = outline_of_28_layers();
  for (const char* recipe : {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K_M", "Q5_K_S", "IQ4_XS"}) {
    EXPECT_EQ(chosen(recipe, outline, "output.weight"), DType::q6_k) << recipe;
    EXPECT_EQ(chosen(recipe, outline, "token_embd.weight"), quantization_recipe(recipe).dtype);
  }
  EXPECT_EQ(chosen("Q8_0", outline, "output.weight"), DType::q8_0);
  EXPECT_EQ(chosen("F16", outline, "output.weight"), DType::f16);
  outline.output_is_embedding = true;
  EXPECT_EQ(chosen("Q4_K_M", outline, "token_embd.weight"), DType::q6_k);
  EXPECT_EQ(chosen("Q8_0", outline, "token_embd.weight"), DType::q8_0);
}

TEST(QuantizationRecipe, ReplacesATypeWhoseBlocksDoNotFitTheRows) {
  const ModelOutline outline = outline_of_28_layers();
  struct Case {
    const char* recipe;
    const char* tensor;
    int64_t columns;
    DType asked;
    DType used;
  };
  for (const Case& each : std::vector<Case>{
           {"Q4_K_M", "blk.3.ffn_up.weight", 96, DType::q4_k, DType::q5_0},
           {"Q5_K_M", "blk.3.ffn_up.weight", 96, DType::q5_k, DType::q5_1},
           {"Q4_K_M", "output.weight", 96, DType::q6_k, DType::q8_0},
           {"IQ4_XS", "blk.3.ffn_up.weight", 96, DType::iq4_xs, DType::iq4_nl},
           {"Q4_K_M", "blk.3.ffn_up.weight", 40, DType::q4_k, DType::f16},
           {"Q8_0", "blk.3.ffn_up.weight", 33, DType::q8_0, DType::f16},
       }) {
    const auto choice =
        choose_type(quantization_recipe(each.recipe), outline, each.tensor, Shape{8, each.columns});
    ASSERT_TRUE(choice.has_value());
    EXPECT_EQ(choice->dtype, each.used) << each.recipe << each.columns;
    EXPECT_EQ(choice->replaced, each.asked);
  }
}

TEST(QuantizationRecipe, LeavesVectorsNormsAndRoutersAlone) {
  const ModelOutline outline = outline_of_28_layers();
  const QuantizationRecipe& recipe = quantization_recipe("q4_k_m");
  EXPECT_FALSE(choose_type(recipe, outline, "blk.0.attn_q.bias", Shape{256}));
  EXPECT_FALSE(choose_type(recipe, outline, "rope_freqs.weight", Shape{64}));
  EXPECT_FALSE(choose_type(recipe, outline, "blk.0.attn_norm.weight", Shape{2, 256}));
  EXPECT_FALSE(choose_type(recipe, outline, "blk.0.ffn_gate_inp.weight", Shape{8, 256}));
}

TEST(QuantizationRecipe, ListsTheTypesWhereOneIsNotKnown) {
  try {
    quantization_recipe("Q3_K_M");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_THAT(std::string(error.message()), testing::HasSubstr("Q4_K_M"));
  }
}

}  // namespace ridge::format::quantization_recipe_test
