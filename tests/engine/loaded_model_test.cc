// The engine over a real, tiny model: scoring, batching and serving must agree.
#include "engine/loaded_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/offline.h"
#include "sampling/logits.h"

namespace ridge::engine::loaded_model_test {
namespace {

std::string golden(const std::string& name) {
  return std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/" + name;
}

std::vector<int32_t> golden_tokens() {
  const auto file = format::GgufFile::open(golden("llama-f32.golden.gguf"));
  const TensorView& view = file.tensor("tokens").view;
  std::vector<int32_t> tokens(static_cast<size_t>(view.shape.elements()));
  std::memcpy(tokens.data(), view.bytes.data(), view.bytes.size());
  return tokens;
}

std::unique_ptr<LoadedModel> tiny_model() {
  return LoadedModel::load(golden("llama-f32.gguf"), {.device = "reference", .progress = {}});
}

std::vector<float> all_logits(const LoadedModel& model, std::span<const int32_t> tokens, int chunk,
                              DType kv_dtype = DType::f16) {
  RunnerLimits limits =
      scoring_limits(static_cast<int>(tokens.size()), model.model().config().vocab_size);
  limits.tokens = limits.outputs = chunk;
  limits.kv_dtype = kv_dtype;
  const auto runner = create_step_runner(model.device(), model.model(), limits);
  std::vector<float> all;
  score(*runner, tokens, [&](int, std::span<const float> logits) {
    all.insert(all.end(), logits.begin(), logits.end());
  });
  return all;
}

TEST(LoadedModel, ScoresTheSameInChunksOfAnySize) {
  const auto model = tiny_model();
  const std::vector<int32_t> tokens = golden_tokens();
  const std::vector<float> whole =
      all_logits(*model, tokens, static_cast<int>(tokens.size()), DType::f32);
  const auto file = format::GgufFile::open(golden("llama-f32.golden.gguf"));
  const TensorView& expected = file.tensor("logits").view;
  ASSERT_EQ(expected.bytes.size(), whole.size() * sizeof(float));
  for (size_t i = 0; i < whole.size(); ++i) {
    float value;
    std::memcpy(&value, expected.bytes.data() + i * sizeof(float), sizeof(float));
    ASSERT_NEAR(whole[i], value, 1e-4) << "value " << i;
  }
  for (int chunk : {1, 5}) {
    const std::vector<float> chunked = all_logits(*model, tokens, chunk, DType::f32);
    ASSERT_EQ(chunked.size(), whole.size());
    for (size_t i = 0; i < whole.size(); ++i)
      ASSERT_NEAR(chunked[i], whole[i], 1e-5) << "value " << i;
  }
}

TEST(LoadedModel, KeepsKeysAndValuesInWhatItsPrecisionAndDeviceAreFastestWith) {
  const auto load = [](const char* isa, bool is_mixed) {
    return LoadedModel::load(golden("llama-f32.gguf"),
                             {.device = "cpu",
                              .device_options = {.threads = 1, .isa = isa, .allow_emulation = true},
                              .mixed_precision = is_mixed,
                              .progress = {}});
  };
  const auto on_tiles = load("amx_emulated", /*is_mixed=*/true);
  EXPECT_EQ(on_tiles->kv_dtype({}), DType::bf16);
  EXPECT_EQ(on_tiles->kv_dtype({}, /*batch_invariant=*/true), DType::f16);
  EXPECT_EQ(load("amx_emulated", /*is_mixed=*/false)->kv_dtype({}), DType::f16);
  const auto on_vectors = load("scalar", /*is_mixed=*/true);
  EXPECT_EQ(on_vectors->kv_dtype({}), DType::f16);
  for (const DType asked : {DType::f16, DType::i8}) {
    EXPECT_EQ(on_tiles->kv_dtype(asked), asked);
    EXPECT_EQ(on_vectors->kv_dtype(asked), asked);
  }
}

// The output head is all that lies between them.
TEST(LoadedModel, HiddenStatesTimesTheHeadAreTheLogits) {
  const auto model = tiny_model();
  const std::vector<int32_t> tokens = golden_tokens();
  RunnerLimits limits =
      scoring_limits(static_cast<int>(tokens.size()), model->model().config().vocab_size);
  limits.kv_dtype = DType::f32;
  const auto runner = create_step_runner(model->device(), model->model(), limits);
  kvcache::BlockPool pool(limits.blocks);
  kvcache::BlockTable table(pool, limits.block_tokens);
  ASSERT_TRUE(table.reserve(static_cast<int>(tokens.size())));
  StepInputs inputs(blocks_per_sequence(limits));
  inputs.clear();
  inputs.add(tokens, 0, table, static_cast<int>(tokens.size()));
  const auto hidden = runner->run_hidden(inputs);
  const size_t width = static_cast<size_t>(runner->hidden_size());
  ASSERT_EQ(hidden.size(), tokens.size() * width);
  const std::vector<float> logits =
      all_logits(*model, tokens, static_cast<int>(tokens.size()), DType::f32);
  const auto& file = model->file();
  const TensorView& head =
      file.tensor(file.find("output.weight") ? "output.weight" : "token_embd.weight").view;
  const auto vocab = static_cast<size_t>(runner->vocab_size());
  for (size_t row = 0; row < tokens.size(); ++row) {
    for (size_t id = 0; id < vocab; ++id) {
      double sum = 0;
      for (size_t d = 0; d < width; ++d) {
        float weight;
        std::memcpy(&weight, head.bytes.data() + (id * width + d) * sizeof(float), sizeof(float));
        sum += static_cast<double>(weight) * hidden[row * width + d];
      }
      ASSERT_NEAR(logits[row * vocab + id], sum, 1e-4) << "row " << row << ", token " << id;
    }
  }
}

TEST(LoadedModel, KnowsItsContext) {
  const auto model = tiny_model();
  EXPECT_EQ(model->context_tokens(0), 128);
  EXPECT_EQ(model->context_tokens(100), 100);
  EXPECT_THROW(model->context_tokens(129), Error);
}

struct Result {
  std::vector<int32_t> tokens;
  Finish finish;
};

Result wait_for(Engine& engine, Request request) {
  Result result;
  std::promise<void> ended;
  engine.submit(std::move(request), {.on_delta =
                                         [&](Delta&& delta) {
                                           for (const TokenInfo& info : delta.tokens)
                                             result.tokens.push_back(info.picked.token);
                                         },
                                     .on_finish =
                                         [&](const Finish& finish) {
                                           result.finish = finish;
                                           ended.set_value();
                                         }});
  ended.get_future().wait();
  return result;
}

Request request_of(std::vector<int32_t> prompt) {
  Request request;
  request.prompt_tokens = std::move(prompt);
  request.max_tokens = 20;
  request.ignore_eos = true;
  request.sampling.temperature = 0.0f;
  request.sampling.top_logprobs = 0;
  return request;
}

TEST(EngineStart, GreedyAnswersAreThoseOfScoringEvenWhenCrowded) {
  const auto model = tiny_model();
  const std::vector<int32_t> prompt = golden_tokens();
  // Token by token with a fresh cache each time: no batching, no paging over steps.
  std::vector<int32_t> expected = prompt;
  const size_t vocab = static_cast<size_t>(model->model().config().vocab_size);
  for (int i = 0; i < 20; ++i) {
    const std::vector<float> logits =
        all_logits(*model, expected, static_cast<int>(expected.size()));
    expected.push_back(sampling::argmax(std::span(logits).last(vocab)));
  }
  expected.erase(expected.begin(), expected.begin() + static_cast<ptrdiff_t>(prompt.size()));

  // 20 blocks of 16 tokens for eight sequences of three blocks: some must be preempted.
  EngineOptions options;
  options.device = "reference";
  options.step_tokens = 16;
  options.max_sequences = 8;
  options.kv_cache_bytes = 20 * 16 * 512;
  const auto engine = Engine::start(golden("llama-f32.gguf"), options);
  EXPECT_EQ(engine->stats().blocks_total, 20);
  std::vector<std::future<Result>> results;
  for (int i = 0; i < 8; ++i) {
    results.push_back(
        std::async(std::launch::async, [&] { return wait_for(*engine, request_of(prompt)); }));
  }
  for (auto& result : results) {
    const Result answer = result.get();
    EXPECT_EQ(answer.finish.reasons[0], FinishReason::length);
    EXPECT_EQ(answer.tokens, expected);
  }
  engine->drain(std::chrono::seconds(10));
  EXPECT_EQ(engine->stats().blocks_free, 20);
}

TEST(EngineStart, DescribesItsModel) {
  EngineOptions options;
  options.device = "reference";
  options.context_tokens = 64;
  options.max_sequences = 2;
  const auto engine = Engine::start(golden("llama-f32.gguf"), options);
  EXPECT_EQ(engine->model_info().architecture, "llama");
  EXPECT_EQ(engine->model_info().context_tokens, 64);
  EXPECT_EQ(engine->model_info().trained_context_tokens, 128);
  EXPECT_GT(engine->model_info().parameters, 100000u);
  EXPECT_GT(engine->model_info().load_ms, 0);
}

TEST(EngineStart, RefusesWhatCannotWork) {
  EngineOptions options;
  options.device = "reference";
  options.context_tokens = 4096;
  EXPECT_THROW(Engine::start(golden("llama-f32.gguf"), options), Error)
      << "more than it was made for";
  options.context_tokens = 0;
  options.kv_cache_bytes = 1000;
  try {
    Engine::start(golden("llama-f32.gguf"), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  }
  options.kv_cache_bytes = 0;
  options.max_sequences = 0;
  EXPECT_THROW(Engine::start(golden("llama-f32.gguf"), options), Error);
  EXPECT_THROW(Engine::start(golden("no-such-file.gguf"), {}), Error);
}

}  // namespace
}  // namespace ridge::engine::loaded_model_test
