#include "planner/model_shape.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <map>

#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "planner/throws.h"
#include "planner/weight_format.h"
#include "platform/catalog.h"

namespace ridge::planner::model_shape_test {
namespace {

using ::testing::HasSubstr;

const ModelShape& shape_of(const char* name) {
  static const ModelTable table = ModelTable::built_in();
  const ModelShape* shape = table.find(name);
  EXPECT_NE(shape, nullptr) << name;
  return *shape;
}

// From DeepSeek-V3's config.json by hand:
//   queries 1536 (7168 + 128 x 192)                     48,758,784
//   latent and rotary key 7168 x 576                     4,128,768
//   keys and values of heads 512 x 128 x (128 + 128)    16,777,216
//   output 128 x 128 x 7168                            117,440,512
TEST(ModelShape, CountsWeightsOfLatentAttention) {
  EXPECT_EQ(shape_of("deepseek-r1:671b").attention_weights(), 187'105'280);
}

// 61 x 187,105,280 + 3 x 396,361,728 + 58 (256 x 44,040,192 + 44,040,192 + 7168 x 256)
// + 2 x 7168 x 129,280; DeepSeek calls it 671B, of which 37B are active.
TEST(ModelShape, CountsParametersOfDeepSeekV3) {
  const ModelShape& shape = shape_of("deepseek-v3");
  EXPECT_EQ(shape.feed_forward_weights(), 396'361'728);
  EXPECT_EQ(shape.expert_weights(), 44'040'192);
  EXPECT_EQ(shape.parameters(), 671'025'397'760);
  // 35,698 million in layers (11,413.4 + 1,189.1 + 58 (9 x 44.040 + 1.835)) and 926.7 of the head.
  EXPECT_NEAR(shape.active_parameters(), 36.62e9, 0.01e9);
}

// 512 + 64 values of each of 61 layers: 70,272 bytes in bfloat16, against 2 x 8 x 128 x 80 of a
// model of 70B with grouped heads.
TEST(ModelShape, CountsCachedValues) {
  EXPECT_EQ(shape_of("deepseek-r1:671b").cached_values() * 2, 576 * 2 * 61);
  EXPECT_EQ(shape_of("deepseek-r1:70b").cached_values(), 2 * 8 * 128 * 80);
}

// Absorbed: a score over 576 and a sum over 512 values of each of 128 heads; else 192 and 128.
TEST(ModelShape, CountsAttention) {
  const ModelShape& shape = shape_of("deepseek-r1:671b");
  EXPECT_EQ(shape.attention_multiplies(/*absorbed=*/true), 128 * (576 + 512));
  EXPECT_EQ(shape.attention_multiplies(/*absorbed=*/false), 128 * (192 + 128));
  EXPECT_EQ(shape_of("qwen3:32b").attention_multiplies(/*absorbed=*/true), 64 * 256);
}

// The catalog counts norms too (two of each layer and the last), and biases of queries, keys and
// values (Qwen2) or norms of their heads (Qwen3).
TEST(ModelShape, HasTheParametersThatTheCatalogStates) {
  const platform::Catalog catalog = platform::Catalog::built_in();
  const ModelTable models = ModelTable::built_in();
  int compared = 0;
  for (const ModelShape& shape : models.models()) {
    const auto choice = catalog.find(shape.name);
    if (!choice) continue;
    ++compared;
    const double rest = static_cast<double>(choice->model->parameters) - shape.parameters();
    if (shape.latent) {
      EXPECT_NEAR(rest / shape.parameters(), 0, 1e-5) << shape.name;
      continue;
    }
    const double norms = shape.hidden * (2.0 * shape.layers + 1);
    const double biases = 1.0 * shape.layers * shape.key_dim * (shape.heads + 2.0 * shape.kv_heads);
    const double head_norms = 2.0 * shape.layers * shape.key_dim;
    // gpt-oss has them of all linears, and a sink for each head.
    double all_biases = biases;
    if (shape.experts) {
      const double of_experts = 2.0 * shape.experts->feed_forward + shape.hidden + 1;
      all_biases +=
          shape.layers * (shape.hidden + shape.heads + shape.experts->count * of_experts);
    }
    EXPECT_THAT(rest, ::testing::AnyOf(norms, norms + biases, norms + head_norms,
                                       norms + all_biases))
        << shape.name;
  }
  EXPECT_GE(compared, 7);
}

TEST(ModelShape, EveryNameAndQuantisationOfTheCatalogIsKnown) {
  const platform::Catalog catalog = platform::Catalog::built_in();
  const ModelTable models = ModelTable::built_in();
  for (const platform::CatalogModel& model : catalog.models()) {
    EXPECT_NE(models.find(model.name), nullptr) << model.name;
    for (const platform::CatalogQuantization& each : model.quantizations) {
      EXPECT_EQ(thrown([&] { find_weight_format(each.name); }), "nothing") << model.name;
    }
  }
  // A block of 32 weights in 16 bytes with a half each for scale and minimum.
  EXPECT_EQ(find_weight_format("Q4_1").bits, (16 + 2 + 2) * 8 / 32.0);
}

// Dimensions of which each fits an int, and their products do not.
TEST(ModelShape, LargeDimensionsDoNotOverflow) {
  ModelShape shape = shape_of("qwen3:8b");
  shape.layers = 1;
  shape.hidden = shape.heads = shape.kv_heads = shape.key_dim = shape.value_dim = 1 << 20;
  const double million = 1 << 20;
  EXPECT_EQ(shape.cached_values(), 2 * million * million);
  EXPECT_EQ(shape.attention_weights(), 4 * million * million * million);
  EXPECT_EQ(shape.attention_multiplies(/*absorbed=*/false), 2 * million * million);
}

// Published sizes: 30.5B with 3.3B active, 235B with 22B, 15.7B with 2.4B.
TEST(ModelShape, HasThePublishedSizesOfModelsOfExperts) {
  EXPECT_NEAR(shape_of("qwen3:30b-a3b").parameters(), 30.5e9, 0.1e9);
  EXPECT_NEAR(shape_of("qwen3:30b-a3b").active_parameters(), 3.3e9, 0.4e9);
  EXPECT_NEAR(shape_of("qwen3:235b-a22b").parameters(), 235e9, 0.5e9);
  EXPECT_NEAR(shape_of("deepseek-v2-lite").parameters(), 15.7e9, 0.1e9);
}

TEST(ModelShape, ReadsAGgufFile) {
  const std::filesystem::path path =
      std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/goldens/llama-f32.gguf";
  const ModelShape shape = read_gguf_shape(path);
  const format::GgufFile file = format::GgufFile::open(path);
  // All but the norms: two of each layer, and the last.
  EXPECT_EQ(shape.parameters(),
            static_cast<double>(file.parameters()) - shape.hidden * (2.0 * shape.layers + 1));
  EXPECT_EQ(shape.file_bits, 32);
}

// A llama of one layer as a GGUF file, whose keys and embedding a test may change.
class GgufShape : public ::testing::Test {
 protected:
  std::string refusal(DType dtype, const Shape& embedding) {
    format::GgufWriter writer;
    writer.set_string("general.architecture", "llama");
    for (const auto& [key, value] : keys_) writer.set_uint32("llama." + key, value);
    writer.add_streamed_tensor(
        "token_embd.weight", dtype, embedding, [&](const format::GgufWriter::Sink& sink) {
          sink(std::vector<std::byte>(row_bytes(dtype, embedding.elements())));
        });
    writer.write(path_);
    return thrown([&] { read_gguf_shape(path_); });
  }

  TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_ / "model.gguf";
  std::map<std::string, uint32_t> keys_ = {{"embedding_length", 8},
                                           {"block_count", 2},
                                           {"context_length", 64},
                                           {"feed_forward_length", 12},
                                           {"attention.head_count", 2}};
};

TEST_F(GgufShape, MustHaveLayersAndDimensions) {
  EXPECT_EQ(refusal(DType::f16, {10, 8}), "nothing");
  keys_["attention.head_count"] = 9;  // of a hidden state of 8: no dimension is left for a head
  EXPECT_THAT(refusal(DType::f16, {10, 8}),
              HasSubstr("invalid_file: model llama: key_dim is 0; at least 1 is expected"));
  keys_["attention.head_count"] = 2;
  keys_.erase("feed_forward_length");
  EXPECT_THAT(refusal(DType::f16, {10, 8}), HasSubstr("feed_forward is 0; at least 1"));
}

TEST_F(GgufShape, IsNotAllOfDraftLayers) {
  keys_["attention.kv_lora_rank"] = 6;
  keys_["attention.key_length"] = 5;
  keys_["attention.value_length"] = 3;
  keys_["rope.dimension_count"] = 2;
  keys_["nextn_predict_layers"] = 1;
  EXPECT_EQ(refusal(DType::f16, {10, 8}), "nothing");
  keys_["nextn_predict_layers"] = 2;
  EXPECT_THAT(refusal(DType::f16, {10, 8}), HasSubstr("layers is 0; at least 1 is expected"));
  keys_["nextn_predict_layers"] = 3;
  EXPECT_THAT(refusal(DType::f16, {10, 8}), HasSubstr("layers is -1; at least 1 is expected"));
}

TEST_F(GgufShape, HasARowOfTheEmbeddingForEachToken) {
  EXPECT_THAT(refusal(DType::f16, {80}),
              HasSubstr("token_embd.weight is [80]; [1 to 16777216 tokens, hidden] is expected"));
  EXPECT_THAT(refusal(DType::f16, {10, 4, 2}), HasSubstr("token_embd.weight is [10, 4, 2]"));
  EXPECT_THAT(refusal(DType::f16, {(1 << 24) + 1, 1}), HasSubstr("[16777217, 1]; [1 to"));
}

class ConfigFile : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) {
    return folder_.write("config.json", text);
  }

  TemporaryFolder folder_;
};

TEST_F(ConfigFile, OfDeepSeekGivesTheSameShapeAsTheTable) {
  const ModelShape shape = read_config_shape(write(R"({
    "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168,
    "num_hidden_layers": 61, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512,
    "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "n_group": 8,
    "topk_group": 4, "first_k_dense_replace": 3, "num_nextn_predict_layers": 1,
    "max_position_embeddings": 163840, "tie_word_embeddings": false})"));
  const ModelShape& table = shape_of("deepseek-r1:671b");
  EXPECT_EQ(shape.parameters(), table.parameters());
  EXPECT_EQ(shape.cached_values(), table.cached_values());
  EXPECT_EQ(shape.draft_weights(), table.draft_weights());
  EXPECT_EQ(shape.experts->groups_used, 4);
  EXPECT_EQ(shape.experts->groups, table.experts->groups);
}

TEST_F(ConfigFile, OfQwenGivesTheSameShapeAsTheTable) {
  const ModelShape shape = read_config_shape(write(R"({
    "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "head_dim": 128,
    "num_hidden_layers": 48, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128,
    "num_experts_per_tok": 8, "max_position_embeddings": 40960})"));
  EXPECT_EQ(shape.parameters(), shape_of("qwen3:30b-a3b").parameters());
}

TEST_F(ConfigFile, ThatIsWrongIsNamed) {
  EXPECT_THAT(thrown([&] { read_config_shape(folder_ / "missing.json"); }),
              HasSubstr("not_found: cannot read"));
  EXPECT_THAT(thrown([&] { read_config_shape(write("no json")); }), HasSubstr("no JSON object"));
  EXPECT_THAT(thrown([&] { read_config_shape(write("{}")); }),
              HasSubstr("'vocab_size' is missing; is this a config.json?"));
  EXPECT_THAT(thrown([&] { read_config_shape(write(R"({"vocab_size": -1})")); }),
              HasSubstr("'vocab_size' must be a whole number from 1 to"));
  EXPECT_THAT(thrown([&] {
                read_config_shape(write(R"({"vocab_size": 10, "hidden_size": 8,
                  "num_hidden_layers": 1, "num_attention_heads": 3, "num_key_value_heads": 2,
                  "intermediate_size": 8})"));
              }),
              HasSubstr("3 heads cannot share 2 KV heads equally"));
  EXPECT_THAT(thrown([&] {
                read_config_shape(write(R"({"vocab_size": 10, "hidden_size": 2,
                  "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 8})"));
              }),
              HasSubstr("key_dim is 0; at least 1 is expected"));
}

TEST(ModelTable, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(thrown([] { ModelTable::parse("[[model]]\nname = 'a'\nhiden = 3", "x.toml"); }),
              HasSubstr("x.toml:1: model a: unknown key 'hiden'"));
  EXPECT_THAT(thrown([] { ModelTable::parse("model = 1", "x.toml"); }),
              HasSubstr("'model' must be a list of tables"));
}

}  // namespace
}  // namespace ridge::planner::model_shape_test
