// Adapters in both formats against what transformers and peft compute with them.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/sanitizers.h"
#include "model/adapter.h"
#include "model/golden.h"
#include "model/model.h"
#include "model/stepper.h"

namespace ridge::model::adapter_golden_test {

namespace {

struct Case {
  std::string model;
  std::string name;
};

const Case cases[] = {
    {"llama-f32", "attention"}, {"llama-f32", "all"}, {"qwen2-f32", "all"}, {"qwen2-f32", "gate"}};
const std::string endings[] = {".gguf", ""};  // of a GGUF file, of a PEFT folder

std::filesystem::path path_of(const Case& c, const std::string& ending) {
  return goldens / "adapters" / (c.model + "." + c.name + ending);
}

// A base model with adapters on one device.
struct Adapted {
  Adapted(const std::string& model_name, const std::string& device_name,
          const backend::DeviceOptions& options, bool mixed = false)
      : file(format::GgufFile::open(goldens / (model_name + ".gguf"))),
        device(backend::open_device(device_name, options)),
        model(Model::load(file, *device, {.mixed_precision = mixed})) {}

  void add(const std::filesystem::path& path) {
    AdapterFile adapter = read_adapter(path);
    fit_adapter(adapter, model->config());
    adapters.push_back(Adapter::load(std::move(adapter), /*scale=*/1, *device));
  }

  format::GgufFile file;
  std::unique_ptr<backend::Device> device;
  std::unique_ptr<Model> model;
  std::vector<std::unique_ptr<Adapter>> adapters;
};

std::vector<std::vector<float>> logits_of(const Adapted& adapted, const Golden& golden,
                                          size_t chunk_tokens, DType cache_dtype) {
  Stepper stepper(*adapted.model, *adapted.device, cache_dtype, adapted.adapters);
  std::vector<std::vector<float>> all;
  for (size_t begin = 0; begin < golden.tokens.size(); begin += chunk_tokens) {
    const size_t end = std::min(golden.tokens.size(), begin + chunk_tokens);
    const Chunk chunk{1, {golden.tokens.begin() + begin, golden.tokens.begin() + end}, 0};
    for (auto& row : stepper.step({&chunk, 1})) all.push_back(std::move(row));
  }
  return all;
}

TEST(AdapterGoldens, ReferenceAgreesWithPeft) {
  for (const Case& c : cases) {
    const Golden golden("adapters/" + c.model + "." + c.name);
    for (const std::string& ending : endings) {
      SCOPED_TRACE(path_of(c, ending).filename().string());
      Adapted adapted(c.model, "reference", {});
      adapted.add(path_of(c, ending));
      for (const size_t chunk_tokens : {golden.tokens.size(), size_t{5}}) {
        const auto logits = logits_of(adapted, golden, chunk_tokens, DType::f32);
        for (size_t i = 0; i < logits.size(); ++i) expect_near(golden.logits[i], logits[i], i);
      }
    }
  }
}

TEST(AdapterGoldens, EveryDeviceAndIsaStaysWithinItsDivergence) {
  for (const auto& [device, isa] : device_choices()) {
    for (const Case& c : cases) {
      const Golden golden("adapters/" + c.model + "." + c.name);
      // Under sanitizers one, as for the models themselves.
      const std::vector<size_t> chunks = is_sanitized
                                             ? std::vector<size_t>{golden.tokens.size()}
                                             : std::vector<size_t>{golden.tokens.size(), 1};
      for (const bool mixed : {false, true}) {
        SCOPED_TRACE(device + " " + isa + " " + c.model + " " + c.name + (mixed ? " mixed" : ""));
        Adapted adapted(c.model, device, {.threads = 2, .isa = isa, .threads_spin = false}, mixed);
        adapted.add(path_of(c, mixed ? ".gguf" : ""));
        for (const size_t chunk_tokens : chunks) {
          EXPECT_LE(
              mean_divergence(golden.logits, logits_of(adapted, golden, chunk_tokens, DType::f16)),
              mixed ? declared_mixed_divergence : declared_divergence)
              << "in chunks of " << chunk_tokens;
        }
      }
    }
  }
}

int32_t likeliest(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

// Two adapters, one of each format, and the base: every step computes a token of each.
TEST(AdapterGoldens, EachSequenceOfOneBatchGetsItsOwnAdapter) {
  std::vector<std::pair<std::string, std::string>> devices = device_choices();
  devices.emplace_back("reference", "");
  for (const auto& [device, isa] : devices) {
    for (const size_t first : {size_t{0}, size_t{2}}) {
      const Case& a = cases[first];
      const Case& b = cases[first + 1];
      SCOPED_TRACE(device + " " + isa + " " + a.model);
      Adapted adapted(a.model, device, {.threads = 2, .isa = isa, .threads_spin = false});
      adapted.add(path_of(a, ".gguf"));
      adapted.add(path_of(b, ""));
      const Golden golden("adapters/" + a.model + "." + a.name);
      const Golden other("adapters/" + b.model + "." + b.name);
      ASSERT_EQ(golden.tokens, other.tokens);
      const auto expected = [](const Golden& of, const char* tensor) {
        return Golden::values<int32_t>(of.truth.tensor(tensor).view);
      };
      const std::vector<std::vector<int32_t>> wanted = {expected(other, "continuation"),
                                                        expected(golden, "base_continuation"),
                                                        expected(golden, "continuation")};
      Stepper stepper(*adapted.model, *adapted.device, DType::f32, adapted.adapters);
      std::vector<Chunk> chunks = {
          {0, golden.tokens, 1}, {1, golden.tokens, -1}, {2, golden.tokens, 0}};
      // Prompts of more than a step's rows in all: the last sequence follows in the next step.
      std::vector<std::vector<int32_t>> got(3);
      const size_t prompt = golden.tokens.size();
      const auto two = stepper.step(std::span(chunks).first(2));
      got[0].push_back(likeliest(two[prompt - 1]));
      got[1].push_back(likeliest(two[2 * prompt - 1]));
      got[2].push_back(likeliest(stepper.step(std::span(chunks).last(1))[prompt - 1]));
      while (got[0].size() < wanted[0].size()) {
        for (size_t i = 0; i < 3; ++i) chunks[i].tokens = {got[i].back()};
        const auto logits = stepper.step(chunks);
        for (size_t i = 0; i < 3; ++i) got[i].push_back(likeliest(logits[i]));
      }
      EXPECT_EQ(got, wanted);
    }
  }
}

}  // namespace

}  // namespace ridge::model::adapter_golden_test
