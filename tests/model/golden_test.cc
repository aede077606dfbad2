#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "backend/registry.h"
#include "format/gguf.h"
#include "model/model.h"
#include "model/stepper.h"

namespace ridge::model {

namespace {

const std::filesystem::path goldens = std::filesystem::path(RIDGE_SOURCE_DIR) / "tests/goldens";

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) {
    const std::string file = entry.path().filename().string();
    const std::string suffix = ".golden.gguf";
    if (!file.ends_with(suffix)) continue;
    const std::string name = file.substr(0, file.size() - suffix.size());
    if (std::filesystem::exists(goldens / (name + ".gguf"))) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Goldens, AreThere) {
  // As many as there are today: without them the tests below would pass, as there is none to run.
  EXPECT_GE(golden_names().size(), 15u);
}

struct Golden {
  explicit Golden(const std::string& name)
      : file(format::GgufFile::open(goldens / (name + ".gguf"))) {
    const auto truth = format::GgufFile::open(goldens / (name + ".golden.gguf"));
    tokens = values<int32_t>(truth.tensor("tokens").view);
    const std::vector<float> all = values<float>(truth.tensor("logits").view);
    const size_t vocab = all.size() / tokens.size();
    for (size_t i = 0; i < tokens.size(); ++i) {
      logits.emplace_back(all.begin() + i * vocab, all.begin() + (i + 1) * vocab);
    }
  }
  template <typename T>
  static std::vector<T> values(const TensorView& view) {
    std::vector<T> result(view.shape.elements());
    std::memcpy(result.data(), view.bytes.data(), view.bytes.size());
    return result;
  }

  format::GgufFile file;
  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;  // [tokens][vocab]
};

// transformers' own float32 run lies up to 3e-5 from its float64 run on these models (their key
// golden.float64_max_difference), whose logits are of size 5. Ours sums in double and rounds each
// value that it stores, and may err by about as much again.
constexpr double reference_tolerance = 5e-5;

void expect_near(const std::vector<float>& truth, const std::vector<float>& got, size_t position) {
  ASSERT_EQ(truth.size(), got.size());
  for (size_t i = 0; i < truth.size(); ++i) {
    ASSERT_NEAR(truth[i], got[i], reference_tolerance) << "position " << position << " id " << i;
  }
}

class GoldenModel : public testing::TestWithParam<std::string> {
 protected:
  Golden golden{GetParam()};
  std::unique_ptr<backend::Device> device = backend::open_device("reference");
  std::unique_ptr<Model> model = Model::load(golden.file, *device);
  Stepper stepper{*model, *device, DType::f32};

  void run_in_chunks(size_t chunk_tokens) {
    for (size_t begin = 0; begin < golden.tokens.size(); begin += chunk_tokens) {
      const size_t end = std::min(golden.tokens.size(), begin + chunk_tokens);
      const Chunk chunk{0, {golden.tokens.begin() + begin, golden.tokens.begin() + end}};
      const auto logits = stepper.step({&chunk, 1});
      for (size_t i = begin; i < end; ++i) expect_near(golden.logits[i], logits[i - begin], i);
    }
  }
};

TEST_P(GoldenModel, AgreesWithTransformersInOneStep) { run_in_chunks(golden.tokens.size()); }

TEST_P(GoldenModel, AgreesWithTransformersInChunks) { run_in_chunks(5); }

TEST_P(GoldenModel, AgreesWithTransformersTokenByToken) { run_in_chunks(1); }

TEST_P(GoldenModel, AgreesWithTransformersForTwoSequencesInOneStep) {
  // The second sequence is one step behind, so that prefill and decode rows share a step.
  const auto& t = golden.tokens;
  const size_t half = t.size() / 2;
  const Chunk first{2, {t.begin(), t.begin() + half}};
  stepper.step({&first, 1});
  std::vector<Chunk> both = {{2, {t[half]}}, {0, {t.begin(), t.begin() + half + 2}}};
  const auto logits = stepper.step(both);
  expect_near(golden.logits[half], logits[0], half);
  for (size_t i = 0; i < half + 2; ++i) expect_near(golden.logits[i], logits[i + 1], i);
}

INSTANTIATE_TEST_SUITE_P(Goldens, GoldenModel, testing::ValuesIn(golden_names()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

// Mean Kullback-Leibler divergence of the next-token distributions, natural logarithm.
double mean_divergence(const std::vector<std::vector<float>>& truth,
                       const std::vector<std::vector<float>>& got) {
  const auto log_probabilities = [](const std::vector<float>& logits) {
    double sum = 0;
    for (float x : logits) sum += std::exp(static_cast<double>(x));
    std::vector<double> result;
    for (float x : logits) result.push_back(x - std::log(sum));
    return result;
  };
  double total = 0;
  for (size_t t = 0; t < truth.size(); ++t) {
    const auto p = log_probabilities(truth[t]);
    const auto q = log_probabilities(got[t]);
    for (size_t i = 0; i < p.size(); ++i) total += std::exp(p[i]) * (p[i] - q[i]);
  }
  return total / static_cast<double>(truth.size());
}

// Weights are exact and activations good to 15 bits, so that little more than the rounding of the
// f16 cache remains, whatever the file's dtypes.
constexpr double declared_divergence = 1e-5;
// Mixed precision may round activations to int8. The bound is what llama.cpp's rounding costs on
// SmolLM2 (docs/performance.md).
constexpr double declared_mixed_divergence = 3.1e-3;

// Each device of the build but the reference, at each instruction set.
std::vector<std::pair<std::string, std::string>> device_choices() {
  std::vector<std::pair<std::string, std::string>> choices;
  for (const std::string& device : backend::device_names()) {
    if (device == "reference") continue;
    std::vector<std::string> isas = backend::device_isas(device);
    if (isas.empty()) isas.emplace_back();
    for (const std::string& isa : isas) choices.emplace_back(device, isa);
  }
  return choices;
}

std::vector<std::vector<float>> logits_in_chunks(const Golden& golden, const Model& model,
                                                 backend::Device& device, size_t chunk_tokens) {
  Stepper stepper(model, device, DType::f16);
  std::vector<std::vector<float>> all;
  for (size_t begin = 0; begin < golden.tokens.size(); begin += chunk_tokens) {
    const size_t end = std::min(golden.tokens.size(), begin + chunk_tokens);
    const Chunk chunk{1, {golden.tokens.begin() + begin, golden.tokens.begin() + end}};
    for (auto& row : stepper.step({&chunk, 1})) all.push_back(std::move(row));
  }
  return all;
}

TEST(GoldenOnDevices, EveryDeviceAndIsaStaysWithinItsDivergence) {
  for (const auto& [device_name, isa] : device_choices()) {
    const auto device = backend::open_device(device_name, {.threads = 2, .isa = isa});
    for (const std::string& name : golden_names()) {
      SCOPED_TRACE(device_name + " " + isa + " " + name);
      const Golden golden(name);
      for (const bool mixed : {false, true}) {
        const auto model = Model::load(golden.file, *device, {.mixed_precision = mixed});
        for (const size_t chunk_tokens : {golden.tokens.size(), size_t{5}, size_t{1}}) {
          const double divergence = mean_divergence(
              golden.logits, logits_in_chunks(golden, *model, *device, chunk_tokens));
          EXPECT_LE(divergence, mixed ? declared_mixed_divergence : declared_divergence)
              << (mixed ? "mixed" : "full") << " precision, in chunks of " << chunk_tokens;
        }
      }
    }
  }
}

}  // namespace

}  // namespace ridge::model
