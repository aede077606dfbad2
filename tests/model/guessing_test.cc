// The layer for multi-token prediction, against the formula of its report as torch computes it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/registry.h"
#include "base/temporary_folder.h"
#include "format/model_folder.h"
#include "format/quantization_recipe.h"
#include "format/quantize_file.h"
#include "model/golden.h"
#include "model/model.h"
#include "model/stepper.h"

namespace ridge::model::guessing_test {

namespace {

constexpr const char* names[] = {"deepseek-v3-mtp-f32", "deepseek-v3-mtp-q8_0"};

struct GuessGolden : Golden {
  explicit GuessGolden(const std::string& name) : Golden(name) {
    const auto all = values<float>(truth.tensor("guesses").view);
    const size_t vocab = logits.front().size();
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      guesses.emplace_back(all.begin() + i * vocab, all.begin() + (i + 1) * vocab);
    }
  }
  std::vector<std::vector<float>> guesses;  // [tokens - 1][vocab], of the token after the next
};

// The model's logits in chunks, and the guesses of each chunk as soon as its following tokens are
// known.
std::pair<std::vector<std::vector<float>>, std::vector<std::vector<float>>> run_in_chunks(
    const Model& model, backend::Device& device, const Golden& golden, size_t chunk_tokens,
    DType cache_dtype) {
  Stepper stepper(model, device, cache_dtype);
  std::pair<std::vector<std::vector<float>>, std::vector<std::vector<float>>> all;
  const auto& t = golden.tokens;
  for (size_t begin = 0; begin + 1 < t.size(); begin += chunk_tokens) {
    const size_t end = std::min(t.size() - 1, begin + chunk_tokens);
    const Chunk chunk{1, {t.begin() + begin, t.begin() + end}};
    for (auto& row : stepper.step({&chunk, 1})) all.first.push_back(std::move(row));
    const Chunk following{1, {t.begin() + begin + 1, t.begin() + end + 1}};
    for (auto& row : stepper.guess({&following, 1}, stepper.hidden()).logits) {
      all.second.push_back(std::move(row));
    }
  }
  return all;
}

void expect_near_all(const std::vector<std::vector<float>>& truth,
                     const std::vector<std::vector<float>>& got) {
  for (size_t i = 0; i < got.size(); ++i) expect_near(truth[i], got[i], i);
}

TEST(Guessing, AgreesWithTheFormulaInAnyChunks) {
  const auto device = backend::open_device("reference");
  for (const char* name : names) {
    const auto file = format::GgufFile::open(goldens / (std::string(name) + ".gguf"));
    const GuessGolden golden(name);
    const auto model = Model::load(file, *device, {.guesses = true});
    ASSERT_TRUE(model->guesses());
    for (const size_t chunk_tokens : {golden.tokens.size(), size_t{5}, size_t{1}}) {
      SCOPED_TRACE(testing::Message() << name << " in chunks of " << chunk_tokens);
      const auto [logits, guesses] =
          run_in_chunks(*model, *device, golden, chunk_tokens, DType::f32);
      ASSERT_EQ(guesses.size(), golden.tokens.size() - 1);
      expect_near_all(golden.logits, logits);
      expect_near_all(golden.guesses, guesses);
    }
  }
}

// Each row stands for itself: the other sequence is elsewhere in its text.
TEST(Guessing, OfTwoSequencesInOnePassIsThatOfEach) {
  const auto device = backend::open_device("reference");
  const auto file = format::GgufFile::open(goldens / "deepseek-v3-mtp-f32.gguf");
  const GuessGolden golden(names[0]);
  const auto model = Model::load(file, *device, {.guesses = true});
  Stepper stepper(*model, *device, DType::f32);
  const auto& t = golden.tokens;
  const size_t half = t.size() / 2;
  const Chunk first{2, {t.begin(), t.begin() + half}};
  stepper.step({&first, 1});
  const Chunk first_following{2, {t.begin() + 1, t.begin() + half + 1}};
  stepper.guess({&first_following, 1}, stepper.hidden());
  const std::vector<Chunk> both = {{2, {t[half]}}, {0, {t.begin(), t.begin() + half + 2}}};
  stepper.step(both);
  const std::vector<Chunk> following = {{2, {t[half + 1]}},
                                        {0, {t.begin() + 1, t.begin() + half + 3}}};
  const auto guesses = stepper.guess(following, stepper.hidden()).logits;
  expect_near(golden.guesses[half], guesses[0], half);
  for (size_t i = 0; i < half + 2; ++i) expect_near(golden.guesses[i], guesses[i + 1], i);
}

TEST(Guessing, IsReadFromAFolderAsPublished) {
  const auto device = backend::open_device("reference");
  const auto file = format::open_model(goldens / "folders" / "deepseek-v3-mtp-f32");
  const GuessGolden golden(names[0]);
  const auto model = Model::load(file, *device, {.guesses = true});
  ASSERT_TRUE(model->guesses());
  const auto got = run_in_chunks(*model, *device, golden, golden.tokens.size(), DType::f32);
  expect_near_all(golden.guesses, got.second);
}

// Every tensor of the layer, with no error but that of eight bits.
TEST(Guessing, IsKeptByQuantising) {
  const TemporaryFolder folder;
  const auto path = folder / "guessing.gguf";
  format::quantize_file(goldens / "folders" / "deepseek-v3-mtp-f32", path,
                        format::quantization_recipe("q8_0"), {.threads = 1});
  const auto file = format::GgufFile::open(path);
  EXPECT_EQ(file.tensor("blk.2.nextn.eh_proj.weight").view.dtype, DType::q8_0);
  EXPECT_EQ(file.tensor("blk.2.nextn.shared_head_head.weight").view.dtype, DType::q8_0);
  EXPECT_EQ(file.tensor("blk.2.nextn.enorm.weight").view.dtype, DType::f32);
  const auto whole = format::GgufFile::open(goldens / "deepseek-v3-mtp-f32.gguf");
  int tensors = 0;
  for (const format::GgufTensor& tensor : whole.tensors()) {
    if (!tensor.name.starts_with("blk.2.")) continue;
    SCOPED_TRACE(tensor.name);
    const std::vector<float> truth = floats_of(whole, tensor);
    const std::vector<float> kept = floats_of(file, file.tensor(tensor.name));
    ASSERT_EQ(kept.size(), truth.size());
    const float largest = std::ranges::max(
        truth, {}, [](float value) { return std::fabs(value); });
    for (size_t i = 0; i < truth.size(); ++i) {
      ASSERT_NEAR(kept[i], truth[i], std::fabs(largest) / 250) << i;
    }
    ++tensors;
  }
  EXPECT_EQ(tensors, 24);
  const auto device = backend::open_device("reference");
  EXPECT_TRUE(Model::load(file, *device, {.guesses = true})->guesses());
}

TEST(Guessing, StaysWithinItsDivergenceOnEveryDeviceAndIsa) {
  for (const auto& [device_name, isa] : device_choices()) {
    const auto device =
        backend::open_device(device_name, {.threads = 2, .isa = isa, .threads_spin = false});
    for (const char* name : names) {
      SCOPED_TRACE(device_name + " " + isa + " " + name);
      const auto file = format::GgufFile::open(goldens / (std::string(name) + ".gguf"));
      const GuessGolden golden(name);
      const auto model = Model::load(file, *device, {.mixed_precision = false, .guesses = true});
      for (const size_t chunk_tokens : {golden.tokens.size(), size_t{1}}) {
        const auto got = run_in_chunks(*model, *device, golden, chunk_tokens, DType::f16);
        EXPECT_LE(mean_divergence(golden.guesses, got.second), declared_divergence);
      }
    }
  }
}

TEST(Guessing, StaysWithinItsDivergenceOnAscendsTwin) {
  const auto device = backend::open_device("ascend-twin:910B4");
  const auto file = format::GgufFile::open(goldens / "deepseek-v3-mtp-f32.gguf");
  const GuessGolden golden(names[0]);
  const auto model = Model::load(file, *device, {.guesses = true});
  const auto got = run_in_chunks(*model, *device, golden, 16, DType::f16);
  EXPECT_LE(mean_divergence(golden.guesses, got.second), declared_half_divergence);
}

// A layer that is not asked for takes neither memory nor cache.
TEST(Guessing, IsLeftOutWhereNobodyWantsIt) {
  const auto device = backend::open_device("reference");
  const auto file = format::GgufFile::open(goldens / "deepseek-v3-mtp-f32.gguf");
  const auto without = Model::load(file, *device);
  const auto with = Model::load(file, *device, {.guesses = true});
  EXPECT_FALSE(without->guesses());
  EXPECT_EQ(without->kv_layout().layers, 2);
  EXPECT_EQ(with->kv_layout().layers, 3);
  EXPECT_EQ(with->step_weight_bytes(), without->step_weight_bytes());
}

}  // namespace

}  // namespace ridge::model::guessing_test
