#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "backend/registry.h"
#include "base/error.h"
#include "model/model.h"
#include "model/tiny_model.h"

namespace ridge::model::model_file_test {

namespace {

using testing::AllOf;
using testing::HasSubstr;

// Loads the file on the reference device; the error is returned as "code: message", "" where none.
std::string load_error(const TinyModel& tiny, bool guesses = false) {
  const std::vector<std::byte> bytes = tiny.write();
  const auto device = backend::open_device("reference");
  try {
    const auto file = format::GgufFile::parse(bytes);
    Model::load(file, *device, {.guesses = guesses});
  } catch (const Error& error) {
    return std::string(name(error.code())) + ": " + error.what();
  }
  return "";
}

TEST(ModelFile, LoadsAndDescribesItself) {
  TinyModel tiny;
  const std::vector<std::byte> bytes = tiny.write();
  const auto device = backend::open_device("reference");
  const auto file = format::GgufFile::parse(bytes);
  std::vector<std::pair<int64_t, int64_t>> steps;
  const auto model = Model::load(file, *device, {.progress = [&](int64_t done, int64_t total) {
                                   steps.push_back({done, total});
                                 }});
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.vocab_size, 10);
  EXPECT_EQ(config.heads, 2);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.key_dim, 4);
  EXPECT_EQ(config.rope.rotary_dim, 4);
  EXPECT_TRUE(config.has_tied_embeddings);
  const uint64_t parameters = 80 + 8 + 8 + 64 + 32 + 32 + 64 + 8 + 96 + 96 + 96;
  EXPECT_EQ(model->parameters(), parameters);
  // Tied, so the embedding is read as the head as well.
  EXPECT_EQ(model->step_weight_bytes(), parameters * 4);
  EXPECT_EQ(model->kv_layout(3, 8).values_per_token(), 8u);
  // Progress ends at the whole.
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.back().first, static_cast<int64_t>(parameters * 4));
  EXPECT_EQ(steps.back().second, static_cast<int64_t>(parameters * 4));
}

TEST(ModelFile, GatheredEmbeddingsAreNoWeightOfAStep) {
  TinyModel tiny;
  tiny.tensors.emplace("output.weight", Shape{10, 8});
  const std::vector<std::byte> bytes = tiny.write();
  const auto device = backend::open_device("reference");
  const auto file = format::GgufFile::parse(bytes);
  const auto model = Model::load(file, *device);
  EXPECT_FALSE(model->config().has_tied_embeddings);
  EXPECT_EQ(model->parameters(), 664u);
  EXPECT_EQ(model->step_weight_bytes(), (664u - 80) * 4);
}

TEST(ModelFile, UnknownArchitectureNamesThoseThatRun) {
  TinyModel tiny;
  tiny.architecture = "mamba";
  EXPECT_THAT(load_error(tiny),
              AllOf(HasSubstr("unsupported"), HasSubstr("'mamba'"), HasSubstr("llama, qwen2")));
}

TEST(ModelFile, ArchitecturesThatTakeImagesAreSaidToBe) {
  for (const char* architecture : {"qwen2vl", "qwen3vlmoe", "mllama"}) {
    TinyModel tiny;
    tiny.architecture = architecture;
    EXPECT_THAT(load_error(tiny),
                AllOf(HasSubstr("unsupported"), HasSubstr(architecture),
                      HasSubstr("images besides text"), HasSubstr("llama, qwen2")));
  }
}

TEST(ModelFile, HyperparametersOutOfRangeAreNamedWithTheirRange) {
  struct Wrong {
    const char* key;
    int64_t value;
    const char* expected;
  };
  const Wrong cases[] = {
      {"context_length", 0, "1 to"},
      {"embedding_length", 0, "1 to"},
      {"embedding_length", int64_t{1} << 40, "1 to 131072"},
      {"embedding_length", 7, "llama.attention.head_count is 2, which does not divide"},
      {"block_count", 0, "1 to 1024"},
      {"block_count", -1, "1 to 1024"},
      {"block_count", 100000000, "1 to 1024"},
      {"feed_forward_length", 0, "1 to"},
      {"attention.head_count", 0, "1 to 1024"},
      {"attention.head_count", 2000, "1 to 1024"},
      {"attention.head_count_kv", 0, "1 to 2"},
      {"attention.head_count_kv", 3, "1 to 2"},
      {"attention.key_length", 0, "2 to 1024"},
      {"attention.value_length", -4, "1 to 1024"},
      {"rope.dimension_count", 3, "an even number"},
      {"rope.dimension_count", 6, "2 to 4"},
      {"rope.scaling.original_context_length", 0, "1 to"},
  };
  for (const Wrong& wrong : cases) {
    TinyModel tiny;
    tiny.integers[wrong.key] = wrong.value;
    EXPECT_THAT(load_error(tiny),
                AllOf(HasSubstr("invalid_file"), HasSubstr("llama."), HasSubstr(wrong.expected)))
        << wrong.key << " = " << wrong.value;
  }
}

TEST(ModelFile, NumbersOutOfRangeAreNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::pair<const char*, float> cases[] = {
      {"attention.layer_norm_rms_epsilon", 0.0f},
      {"attention.layer_norm_rms_epsilon", nan},
      {"attention.layer_norm_rms_epsilon", -1.0f},
      {"rope.freq_base", 1.0f},
      {"rope.freq_base", nan},
      {"rope.scaling.factor", 0.0f},
      {"rope.scaling.attn_factor", -1.0f},
  };
  for (const auto& [key, value] : cases) {
    TinyModel tiny;
    tiny.floats[key] = value;
    EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr(key)))
        << key << " = " << value;
  }
}

TEST(ModelFile, MissingKeysAreNamed) {
  for (const char* key : {"context_length", "embedding_length", "block_count",
                          "feed_forward_length", "attention.head_count"}) {
    TinyModel tiny;
    tiny.integers.erase(key);
    EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr(key)));
  }
  TinyModel tiny;
  tiny.floats.clear();
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("rms_epsilon")));
}

TEST(ModelFile, EveryMissingTensorIsNamed) {
  for (const auto& [name, shape] : TinyModel().tensors) {
    TinyModel tiny;
    tiny.tensors.erase(name);
    EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
  }
}

TEST(ModelFile, EveryTensorOfAnotherShapeIsNamed) {
  for (const auto& [name, shape] : TinyModel().tensors) {
    TinyModel tiny;
    Shape& wrong = tiny.tensors.at(name);
    wrong = shape.rank() == 1 ? Shape{shape[0] + 1} : Shape{shape[0], shape[1] + 4};
    EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr(name))) << name;
  }
}

TEST(ModelFile, TensorWithoutUseIsRefusedRatherThanLeftOut) {
  TinyModel tiny;
  tiny.tensors.emplace("blk.0.attn_q_norm.weight", Shape{4});
  EXPECT_THAT(load_error(tiny),
              AllOf(HasSubstr("unsupported"), HasSubstr("blk.0.attn_q_norm.weight")));
}

TEST(ModelFile, ExpertsAreRefusedWhereTheFamilyHasNone) {
  TinyModel tiny;
  tiny.architecture = "qwen3";
  tiny.set_qk_norm();
  EXPECT_EQ(load_error(tiny), "");
  tiny.integers["expert_count"] = 8;
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("unsupported"), HasSubstr("expert_count")));
}

TEST(ModelFile, Qwen3NeedsItsNorms) {
  TinyModel tiny;
  tiny.architecture = "qwen3";
  tiny.set_qk_norm();
  tiny.tensors.at("blk.0.attn_k_norm.weight") = Shape{8};
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("blk.0.attn_k_norm.weight"), HasSubstr("[4]")));
  tiny.tensors.erase("blk.0.attn_k_norm.weight");
  EXPECT_THAT(load_error(tiny),
              AllOf(HasSubstr("invalid_file"), HasSubstr("blk.0.attn_k_norm.weight")));
}

TEST(ModelFile, GemmaHasWindowsAndNormsBehind) {
  TinyModel tiny;
  tiny.set_gemma();
  EXPECT_EQ(load_error(tiny), "");
  for (const char* name : {"post_attention_norm", "post_ffw_norm", "attn_q_norm"}) {
    TinyModel without = tiny;
    without.tensors.erase(std::string("blk.0.") + name + ".weight");
    EXPECT_THAT(load_error(without), AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
  }
  TinyModel without = tiny;
  without.integers.erase("attention.sliding_window");
  EXPECT_THAT(load_error(without), HasSubstr("attention.sliding_window"));
  for (const int window : {0, -1}) {
    TinyModel wrong = tiny;
    wrong.integers["attention.sliding_window"] = window;
    EXPECT_THAT(load_error(wrong),
                AllOf(HasSubstr("invalid_file"), HasSubstr("attention.sliding_window")));
  }
  for (const float wrong_number : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    for (const char* key : {"attention.scale", "rope.freq_base_swa"}) {
      TinyModel wrong = tiny;
      wrong.floats[key] = wrong_number;
      EXPECT_THAT(load_error(wrong), AllOf(HasSubstr("invalid_file"), HasSubstr(key)));
    }
  }
  // A llama has no use for what stands behind.
  tiny.architecture = "qwen3";
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("unsupported"), HasSubstr("post_")));
}

// Gemma 3 27B alone norms scores by hidden / heads.
TEST(ModelFile, ScoreScaleOfGemma) {
  const auto scale_of = [](const TinyModel& tiny) {
    const std::vector<std::byte> bytes = tiny.write();
    return read_config(format::GgufFile::parse(bytes)).score_scale;
  };
  TinyModel tiny;
  tiny.set_gemma();
  tiny.integers["embedding_length"] = 18;
  tiny.integers["attention.key_length"] = 4;
  tiny.tensors.at("token_embd.weight") = Shape{10, 18};
  EXPECT_FLOAT_EQ(scale_of(tiny), 0.5f);
  tiny.integers["block_count"] = 62;
  EXPECT_FLOAT_EQ(scale_of(tiny), 1.0f / 3);
  tiny.floats["attention.scale"] = 0.25f;
  EXPECT_FLOAT_EQ(scale_of(tiny), 0.25f);
}

TEST(ModelFile, ExpertsOfMixtralAndQwen3) {
  for (const char* architecture : {"llama", "qwen3moe"}) {
    TinyModel tiny;
    tiny.architecture = architecture;
    tiny.set_experts();
    if (tiny.architecture == "qwen3moe") tiny.set_qk_norm();
    EXPECT_EQ(load_error(tiny), "") << architecture;
    for (const auto& [name, shape] : tiny.tensors) {
      TinyModel without = tiny;
      without.tensors.erase(name);
      EXPECT_THAT(load_error(without), AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
      if (shape.rank() < 3) continue;
      TinyModel other = tiny;
      other.tensors.at(name) = Shape{shape[0] + 1, shape[1], shape[2]};
      EXPECT_THAT(load_error(other), AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
    }
    for (const auto& [key, value] : {std::pair{"expert_count", 1025},
                                     {"expert_used_count", 0},
                                     {"expert_used_count", 4},
                                     {"expert_feed_forward_length", 0}}) {
      TinyModel wrong = tiny;
      wrong.integers[key] = value;
      EXPECT_THAT(load_error(wrong), AllOf(HasSubstr("invalid_file"), HasSubstr(key)));
    }
  }
  TinyModel dense;
  dense.architecture = "qwen3moe";
  dense.set_qk_norm();
  dense.integers["expert_count"] = 0;
  EXPECT_THAT(load_error(dense), AllOf(HasSubstr("invalid_file"), HasSubstr("expert_count")));
}

// Each count is in its range, but together they are more numbers a token than can be counted.
TEST(ModelFile, ExpertsThatAreTooWideTogetherAreRefused) {
  TinyModel tiny;
  tiny.set_experts();
  tiny.integers["expert_count"] = 1024;
  tiny.integers["expert_used_count"] = 1024;
  tiny.integers["expert_feed_forward_length"] = 1 << 20;
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("expert_used_count"),
                                      HasSubstr("expert_feed_forward_length")));
}

TEST(ModelFile, Latents) {
  TinyModel tiny;
  tiny.set_latent();
  EXPECT_EQ(load_error(tiny), "");
  for (const auto& [name, shape] : tiny.tensors) {
    TinyModel without = tiny;
    without.tensors.erase(name);
    EXPECT_THAT(load_error(without), AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
    TinyModel other = tiny;
    other.tensors.at(name) = shape.rank() == 1   ? Shape{shape[0] + 1}
                             : shape.rank() == 2 ? Shape{shape[0] + 1, shape[1] + 1}
                                                 : Shape{shape[0], shape[1] + 1, shape[2]};
    EXPECT_THAT(load_error(other), AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
  }
}

TEST(ModelFile, LatentsWithQueriesOfOneLinear) {
  TinyModel tiny;
  tiny.set_latent();
  tiny.integers.erase("attention.q_lora_rank");
  for (const char* name : {"attn_q_a", "attn_q_a_norm", "attn_q_b"}) {
    tiny.tensors.erase(std::string("blk.0.") + name + ".weight");
  }
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("attn_q.weight")));
  tiny.tensors.emplace("blk.0.attn_q.weight", Shape{10, 8});
  EXPECT_EQ(load_error(tiny), "");
}

TEST(ModelFile, LatentsOfFilesOfBefore) {
  TinyModel tiny;
  tiny.set_latent();
  for (const char* key : {"key_length_mla", "value_length_mla"}) {
    tiny.integers.erase(std::string("attention.") + key);
  }
  tiny.integers["attention.key_length"] = 5;
  tiny.integers["attention.value_length"] = 4;
  for (const char* name : {"attn_k_b", "attn_v_b"}) {
    tiny.tensors.erase(std::string("blk.0.") + name + ".weight");
  }
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("attn_k_b.weight")));
  tiny.tensors.emplace("blk.0.attn_kv_b.weight", Shape{2 * (3 + 4), 6});
  EXPECT_EQ(load_error(tiny), "");
  tiny.tensors.at("blk.0.attn_kv_b.weight") = Shape{2 * (3 + 4) + 1, 6};
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("attn_kv_b.weight"),
                                      HasSubstr("[14, 6]")));
}

// Some quantisers write both, so that older programs run the file.
TEST(ModelFile, LatentsInBothConventionsAtOnce) {
  TinyModel tiny;
  tiny.set_latent();
  tiny.tensors.emplace("blk.0.attn_kv_b.weight", Shape{2 * (3 + 4), 6});
  EXPECT_EQ(load_error(tiny), "");
}

bool guesses(const TinyModel& tiny) {
  const std::vector<std::byte> bytes = tiny.write();
  const auto device = backend::open_device("reference");
  const auto file = format::GgufFile::parse(bytes);
  return Model::load(file, *device, {.guesses = true})->guesses();
}

TEST(ModelFile, ALayerThatGuessesNamesItsTensorThatIsMissingOrOfAnotherShape) {
  TinyModel tiny;
  tiny.set_latent();
  tiny.set_guessing();
  EXPECT_EQ(load_error(tiny), "");
  EXPECT_TRUE(guesses(tiny));
  for (const auto& [name, shape] : tiny.tensors) {
    if (!name.starts_with("blk.1.")) continue;
    TinyModel without = tiny;
    without.tensors.erase(name);
    const bool is_models_own =
        name.ends_with("embed_tokens.weight") || name.find("shared_head") != std::string::npos;
    if (is_models_own) {
      EXPECT_TRUE(guesses(without)) << name;
    } else if (name.ends_with("eh_proj.weight")) {
      EXPECT_FALSE(guesses(without));  // a layer that cannot be one is left out
    } else {
      EXPECT_THAT(load_error(without, /*guesses=*/true),
                  AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
      EXPECT_EQ(load_error(without), "") << "where nothing is to be guessed";
    }
    TinyModel other = tiny;
    other.tensors.at(name) = shape.rank() == 1   ? Shape{shape[0] + 1}
                             : shape.rank() == 2 ? Shape{shape[0], shape[1] + 1}
                                                 : Shape{shape[0], shape[1] + 1, shape[2]};
    EXPECT_THAT(load_error(other, /*guesses=*/true),
                AllOf(HasSubstr("invalid_file"), HasSubstr(name)));
  }
  tiny.integers["block_count"] = 3;  // of several the first is run
  tiny.integers["nextn_predict_layers"] = 2;
  tiny.tensors.emplace("blk.2.nextn.eh_proj.weight", Shape{8, 16});
  EXPECT_TRUE(guesses(tiny));
}

TEST(ModelFile, ScoresThatDoNotGrowSayZero) {
  TinyModel tiny;
  tiny.strings["rope.scaling.type"] = "yarn";
  tiny.floats["rope.scaling.factor"] = 4.0f;
  tiny.floats["rope.scaling.yarn_log_multiplier"] = 0.0f;
  EXPECT_EQ(load_error(tiny), "");
  tiny.floats["rope.scaling.yarn_log_multiplier"] = -0.1f;
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("yarn_log_multiplier")));
}

TEST(ModelFile, LatentsOutOfRangeNameTheirKey) {
  TinyModel tiny;
  tiny.set_latent();
  for (const auto& [key, value] : {std::pair{"attention.kv_lora_rank", 0},
                                   {"attention.kv_lora_rank", 1025},
                                   {"attention.kv_lora_rank", -1},
                                   {"attention.q_lora_rank", -1},
                                   {"attention.q_lora_rank", (1 << 16) + 1},
                                   {"attention.key_length_mla", 2},
                                   {"attention.key_length_mla", 1025},
                                   {"attention.value_length_mla", 0},
                                   {"attention.value_length_mla", 1025},
                                   {"rope.dimension_count", 0},
                                   {"rope.dimension_count", 3},
                                   {"rope.dimension_count", 5},  // all of a key
                                   {"nextn_predict_layers", 1},
                                   {"nextn_predict_layers", -1},
                                   {"leading_dense_block_count", -1},
                                   {"expert_count", -1},
                                   {"expert_count", 1025},
                                   {"expert_used_count", 0},
                                   {"expert_used_count", 4},
                                   {"expert_shared_count", -1},
                                   {"expert_shared_count", 65},
                                   {"expert_gating_func", 0},
                                   {"expert_gating_func", 3},
                                   {"expert_group_count", 0},
                                   {"expert_group_count", 4}}) {
    TinyModel wrong = tiny;
    wrong.integers[key] = value;
    EXPECT_THAT(load_error(wrong), AllOf(HasSubstr("invalid_file"), HasSubstr(key)))
        << key << " " << value;
  }
  for (const char* key : {"attention.kv_lora_rank", "rope.dimension_count", "expert_used_count"}) {
    TinyModel without = tiny;
    without.integers.erase(key);
    EXPECT_THAT(load_error(without), AllOf(HasSubstr("invalid_file"), HasSubstr(key)));
  }
  for (const float scale : {0.0f, -1.0f, 1e4f, std::numeric_limits<float>::quiet_NaN()}) {
    TinyModel wrong = tiny;
    wrong.floats["expert_weights_scale"] = scale;
    EXPECT_THAT(load_error(wrong),
                AllOf(HasSubstr("invalid_file"), HasSubstr("expert_weights_scale")));
  }
}

TEST(ModelFile, GroupsOfExpertsThatCannotHoldTheChoiceAreRefused) {
  TinyModel tiny;
  tiny.set_latent();
  tiny.integers["expert_gating_func"] = 2;
  tiny.integers["expert_group_count"] = 3;
  tiny.integers["expert_group_used_count"] = 2;
  EXPECT_EQ(load_error(tiny), "");
  // Groups that are not equal; groups of one expert each, of which one cannot hold two.
  for (const auto& [groups, used] : {std::pair{2, 2}, {3, 1}}) {
    TinyModel wrong = tiny;
    wrong.integers["expert_group_count"] = groups;
    wrong.integers["expert_group_used_count"] = used;
    EXPECT_THAT(load_error(wrong), AllOf(HasSubstr("invalid_file"), HasSubstr("groups")));
  }
  for (const int used : {0, 4}) {
    TinyModel wrong = tiny;
    wrong.integers["expert_group_used_count"] = used;
    EXPECT_THAT(load_error(wrong),
                AllOf(HasSubstr("invalid_file"), HasSubstr("expert_group_used_count")));
  }
}

TEST(ModelFile, AStepOfOneTokenReadsTheExpertsThatItUses) {
  TinyModel tiny;
  tiny.set_experts();
  const std::vector<std::byte> bytes = tiny.write();
  const auto device = backend::open_device("reference");
  const auto file = format::GgufFile::parse(bytes);
  const auto model = Model::load(file, *device);
  const uint64_t expert = 3 * 6 * 8;
  EXPECT_EQ(model->step_weight_bytes(), (model->parameters() - expert) * 4);
}

TEST(ModelFile, Qwen2NeedsItsBiases) {
  TinyModel tiny;
  tiny.architecture = "qwen2";
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("blk.0.attn_q.bias")));
  tiny.tensors.emplace("blk.0.attn_q.bias", Shape{8});
  tiny.tensors.emplace("blk.0.attn_k.bias", Shape{4});
  tiny.tensors.emplace("blk.0.attn_v.bias", Shape{4});
  EXPECT_EQ(load_error(tiny), "");
}

TEST(ModelFile, ListsThatDifferByLayerAreRefused) {
  TinyModel tiny;
  tiny.integers.erase("attention.head_count_kv");
  tiny.integer_arrays["attention.head_count_kv"] = {1};
  EXPECT_EQ(load_error(tiny), "");
  tiny.integer_arrays["attention.head_count_kv"] = {1, 2};
  EXPECT_THAT(load_error(tiny), HasSubstr("unsupported"));
  tiny.integer_arrays["attention.head_count_kv"] = {};
  EXPECT_THAT(load_error(tiny), HasSubstr("invalid_file"));
}

TEST(ModelFile, RopeScalingThatIsNotKnownIsRefused) {
  TinyModel tiny;
  tiny.strings["rope.scaling.type"] = "longrope";
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("unsupported"), HasSubstr("'longrope'")));
}

TEST(ModelFile, RopeDivisorsMustBePositive) {
  TinyModel tiny;
  tiny.tensors.emplace("rope_freqs.weight", Shape{2});
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("invalid_file"), HasSubstr("rope_freqs.weight")));
  tiny.values["rope_freqs.weight"] = {1, 8};
  EXPECT_EQ(load_error(tiny), "");
  tiny.tensors.at("rope_freqs.weight") = Shape{3};
  tiny.values.clear();
  EXPECT_THAT(load_error(tiny), AllOf(HasSubstr("rope_freqs.weight"), HasSubstr("[2]")));
}

}  // namespace

}  // namespace ridge::model::model_file_test
