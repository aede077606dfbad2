// Model folders as transformers saves them: what they compute against the same goldens as the GGUF
// files of the same weights, and the files that are written of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "backend/registry.h"
#include "base/temporary_folder.h"
#include "format/model_folder.h"
#include "format/quantize_file.h"
#include "model/golden.h"
#include "model/model.h"
#include "model/stepper.h"

namespace ridge::model::folder_golden_test {

namespace {

std::vector<std::string> folder_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(goldens / "folders")) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(FolderGoldens, AreThere) { EXPECT_GE(folder_names().size(), 18u); }

class FolderGolden : public testing::TestWithParam<std::string> {
 protected:
  const std::filesystem::path folder = goldens / "folders" / GetParam();
};

std::vector<std::vector<float>> logits_of(const format::GgufFile& file, const Golden& golden) {
  const auto device = backend::open_device("reference");
  const auto model = Model::load(file, *device);
  Stepper stepper(*model, *device, DType::f32);
  const Chunk chunk{0, golden.tokens};
  return stepper.step({&chunk, 1});
}

TEST_P(FolderGolden, ComputesWhatTransformersDoes) {
  const Golden golden(GetParam());
  const auto logits = logits_of(format::open_model(folder), golden);
  for (size_t i = 0; i < golden.tokens.size(); ++i) expect_near(golden.logits[i], logits[i], i);
}

void expect_same_weights(const format::GgufFile& made, const format::GgufFile& twin) {
  EXPECT_EQ(made.tensors().size(), twin.tensors().size());
  for (const format::GgufTensor& tensor : made.tensors()) {
    SCOPED_TRACE(tensor.name);
    const format::GgufTensor& other = twin.tensor(tensor.name);
    ASSERT_EQ(tensor.view.shape, other.view.shape);
    const std::vector<float> ours = floats_of(made, tensor);
    const std::vector<float> theirs = floats_of(twin, other);
    // Gemma's norms lost a bit when one was taken off for transformers.
    const float allowed = tensor.name.ends_with("_norm.weight") ? 2.5e-7f : 0.0f;
    for (size_t i = 0; i < ours.size(); ++i) {
      ASSERT_NEAR(ours[i], theirs[i], allowed * std::fabs(theirs[i])) << i;
    }
  }
}

// Where there is a GGUF file of the same model, it has the same weights; else it computes the same.
TEST_P(FolderGolden, BecomesAGgufFileOfTheSameModel) {
  const TemporaryFolder parent;
  const auto path = parent / "made.gguf";
  format::copy_as_gguf(folder, path, {.threads = 2});
  const auto made = format::GgufFile::open(path);
  const auto twin = goldens / (GetParam() + ".gguf");
  if (std::filesystem::exists(twin)) {
    return expect_same_weights(made, format::GgufFile::open(twin));
  }
  const Golden golden(GetParam());
  EXPECT_EQ(logits_of(made, golden), logits_of(format::open_model(folder), golden));
}

// Codes and scales stand in the file as they stand in the folder.
TEST(FolderGoldens, KeepCodesInTheTypesThatHoldThem) {
  struct Kept {
    const char* name;
    DType dtype;
    const char* tensor = "blk.0.ffn_down.weight";
  };
  constexpr Kept all[] = {{"llama-awq", DType::q5_0},
                          {"llama-gptq", DType::q4_0},
                          {"llama-w4a16", DType::q5_0},
                          {"llama-w8a8", DType::q8_0},
                          {"deepseek-v3-fp8", DType::f16},
                          {"gpt-oss-mxfp4", DType::mxfp4, "blk.0.ffn_down_exps.weight"},
                          {"gpt-oss-bf16", DType::bf16, "blk.0.ffn_gate_exps.weight"}};
  for (const auto& [name, dtype, tensor] : all) {
    const auto file = format::open_model(goldens / "folders" / name);
    EXPECT_EQ(file.tensor(tensor).view.dtype, dtype) << name;
  }
}

// Blocks of MXFP4 come out as the file of the same model has them, byte for byte.
TEST(FolderGoldens, KeepBlocksOfMXFP4) {
  const auto made = format::open_model(goldens / "folders/gpt-oss-mxfp4");
  const auto twin = format::GgufFile::open(goldens / "gpt-oss-mxfp4.gguf");
  for (const char* role : {"gate", "up", "down"}) {
    const std::string name = std::string("blk.1.ffn_") + role + "_exps.weight";
    const TensorView& ours = made.tensor(name).view;
    made.ready(ours);
    EXPECT_TRUE(std::ranges::equal(ours.bytes, twin.tensor(name).view.bytes)) << name;
  }
}

// Codes of folders reach numbers that no quantisation of GGUF's own writes, such as -128 of eight
// bits.
TEST(FolderGoldens, StayWithinTheirDivergenceOnEveryDeviceAndIsa) {
  for (const auto& [device_name, isa] : device_choices()) {
    const auto device =
        backend::open_device(device_name, {.threads = 2, .isa = isa, .threads_spin = false});
    for (const char* name : {"llama-awq", "llama-w8a8"}) {
      const auto file = format::open_model(goldens / "folders" / name);
      const Golden golden(name);
      for (const bool mixed : {false, true}) {
        SCOPED_TRACE(device_name + " " + isa + " " + name + (mixed ? " mixed" : ""));
        const auto model = Model::load(file, *device, {.mixed_precision = mixed});
        Stepper stepper(*model, *device, DType::f16);
        const Chunk chunk{0, golden.tokens};
        EXPECT_LE(mean_divergence(golden.logits, stepper.step({&chunk, 1})),
                  mixed ? declared_mixed_divergence : declared_divergence);
      }
    }
  }
}

// llama-w8a8 with a config.json that asks for activations of int8.
std::filesystem::path with_int8_activations(const TemporaryFolder& parent) {
  const auto folder = parent / "llama-w8a8";
  std::filesystem::copy(goldens / "folders/llama-w8a8", folder);
  std::ifstream in(folder / "config.json");
  std::string config(std::istreambuf_iterator<char>(in), {});
  const std::string none = "\"input_activations\": null";
  config.replace(config.find(none), none.size(),
                 R"("input_activations": {"num_bits": 8, "type": "int", "symmetric": true,
                                          "dynamic": true, "strategy": "token"})");
  std::ofstream(folder / "config.json") << config;
  return folder;
}

// The int8 cube multiplies rows of codes where a folder was made for that, and where it became a file.
TEST(FolderGoldens, HaveActivationsOfInt8OnAscendWhereTheFolderAsksForThem) {
  const TemporaryFolder parent;
  const auto folder = with_int8_activations(parent);
  format::copy_as_gguf(folder, parent / "made.gguf", {.threads = 2});
  const Golden truth("llama-w8a8-activations"), without("llama-w8a8");
  for (const std::string chip : {"910B2", "910B4"}) {
    const auto device = backend::open_device("ascend-twin:" + chip);
    const auto divergence_of = [&](const format::GgufFile& file, const Golden& golden) {
      const auto model = Model::load(file, *device);
      // With a cache of halves one code in twenty is another one, each an error like int8's own.
      Stepper stepper(*model, *device, DType::f32);
      const Chunk chunk{0, golden.tokens};
      return mean_divergence(golden.logits, stepper.step({&chunk, 1}));
    };
    SCOPED_TRACE(chip);
    const auto file = format::open_model(folder);
    EXPECT_LE(divergence_of(file, truth), declared_half_divergence);
    EXPECT_GE(divergence_of(file, without), 10 * declared_half_divergence);
    const auto made = format::GgufFile::open(parent / "made.gguf");
    EXPECT_LE(divergence_of(made, truth), declared_half_divergence);
    EXPECT_GE(divergence_of(format::open_model(goldens / "folders/llama-w8a8"), truth),
              10 * declared_half_divergence);
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, FolderGolden, testing::ValuesIn(folder_names()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

}  // namespace

}  // namespace ridge::model::folder_golden_test
