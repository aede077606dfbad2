#include "engine/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf_writer.h"
#include "model/golden.h"

namespace ridge::engine::importance_test {
namespace {

using format::ImportanceEntry;
using format::ImportanceMatrix;
using ::testing::HasSubstr;

std::unique_ptr<LoadedModel> load_file(const std::filesystem::path& path,
                                       const std::string& device, const std::string& isa) {
  LoadOptions options;
  options.device = device;
  options.device_options.isa = isa;
  options.device_options.threads = 2;
  options.device_options.threads_spin = false;
  options.mixed_precision = false;
  return LoadedModel::load(path, options);
}

std::unique_ptr<LoadedModel> load(const std::string& name, const std::string& device,
                                  const std::string& isa) {
  return load_file(model::goldens / (name + ".gguf"), device, isa);
}

// A golden model whose vocabulary asks for BOS.
void write_with_bos(const std::string& name, const std::filesystem::path& path) {
  const auto file = format::GgufFile::open(model::goldens / (name + ".gguf"));
  format::GgufWriter writer;
  for (const format::GgufEntry& entry : file.metadata().entries()) {
    if (entry.key != "tokenizer.ggml.add_bos_token") writer.set_value(entry.key, entry.value);
  }
  writer.set_boolean("tokenizer.ggml.add_bos_token", true);
  for (const format::GgufTensor& tensor : file.tensors()) {
    writer.add_tensor(tensor.name, tensor.view.dtype, tensor.view.shape, tensor.view.bytes);
  }
  writer.write(path);
}

// Of the greatest sum of the same tensor.
void expect_close(const ImportanceMatrix& truth, const ImportanceMatrix& got, double tolerance) {
  for (const auto& [name, entry] : got.entries) EXPECT_TRUE(truth.entries.contains(name)) << name;
  for (const auto& [name, expected] : truth.entries) {
    ASSERT_TRUE(got.entries.contains(name)) << name;
    const ImportanceEntry& entry = got.entries.at(name);
    EXPECT_EQ(entry.counts, expected.counts) << name;
    ASSERT_EQ(entry.square_sums.size(), expected.square_sums.size()) << name;
    const float greatest = *std::ranges::max_element(expected.square_sums);
    for (size_t i = 0; i < expected.square_sums.size(); ++i) {
      ASSERT_NEAR(entry.square_sums[i], expected.square_sums[i], tolerance * greatest)
          << name << " column " << i;
    }
  }
}

ImportanceMatrix truth_of(const std::string& name) {
  return ImportanceMatrix::read(model::goldens / "imatrix" / (name + ".gguf"));
}

class ImportanceOf : public testing::TestWithParam<std::string> {};

// What hooks in transformers saw (tools/goldens/make_imatrix.py).
TEST_P(ImportanceOf, IsWhatTransformersFindsOnTheReference) {
  const model::Golden golden(GetParam());
  const auto loaded = load(GetParam(), "reference", "");
  const ImportanceMatrix got =
      gather_importance(*loaded, golden.tokens, {.kv_dtype = DType::f32});
  expect_close(truth_of(GetParam()), got, 1e-5);
}

// Inputs are rounded to 15 bits on the way; the sums say so.
TEST_P(ImportanceOf, IsWhatTransformersFindsAtEveryInstructionSet) {
  const model::Golden golden(GetParam());
  for (const std::string& isa : backend::device_isas("cpu")) {
    SCOPED_TRACE(isa);
    const auto loaded = load(GetParam(), "cpu", isa);
    expect_close(truth_of(GetParam()),
                 gather_importance(*loaded, golden.tokens, {.kv_dtype = DType::f32}), 1e-3);
  }
}

TEST_P(ImportanceOf, AddsUpChunksThatBeginAnew) {
  const model::Golden golden(GetParam());
  const auto loaded = load(GetParam(), "cpu", "");
  std::vector<int32_t> twice = golden.tokens;
  twice.insert(twice.end(), golden.tokens.begin(), golden.tokens.end());
  const auto chunk_tokens = static_cast<int>(golden.tokens.size());
  const ImportanceMatrix got = gather_importance(
      *loaded, twice, {.chunk_tokens = chunk_tokens, .kv_dtype = DType::f32});
  EXPECT_EQ(got.chunks, 2u);
  EXPECT_EQ(got.chunk_tokens, static_cast<uint32_t>(chunk_tokens));
  ImportanceMatrix doubled = truth_of(GetParam());
  for (auto& [name, entry] : doubled.entries) {
    for (float& sum : entry.square_sums) sum *= 2;
    for (float& count : entry.counts) count *= 2;
  }
  expect_close(doubled, got, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Goldens, ImportanceOf,
                         testing::Values("llama-f32", "mixtral-q8_0", "qwen3moe-f32",
                                         "deepseek-v2-f32", "deepseek-v3-f32",
                                         "deepseek-v3-kv_b-f32"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = std::isalnum(c) ? c : '_';
                           return name;
                         });

TEST(GatherImportance, PutsBosBeforeEachChunkAndTakesAShortLastOne) {
  const TemporaryFolder folder;
  write_with_bos("llama-f32", folder / "bos.gguf");
  const auto loaded = load_file(folder / "bos.gguf", "cpu", "");
  const model::Golden golden("llama-f32");
  ASSERT_TRUE(loaded->tokenizer()->adds_bos());
  std::vector<int32_t> with_bos;
  std::vector<int32_t> without;
  for (int i = 0; i < 20; ++i) {
    without.push_back(golden.tokens[static_cast<size_t>(i % 5 + 3)]);
    with_bos.push_back(i % 8 == 0 ? *loaded->tokenizer()->bos() : without.back());
  }
  const ImportanceMatrix expected = gather_importance(*loaded, with_bos, {.chunk_tokens = 8});
  const ImportanceMatrix got = gather_importance(*loaded, without, {.chunk_tokens = 8});
  EXPECT_EQ(got.chunks, 3u);
  EXPECT_EQ(got.entries, expected.entries);
  EXPECT_EQ(got.entries.begin()->second.counts, std::vector<float>{20});
}

TEST(GatherImportance, StopsWhenItIsAskedTo) {
  const auto loaded = load("llama-f32", "cpu", "");
  const model::Golden golden("llama-f32");
  int64_t done = 0;
  try {
    gather_importance(*loaded, golden.tokens, {.chunk_tokens = 4, .progress = [&](int64_t now, int64_t) {
                                                 done = now;
                                                 return now < 8;
                                               }});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::cancelled);
  }
  EXPECT_EQ(done, 8);
}

TEST(GatherImportance, RefusesATextWithoutTokensAndChunksBeyondTheContext) {
  const auto loaded = load("llama-f32", "cpu", "");
  const auto refused = [&](std::span<const int32_t> tokens, int chunk_tokens) {
    try {
      gather_importance(*loaded, tokens, {.chunk_tokens = chunk_tokens});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return std::string(error.message());
    }
    return std::string();
  };
  EXPECT_THAT(refused({}, 8), HasSubstr("no tokens"));
  const int most = loaded->model().config().context_tokens;
  const std::vector<int32_t> tokens(static_cast<size_t>(most) + 10, 1);
  EXPECT_THAT(refused(tokens, most + 1), HasSubstr(std::to_string(most)));
}

}  // namespace
}  // namespace ridge::engine::importance_test
