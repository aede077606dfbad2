#include "api/model_list.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/json_text.h"
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

Json anthropic_list(const std::vector<ServedModel>& models, const std::string& query) {
  return Json::parse(anthropic_model_list_body(models, query));
}

std::string ids_of(const Json& list) {
  std::string ids;
  for (const Json& model : list["data"]) ids += model["id"].get<std::string>();
  return ids;
}

TEST(AnthropicModels, ComeInPages) {
  auto served = models({"a", "b", "c", "d", "e"});
  served[0].created_s = 1'700'000'000;
  const Json all = anthropic_list(served, "");
  EXPECT_EQ(all["data"][0], Json::parse(R"({"type":"model","id":"a","display_name":"a",
      "created_at":"2023-11-14T22:13:20Z"})"));
  EXPECT_EQ(ids_of(all), "abcde");
  EXPECT_EQ(all["has_more"], false);
  const Json first = anthropic_list(served, "limit=2");
  EXPECT_EQ(ids_of(first), "ab");
  EXPECT_EQ(first["has_more"], true);
  EXPECT_EQ(first["first_id"], "a");
  EXPECT_EQ(first["last_id"], "b");
  EXPECT_EQ(ids_of(anthropic_list(served, "limit=2&after_id=b")), "cd");
  const Json last = anthropic_list(served, "limit=2&after_id=d");
  EXPECT_EQ(ids_of(last), "e");
  EXPECT_EQ(last["has_more"], false);
  const Json before = anthropic_list(served, "limit=2&before_id=d");
  EXPECT_EQ(ids_of(before), "bc");
  EXPECT_EQ(before["has_more"], true);
  const Json none = anthropic_list(served, "after_id=e");
  EXPECT_EQ(none["data"], Json::array());
  EXPECT_EQ(none["first_id"], nullptr);
  EXPECT_EQ(none["has_more"], false);
}

TEST(AnthropicModels, NamesWhatIsWrongWithTheQuestion) {
  const auto served = models({"a"});
  const auto refusal = [&](const std::string& query) {
    return refusal_of([&] { anthropic_model_list_body(served, query); });
  };
  EXPECT_EQ(refusal("limit=0"), "invalid_argument limit");
  EXPECT_EQ(refusal("limit=1001"), "invalid_argument limit");
  EXPECT_EQ(refusal("after_id=b"), "invalid_argument after_id");
  EXPECT_EQ(refusal("before_id=b"), "invalid_argument before_id");
  EXPECT_EQ(refusal("before_id=a&after_id=a"), "invalid_argument before_id");
}

}  // namespace
}  // namespace ridge::api::model_list_test
