// Under batch_invariant, a token's logits are the same to the last bit however its context was
// computed and whatever else is in the step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "backend/registry.h"
#include "base/sanitizers.h"
#include "engine/golden_model.h"
#include "engine/step_runner.h"
#include "kvcache/block_pool.h"

namespace ridge::engine::batch_invariance_test {
namespace {

constexpr const char* twin = "ascend-twin:910B4";

struct Case {
  std::string model;
  DType kv_dtype;
  std::string isa;  // of the CPU, or the twin
  // Of the sequence that is looked at, where two adapters are loaded and others have either or
  // none.
  std::optional<int> adapter;
};

std::string name_of(const Case& c) {
  std::string name = c.model + "_" + std::string(ridge::name(c.kv_dtype)) + "_" + c.isa;
  if (c.adapter) name += *c.adapter < 0 ? "_beside_adapters" : "_adapted";
  std::ranges::replace_if(
      name, [](char each) { return !std::isalnum(each); }, '_');
  return name;
}

class Sequence {
 public:
  Sequence(kvcache::BlockPool& pool, uint32_t seed, int count, int vocab_size) : table(pool, 16) {
    std::mt19937 random(seed);
    for (int i = 0; i < count; ++i) {
      tokens.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocab_size)));
    }
    RIDGE_ASSERT(table.reserve(count));
  }

  std::vector<int32_t> tokens;
  int computed = 0;
  int adapter = -1;
  kvcache::BlockTable table;
  std::vector<std::vector<float>> logits;
};

class BatchInvariance : public testing::TestWithParam<Case> {
 protected:
  bool is_on_twin() const { return GetParam().isa == twin; }

  void SetUp() override {
    LoadOptions options;
    options.device = is_on_twin() ? twin : "cpu";
    if (!is_on_twin()) options.device_options.isa = GetParam().isa;
    options.mixed_precision = GetParam().model.find("q4_k") != std::string::npos ||
                              GetParam().model.starts_with("deepseek") ||
                              GetParam().model.starts_with("gpt-oss");
    if (GetParam().adapter) {
      for (const char* name : {"llama-f32.attention.gguf", "llama-f32.all"}) {
        options.adapters.push_back(
            {std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/adapters/" + name});
      }
    }
    load_golden(GetParam().model, options, model_);
  }

  // Computes sequence 0 among `others` in chunks of random sizes up to `most`.
  std::vector<std::vector<float>> logits(int others, int most, uint32_t seed,
                                         bool batch_invariant = true) {
    RunnerLimits limits = {.tokens = 128,
                           .sequences = 8,
                           .outputs = 128,
                           .context_tokens = context_tokens,
                           .blocks = 8 * ((context_tokens + 15) / 16),
                           .kv_dtype = GetParam().kv_dtype,
                           .batch_invariant = batch_invariant};
    const auto runner =
        create_step_runner(model_->device(), model_->model(), limits, model_->adapters());
    const auto width = static_cast<size_t>(runner->vocab_size());
    std::mt19937 random(seed);
    kvcache::BlockPool pool(limits.blocks);
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (int i = 0; i <= others; ++i) {
      const auto most_of_others = static_cast<uint32_t>(context_tokens * 3 / 4);
      const int count = i == 0 ? context_tokens : 1 + static_cast<int>(random() % most_of_others);
      sequences.push_back(std::make_unique<Sequence>(pool, i == 0 ? 1 : random(), count,
                                                     model_->model().config().vocab_size));
      if (GetParam().adapter) {
        sequences.back()->adapter = i == 0 ? *GetParam().adapter : static_cast<int>(i % 3) - 1;
      }
    }
    StepInputs inputs(blocks_per_sequence(limits));
    while (sequences[0]->computed < context_tokens) {
      inputs.clear();
      std::vector<std::pair<Sequence*, int>> rows;
      const int turn = static_cast<int>(random() % sequences.size());
      for (int i = 0; i < static_cast<int>(sequences.size()); ++i) {
        Sequence& s =
            *sequences[static_cast<size_t>((i + turn) % static_cast<int>(sequences.size()))];
        const int left = static_cast<int>(s.tokens.size()) - s.computed;
        const int room = limits.tokens - inputs.tokens();
        const int count =
            std::min({1 + static_cast<int>(random() % static_cast<uint32_t>(most)), left, room});
        if (count <= 0) continue;
        inputs.add(std::span(s.tokens).subspan(static_cast<size_t>(s.computed),
                                               static_cast<size_t>(count)),
                   s.computed, s.table, count, s.adapter);
        s.computed += count;
        for (int row = 0; row < count; ++row) rows.emplace_back(&s, row);
      }
      const auto values = runner->run(inputs);
      for (size_t row = 0; row < rows.size(); ++row) {
        const auto line = values.subspan(row * width, width);
        rows[row].first->logits.emplace_back(line.begin(), line.end());
      }
    }
    return sequences[0]->logits;
  }

  // Enough for a decoding row's context to be split, where it may be; of the twin, which is slow,
  // for two tiles of keys.
  const int context_tokens = is_on_twin() ? 150 : 400;
  std::unique_ptr<LoadedModel> model_;
};

int first_difference(const std::vector<std::vector<float>>& a,
                     const std::vector<std::vector<float>>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

TEST_P(BatchInvariance, WithoutItALongContextIsSummedOtherwise) {
  // One dtype shows that the test can fail; sanitizers have nothing to add to that.
  if (GetParam().kv_dtype != DType::f16 || GetParam().adapter || is_sanitized) return;
  EXPECT_NE(first_difference(logits(0, 128, 1, /*batch_invariant=*/false),
                             logits(0, 1, 2, /*batch_invariant=*/false)),
            -1);
}

TEST_P(BatchInvariance, LogitsAreTheSameAloneInAnyBatchAndInAnyChunks) {
  const auto alone = logits(/*others=*/0, /*most=*/128, 1);
  ASSERT_EQ(alone.size(), static_cast<size_t>(context_tokens));
  EXPECT_EQ(first_difference(alone, logits(0, 37, 3)), -1) << "in chunks of up to 37";
  EXPECT_EQ(first_difference(alone, logits(5, 60, 5)), -1) << "among others' prompts";
  if (is_sanitized) return;
  EXPECT_EQ(first_difference(alone, logits(0, 1, 2)), -1) << "token by token";
  EXPECT_EQ(first_difference(alone, logits(7, 3, 4)), -1) << "among others that decode";
}

std::vector<Case> cases() {
  std::vector<Case> all;
  // Under sanitizers each instruction set once, each dtype of the cache once, and adapters.
  if (is_sanitized) {
    for (const std::string isa :
         {"scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"}) {
      all.push_back({"llama-q4_k_m.gguf", DType::f16, isa, {}});
    }
    for (const DType dtype : {DType::bf16, DType::i8, DType::f32}) {
      all.push_back({"llama-q8_0.gguf", dtype, "avx2", {}});
    }
    all.push_back({"llama-f32.gguf", DType::f16, "avx2", 1});
    all.push_back({"qwen3moe-q4_k_m.gguf", DType::f16, "avx2", {}});
    all.push_back({"deepseek-v3-q8_0.gguf", DType::i8, "avx2", {}});
    return all;
  }
  for (const std::string isa : {"scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"}) {
    for (const std::string model : {"llama-q4_k_m.gguf", "llama-q4_1.gguf"}) {
      all.push_back({model, DType::f16, isa, {}});
    }
  }
  for (DType dtype : {DType::bf16, DType::i8, DType::f32}) {
    for (const std::string isa : {"avx2", "avx512_vnni", "avx512_bf16"}) {
      all.push_back({"llama-q8_0.gguf", dtype, isa, {}});
    }
  }
  for (const std::string model :
       {"llama-f32.gguf", "llama-bf16.gguf", "llama-k-mix.gguf", "qwen2-q8_0.gguf"}) {
    all.push_back({model, DType::f16, "avx2", {}});
  }
  // Q2_K and Q3_K, and linears whose parts differ.
  for (const std::string isa : {"avx512_vnni", "avx512_bf16"}) {
    all.push_back({"llama-k-mix.gguf", DType::f16, isa, {}});
  }
  // Experts and latents.
  for (const std::string isa : {"scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"}) {
    for (const std::string model :
         {"qwen3moe-q4_k_m.gguf", "deepseek-v3-q8_0.gguf", "gpt-oss-mxfp4.gguf"}) {
      all.push_back({model, DType::f16, isa, {}});
    }
  }
  for (DType dtype : {DType::bf16, DType::i8, DType::f32}) {
    all.push_back({"deepseek-v3-q8_0.gguf", dtype, "avx2", {}});
    all.push_back({"gpt-oss-mxfp4.gguf", dtype, "avx2", {}});
  }
  for (const int adapter : {-1, 1}) all.push_back({"llama-f32.gguf", DType::f16, "avx2", adapter});
  // Kernels for few rows and for many, experts and latents, windows, adapters.
  for (const std::string model :
       {"llama-q4_k_m.gguf", "deepseek-v3-q8_0.gguf", "gemma3-q8_0.gguf"}) {
    all.push_back({model, DType::f16, twin, {}});
  }
  all.push_back({"llama-f32.gguf", DType::f16, twin, 1});
  return all;
}

INSTANTIATE_TEST_SUITE_P(, BatchInvariance, testing::ValuesIn(cases()),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace ridge::engine::batch_invariance_test
