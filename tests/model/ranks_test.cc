// Ranks that share a model compute what one computes alone, to the last bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend/registry.h"
#include "backend/thread_ranks.h"
#include "base/error.h"
#include "base/sanitizers.h"
#include "format/model_folder.h"
#include "model/golden.h"
#include "model/model.h"
#include "model/rank_share.h"
#include "model/stepper.h"

namespace ridge::model::ranks_test {

namespace {

using Rows = std::vector<std::vector<float>>;

struct Case {
  std::string model;
  std::vector<int> ranks;  // that can share it
  bool guesses = false;
};

// What tokens give: logits, and where the model guesses those of its guesses.
struct Answer {
  Rows logits, guesses;
};

Answer run_in_chunks(const Model& model, backend::Device& device,
                     const std::vector<int32_t>& tokens, DType cache_dtype) {
  Answer all;
  Stepper stepper(model, device, cache_dtype, {}, {.batch_invariant = true});
  size_t begin = 0;
  for (const size_t size : {size_t{9}, size_t{1}, size_t{2}, size_t{1}, tokens.size()}) {
    const size_t end = std::min(begin + size, tokens.size() - 1);
    if (begin == end) break;
    const Chunk chunk{1, {tokens.begin() + begin, tokens.begin() + end}};
    for (auto& row : stepper.step({&chunk, 1})) all.logits.push_back(std::move(row));
    if (model.guesses()) {
      const Chunk following{1, {tokens.begin() + begin + 1, tokens.begin() + end + 1}};
      for (auto& row : stepper.guess({&following, 1}, stepper.hidden()).logits) {
        all.guesses.push_back(std::move(row));
      }
    }
    begin = end;
  }
  return all;
}

class SharedModel : public testing::TestWithParam<Case> {
 protected:
  const Case& c = GetParam();
  Golden golden{c.model};
  format::GgufFile file = format::open_model(goldens / (c.model + ".gguf"));

  // Of each rank of so many.
  std::vector<Answer> answers(const std::string& device_name, bool mixed, int ranks) const {
    std::vector<Answer> all(static_cast<size_t>(ranks));
    std::vector<uint64_t> bytes(static_cast<size_t>(ranks));
    const auto run = [&](backend::Communicator* communicator) {
      const int rank = communicator == nullptr ? 0 : communicator->rank();
      const backend::DeviceOptions options = {.threads = ranks == 1 ? 2 : 1, .threads_spin = false};
      const auto device = communicator == nullptr
                              ? backend::open_device(device_name, options)
                              : backend::open_rank_device(device_name, options, *communicator);
      const auto model = Model::load(file, *device,
                                     {.mixed_precision = mixed,
                                      .guesses = c.guesses,
                                      .rank = {rank, ranks}});
      bytes[static_cast<size_t>(rank)] = model->step_weight_bytes();
      all[static_cast<size_t>(rank)] = run_in_chunks(
          *model, *device, golden.tokens, device_name == "cpu" ? DType::f16 : DType::f32);
    };
    if (ranks == 1) {
      run(nullptr);
    } else {
      backend::ThreadRanks(ranks).run(
          [&](backend::Communicator& communicator) { run(&communicator); });
    }
    weight_bytes = *std::ranges::max_element(bytes);
    return all;
  }

  mutable uint64_t weight_bytes = 0;  // that a step reads, of the rank that reads most
};

// The message of what is thrown; "" where nothing is.
std::string refusal(const ModelConfig& config, int ranks) {
  try {
    const RankShare share(config, {0, ranks});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(RankShare, RefusesMoreRanksThanHeadsOrThanCanShareAKvHead) {
  ModelConfig config = read_config(format::open_model(goldens / "llama-f32.gguf"));
  config.heads = 12;
  config.kv_heads = 3;
  for (const int ranks : {1, 2, 3, 6, 9, 12}) EXPECT_EQ(refusal(config, ranks), "") << ranks;
  for (const int ranks : {4, 5, 15}) {
    EXPECT_NE(refusal(config, ranks).find("up to 3 ranks can, or a multiple of 3 up to 12"),
              std::string::npos)
        << ranks;
  }
  config.vocab_size = 5;
  EXPECT_NE(refusal(config, 6).find("its vocabulary is 5"), std::string::npos);
}

TEST(RankShare, HeadsGoWholeAndOnce) {
  ModelConfig config = read_config(format::open_model(goldens / "llama-f32.gguf"));
  config.heads = 9;
  config.kv_heads = 3;
  for (const int ranks : {1, 2, 3, 6, 9}) {
    int heads = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const RankShare share(config, {rank, ranks});
      const ModelConfig& own = share.config();
      EXPECT_EQ(own.heads % own.kv_heads, 0);
      EXPECT_EQ(share.attention()[static_cast<size_t>(rank)], own.heads * own.value_dim);
      heads += own.heads;
    }
    EXPECT_EQ(heads, 9) << ranks;
  }
}

TEST_P(SharedModel, GivesTheSameBitsOnAnyNumberOfRanks) {
  for (const std::string device : {"cpu", "reference"}) {
    for (const bool mixed : {false, true}) {
      if (mixed && device == "reference") continue;  // which does not round
      const Answer alone = answers(device, mixed, 1).front();
      const uint64_t whole_bytes = weight_bytes;
      ASSERT_EQ(alone.logits.size(), golden.tokens.size() - 1);
      ASSERT_EQ(alone.guesses.empty(), !c.guesses);
      for (const int ranks : c.ranks) {
        if (is_sanitized && ranks != c.ranks.back()) continue;
        SCOPED_TRACE(testing::Message() << device << (mixed ? " mixed " : " ") << ranks << " ranks");
        for (const Answer& answer : answers(device, mixed, ranks)) {
          EXPECT_EQ(answer.logits, alone.logits);
          EXPECT_EQ(answer.guesses, alone.guesses);
        }
        EXPECT_LT(weight_bytes, whole_bytes);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, SharedModel,
    testing::Values(Case{"llama-f32", {2, 4}}, Case{"llama-k-mix", {2, 4}}, Case{"llama-q4_k_m", {2}},
                    Case{"qwen2-q8_0", {2, 4}}, Case{"qwen3-f32", {2}}, Case{"gemma3-q8_0", {2, 4}},
                    Case{"mixtral-q8_0", {2, 4}}, Case{"qwen3moe-q4_k_m", {2, 4}},
                    Case{"deepseek-v2-groups-f32", {2, 3, 4}}, Case{"deepseek-v3-q8_0", {2, 3}},
                    Case{"deepseek-v3-kv_b-f32", {2, 3}}, Case{"gpt-oss-bf16", {2}},
                    Case{"gpt-oss-mxfp4", {2}},
                    Case{"deepseek-v3-mtp-q8_0", {2, 3}, /*guesses=*/true}),
    [](const auto& info) {
      std::string name = info.param.model;
      std::ranges::replace_if(
          name, [](char each) { return !std::isalnum(each); }, '_');
      return name;
    });

}  // namespace

}  // namespace ridge::model::ranks_test
