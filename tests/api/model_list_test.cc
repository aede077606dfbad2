#include "api/model_list.h"

#include <gtest/gtest.h>

#include "api/sampling_defaults.h"
#include "refusal.h"

namespace ridge::api::model_list_test {
namespace {

std::vector<ServedModel> models(std::initializer_list<const char*> names) {
  std::vector<ServedModel> models;
  for (const char* name : names) {
    ServedModel model;
    model.name = name;
    models.push_back(std::move(model));
  }
  return models;
}

TEST(FindModel, TakesTheOnlyOneWhereNoneIsNamed) {
  const auto one = models({"a"});
  EXPECT_EQ(find_model(one, "").name, "a");
  const auto two = models({"a", "b"});
  EXPECT_EQ(find_model(two, "b").name, "b");
  EXPECT_EQ(refusal_of([&] { find_model(two, ""); }), "invalid_argument model");
  EXPECT_EQ(refusal_of([&] { find_model(two, "c"); }), "not_found model");
}

TEST(FindModel, TakesTheOnlyModelWhateverItsAdapters) {
  auto served = models({"a", "b"});
  served[1].adapter = 0;
  served[1].parent = "a";
  EXPECT_EQ(find_model(served, "").name, "a");
  EXPECT_EQ(find_model(served, "b").adapter, 0);
}

TEST(FindModel, TakesTheModelThatWasThereWhereOthersHaveBeenAdded) {
  auto served = models({"a", "b"});
  served[1].is_added = true;
  EXPECT_EQ(find_model(served, "").name, "a");
  EXPECT_EQ(find_model(served, "b").name, "b");
}

TEST(DefaultSampling, FollowsDeepSeekForR1Only) {
  engine::ModelInfo info;
  info.name = "DeepSeek R1 Distill Qwen 1.5B";
  EXPECT_FLOAT_EQ(default_sampling("x", info).temperature, 0.6f);
  EXPECT_FLOAT_EQ(default_sampling("x", info).top_p, 0.95f);
  info.name = "SmolLM2 135M";
  EXPECT_FLOAT_EQ(default_sampling("smollm2:135m", info).temperature, 1.0f);
  EXPECT_FLOAT_EQ(default_sampling("deepseek-r1:7b", info).temperature, 0.6f);
}

}  // namespace
}  // namespace ridge::api::model_list_test
