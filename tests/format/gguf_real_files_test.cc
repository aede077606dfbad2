// Files that other programs wrote.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "format/gguf.h"
#include "tensor/dequantize.h"

namespace ridge::format::gguf_real_files_test {

namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

}  // namespace

// Written by llama.cpp's converter: the vocabulary and chat template of
// DeepSeek-R1-Distill-Qwen-7B.
TEST(GgufRealFiles, ReadsTheVocabularyOfDeepSeekR1DistillQwen) {
  const GgufFile file = GgufFile::open(RIDGE_FIXTURE_DIR "/deepseek-r1-distill-qwen-7b.vocab.gguf");
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.architecture(), "qwen2");
  EXPECT_EQ(file.tensors().size(), 0u);
  EXPECT_EQ(file.parameters(), 0u);
  const GgufMetadata& metadata = file.metadata();
  EXPECT_EQ(metadata.entries().size(), 27u);
  EXPECT_EQ(metadata.uint32("qwen2.block_count"), 28u);
  EXPECT_EQ(metadata.uint32("qwen2.attention.head_count_kv"), 4u);
  EXPECT_EQ(metadata.float32("qwen2.rope.freq_base"), 10000.0f);
  EXPECT_EQ(metadata.string("tokenizer.ggml.pre"), "deepseek-r1-qwen");
  EXPECT_TRUE(metadata.boolean("tokenizer.ggml.add_bos_token"));
  EXPECT_THAT(metadata.string("tokenizer.chat_template"),
              StartsWith("{% if not add_generation_prompt is defined %}"));

  const auto tokens = metadata.string_array("tokenizer.ggml.tokens");
  ASSERT_EQ(tokens.size(), 152064u);
  EXPECT_EQ(tokens[0], "!");
  EXPECT_EQ(tokens[metadata.uint32("tokenizer.ggml.bos_token_id")], "<｜begin▁of▁sentence｜>");
  EXPECT_EQ(tokens[metadata.uint32("tokenizer.ggml.eos_token_id")], "<｜end▁of▁sentence｜>");
  EXPECT_EQ(metadata.int_array("tokenizer.ggml.token_type").size(), tokens.size());
  const auto merges = metadata.string_array("tokenizer.ggml.merges");
  ASSERT_EQ(merges.size(), 151387u);
  EXPECT_EQ(merges.back(), "â½ Ĺ");
}

// Written by the `gguf` Python package.
TEST(GgufRealFiles, ReadsEveryGoldenModel) {
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RIDGE_SOURCE_DIR "/tests/goldens")) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const GgufFile file = GgufFile::open(entry.path());
    EXPECT_GT(file.tensors().size(), 0u);
    EXPECT_EQ(file.unsupported_tensors().size(), 0u);
    for (const GgufTensor& tensor : file.tensors()) {
      std::vector<float> row(static_cast<size_t>(tensor.view.shape.columns()));
      dequantize_row(tensor.view.dtype, tensor.view.row(tensor.view.shape.rows() - 1), row);
    }
    ++models;
  }
  EXPECT_GE(models, 10);
}

TEST(GgufRealFiles, SeesTheMixedTypesOfAKQuantModel) {
  const GgufFile file = GgufFile::open(RIDGE_SOURCE_DIR "/tests/goldens/llama-q4_k_m.gguf");
  EXPECT_EQ(file.architecture(), "llama");
  int q4_k = 0;
  int q6_k = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    q4_k += tensor.view.dtype == DType::q4_k;
    q6_k += tensor.view.dtype == DType::q6_k;
  }
  EXPECT_GT(q4_k, 0);
  EXPECT_GT(q6_k, 0);
}

}  // namespace ridge::format::gguf_real_files_test
