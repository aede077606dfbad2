#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/sanitizers.h"
#include "vocabularies.h"

namespace ridge::text::tokenizer_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto r1 = "deepseek-r1-distill-qwen-7b";

// Runs `action`, which must throw, and gives its error.
template <typename Action>
Error failure_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorCode::internal, "");
}

TEST(Tokenizer, KnowsTheSpecialTokensOfR1) {
  const auto tokenizer = vocabulary(r1);
  EXPECT_EQ(tokenizer->vocab_size(), 152064);
  EXPECT_EQ(tokenizer->bos(), 151646);
  EXPECT_EQ(tokenizer->eos(), 151643);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_TRUE(tokenizer->is_end_of_generation(151643));
  EXPECT_TRUE(tokenizer->is_end_of_generation(*tokenizer->find("<|EOT|>")));
  EXPECT_FALSE(tokenizer->is_end_of_generation(151644));
  EXPECT_EQ(tokenizer->find("<｜User｜>"), 151644);
  EXPECT_EQ(tokenizer->find("<think>"), 151648);
  EXPECT_EQ(tokenizer->find("<no such token>"), std::nullopt);
  EXPECT_EQ(tokenizer->token_bytes(*tokenizer->find(" the")), " the");
  EXPECT_TRUE(tokenizer->is_special(151644));
  EXPECT_FALSE(tokenizer->is_special(151648)) << "the splitter must see <think>";
  EXPECT_FALSE(tokenizer->is_special(-1));
}

TEST(Tokenizer, KnowsBothEndsOfSmolLm2) {
  const auto tokenizer = vocabulary("smollm2");
  EXPECT_THAT(tokenizer->end_of_generation_ids(), ElementsAre(0, 2));
  EXPECT_FALSE(tokenizer->adds_bos());
}

TEST(Tokenizer, AddsBosOnlyWhereAskedAndWanted) {
  EXPECT_EQ(vocabulary(r1)->encode("a", {.add_special = true}).front(), 151646);
  EXPECT_EQ(vocabulary(r1)->encode("a").size(), 1u);
  EXPECT_EQ(vocabulary("smollm2")->encode("a", {.add_special = true}).size(), 1u);
  EXPECT_THAT(vocabulary(r1)->encode("", {.add_special = true}), ElementsAre(151646));
}

// A search that goes back over the run would take hours: CTest's timeout.
TEST(Tokenizer, EncodesAMillionCaretsAndOtherLongRuns) {
  // The crate that encodes is not instrumented: under sanitizers a tenth shows what they can see.
  constexpr size_t part = is_sanitized ? 10 : 1;
  for (const char* name : {r1, "small-spm"}) {
    const std::string carets(1'000'000 / part, '^');
    EXPECT_EQ(vocabulary(name)->decode(vocabulary(name)->encode(carets)), carets);
    for (const std::string unit : {" ", "\n", "a", "1", "\t ", "é", "' "}) {
      std::string text;
      while (text.size() < 200'000 / part) text += unit;
      EXPECT_EQ(vocabulary(name)->decode(vocabulary(name)->encode(text)), text);
    }
  }
}

TEST(Tokenizer, NoTextHasFewerTokensThanItsBytesSay) {
  const std::string spaces(2000, ' '), stops(2000, '.'), lines(2000, '\n');
  std::string hangul, greek, letters;
  for (int i = 0; i < 200; ++i) {
    hangul += "\u1112\u1161\u11AB";  // three letters that NFC makes one of
    greek += "\u1FBE\u0308\u0301";   // seven bytes of which it makes two
    letters += "international ";
  }
  for (const char* name : {r1, "smollm2", "small-bpe", "small-spm"}) {
    const auto tokenizer = vocabulary(name);
    for (const std::string& text : {spaces, stops, lines, hangul, greek, letters}) {
      EXPECT_LE(tokenizer->fewest_tokens(text.size()), tokenizer->encode(text).size()) << name;
    }
  }
  EXPECT_GT(vocabulary(r1)->fewest_tokens(Tokenizer::max_text_bytes), 1000u)
      << "a bound that refuses something";
  EXPECT_EQ(vocabulary("smollm2")->fewest_tokens(Tokenizer::max_text_bytes), 0u)
      << "it has no tokens for some bytes, which are left out of a text, however many they are";
}

TEST(Tokenizer, RefusesWhatItCannotEncodeOrDecode) {
  const auto tokenizer = vocabulary("smollm2");
  const auto invalid = failure_of([&] { tokenizer->encode("a\xFFz"); });
  EXPECT_EQ(invalid.code(), ErrorCode::invalid_argument);
  EXPECT_THAT(std::string(invalid.message()), HasSubstr("UTF-8 at byte 1"));
  const std::string long_text(Tokenizer::max_text_bytes + 1, 'a');
  EXPECT_EQ(failure_of([&] { tokenizer->encode(long_text); }).code(), ErrorCode::payload_too_large);
  for (const int32_t id : {-1, 49152, 2'000'000'000}) {
    EXPECT_EQ(failure_of([&] { tokenizer->decode(std::vector{id}); }).code(),
              ErrorCode::invalid_argument);
    EXPECT_EQ(failure_of([&] { tokenizer->token_bytes(id); }).code(), ErrorCode::invalid_argument);
  }
}

TEST(Tokenizer, EncodesFromManyThreadsAtOnce) {
  const auto tokenizer = vocabulary("smollm2");
  const auto expected = tokenizer->encode("One text for all threads.");
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        tokenizer->encode("Some other text " + std::to_string(round));
        if (tokenizer->encode("One text for all threads.") != expected) ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

TEST(Tokenizer, RefusesBrokenVocabulariesByName) {
  const auto message = [](const MadeVocabulary& made, ErrorCode code) {
    const Error error = failure_of([&] { made.build(); });
    EXPECT_EQ(error.code(), code) << error.message();
    return std::string(error.message());
  };
  const auto file = ErrorCode::invalid_file;
  EXPECT_THAT(message({.pre = "klingon", .tokens = {"a"}}, ErrorCode::unsupported),
              HasSubstr("klingon"));
  for (const std::string model : {"t5", "bert", "rwkv", ""}) {
    EXPECT_THAT(message({.model = model, .tokens = {"a"}}, ErrorCode::unsupported),
                HasSubstr("tokenizer.ggml.model"));
  }
  EXPECT_THAT(message({.tokens = {"a", "b"}, .merges = {"a b"}}, file), HasSubstr("merges[0]"));
  EXPECT_THAT(message({.tokens = {"a", "\xFF"}}, file), HasSubstr("tokens[1]"));
  EXPECT_THAT(message({.tokens = {"a"}, .types = {9}}, file), HasSubstr("token_type[0]"));
  EXPECT_THAT(message({.tokens = {"a"}, .types = {1, 1}}, file), HasSubstr("token_type"));
  EXPECT_THAT(message({.tokens = {std::string(5000, 'a')}}, file), HasSubstr("tokens[0]"));
  for (const std::string key : {"bos_token_id", "eos_token_id", "eot_token_id"}) {
    for (const uint32_t id : {1u, 4'000'000'000u}) {
      EXPECT_THAT(message({.tokens = {"a"}, .ids = {{key, id}}}, file), HasSubstr(key));
    }
  }
  EXPECT_THAT(
      message({.model = "llama", .tokens = {"<unk>", "<0x-1>"}, .types = {2, 6}, .scores = {0, 0}},
              file),
      HasSubstr("<0x-1>"));
  EXPECT_THAT(message({.model = "llama", .tokens = {"a"}, .scores = {}}, file),
              HasSubstr("scores"));
}

TEST(Tokenizer, TheLastOfEqualTokensCounts) {
  const auto tokenizer = MadeVocabulary{.tokens = {"a", "b", "a"}}.build();
  EXPECT_THAT(tokenizer->encode("ab"), ElementsAre(2, 1));
  EXPECT_EQ(tokenizer->decode(std::vector{0, 1, 2}), "aba");
}

}  // namespace
}  // namespace ridge::text::tokenizer_test
