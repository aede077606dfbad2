// Ids and decoded text against goldens that tools/tokenizer_goldens
// makes with Hugging Face's packages.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vocabularies.h"

namespace ridge::text::tokenizer_golden_test {
namespace {

using Ids = std::vector<int32_t>;

void compare(const Tokenizer& tokenizer, const std::string& golden_name) {
  const nlohmann::ordered_json cases = golden(golden_name)["cases"];
  ASSERT_GT(cases.size(), 80u);
  for (const auto& c : cases) {
    const std::string name = golden_name + ": " + c["name"].get<std::string>();
    const auto text = c["text"].get<std::string>();
    const auto ids = c["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text), ids) << name;
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = false}),
              c.contains("ids_unparsed") ? c["ids_unparsed"].get<Ids>() : ids)
        << name;
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/false), c.value("decoded", text)) << name;
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/true), c.value("decoded_skipping", text))
        << name;
  }
}

TEST(TokenizerGolden, DeepSeekR1DistillQwen) {
  compare(*vocabulary("deepseek-r1-distill-qwen-7b"), "deepseek-r1-qwen");
}

TEST(TokenizerGolden, SmolLm2) { compare(*vocabulary("smollm2"), "smollm"); }

TEST(TokenizerGolden, SentencePiece) { compare(*vocabulary("small-spm"), "small-spm"); }

// One vocabulary whose merges reach over every border, cut by each pre-tokenizer in turn.
class PreTokenizerGolden : public testing::TestWithParam<const char*> {};

TEST_P(PreTokenizerGolden, GivesTheSameIds) {
  const std::string pre = GetParam();
  compare(*with_pre(vocabulary_file("small-bpe"), pre), "small-" + pre);
}

INSTANTIATE_TEST_SUITE_P(All, PreTokenizerGolden,
                         testing::Values("gpt-2", "llama-bpe", "smaug-bpe", "qwen2", "qwen35",
                                         "gpt-4o", "tekken", "smollm", "deepseek-llm",
                                         "deepseek-coder", "deepseek-v3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace ridge::text::tokenizer_golden_test
