// Grammars on a real vocabulary.
#include "text/grammar.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/error.h"
#include "vocabularies.h"

namespace ridge::text::grammar_test {
namespace {

using testing::HasSubstr;
using testing::IsSubsetOf;
using testing::SizeIs;

class GrammarTest : public testing::Test {
 protected:
  GrammarMatcher start(GrammarKind kind, std::string_view source) {
    return compiler_.compile("", kind, source)->start();
  }

  std::vector<int32_t> allowed(GrammarMatcher& matcher) {
    const std::span<const uint32_t> words = matcher.mask();
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
      if (words[static_cast<size_t>(id) / 32] >> (id % 32) & 1) ids.push_back(id);
    }
    return ids;
  }

  void consume(GrammarMatcher& matcher, std::string_view text) {
    for (const int32_t id : tokenizer_->encode(text)) matcher.consume(id);
  }

  std::string refusal(GrammarKind kind, std::string_view source) {
    try {
      compiler_.compile("", kind, source);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
      return error.what();
    }
    return "";
  }

  std::shared_ptr<const Tokenizer> tokenizer_ = vocabulary("smollm2");
  GrammarCompiler compiler_{*tokenizer_, {.limit = std::chrono::minutes(2)}};
};

TEST_F(GrammarTest, ARegexAllowsOnlyTokensThatContinueIt) {
  GrammarMatcher matcher = start(GrammarKind::regex, "(hello|help) [0-9]{2}");
  for (const int32_t id : allowed(matcher)) {
    const std::string_view bytes = tokenizer_->token_bytes(id);
    EXPECT_TRUE(std::string_view("hello ").starts_with(bytes) ||
                std::string_view("help ").starts_with(bytes))
        << bytes;
  }
  consume(matcher, "help 4");
  EXPECT_FALSE(matcher.is_accepting());
  EXPECT_THAT(allowed(matcher), SizeIs(10));
  consume(matcher, "2");
  EXPECT_TRUE(matcher.is_accepting());
  EXPECT_THAT(allowed(matcher), IsSubsetOf(tokenizer_->end_of_generation_ids()));
}

TEST_F(GrammarTest, ASchemaAcceptsItsObjectAndNothingElse) {
  GrammarMatcher matcher = start(GrammarKind::json_schema,
                                 R"({"type": "object", "required": ["city"],
                                     "properties": {"city": {"enum": ["Köln", "東京"]}},
                                     "additionalProperties": false})");
  GrammarMatcher other = matcher.fork();
  consume(matcher, R"({"city": "東京"})");
  EXPECT_TRUE(matcher.is_accepting());
  EXPECT_THROW(consume(other, R"({"town")"), Error);
}

TEST_F(GrammarTest, AMatcherTakesTextAndTakesTokensBack) {
  GrammarMatcher matcher = start(GrammarKind::regex, "abc [0-9]+ xyz");
  matcher.consume_text("abc 1");
  const auto draft = tokenizer_->encode("23 xq");
  EXPECT_EQ(matcher.count_valid(draft), static_cast<int>(draft.size()) - 1);
  const auto ids = tokenizer_->encode("23 xyz");
  for (const int32_t id : ids) matcher.consume(id);
  EXPECT_TRUE(matcher.is_accepting());
  matcher.rollback(static_cast<int>(ids.size()));
  EXPECT_FALSE(matcher.is_accepting());
  consume(matcher, "4 xyz");
  EXPECT_TRUE(matcher.is_accepting());
}

TEST_F(GrammarTest, ABadGrammarIsTheRequestsFault) {
  for (const std::string_view source : {"(", "a{99999999999}"}) {
    EXPECT_THAT(refusal(GrammarKind::regex, source), HasSubstr("grammar"));
  }
  const std::string schema = R"({"type": "array", "uniqueItems": true})";
  EXPECT_THAT(refusal(GrammarKind::json_schema, schema), HasSubstr("uniqueItems"));
  EXPECT_EQ(refusal(GrammarKind::lenient_json_schema, schema), "");
  EXPECT_THAT(refusal(GrammarKind::regex, std::string(GrammarCompiler::max_source_bytes + 1, 'a')),
              HasSubstr("bytes"));
}

TEST_F(GrammarTest, AGrammarIsCompiledOnceAndForgottenWhenOthersAreUsedMore) {
  GrammarCompiler compiler(*tokenizer_, {.limit = std::chrono::minutes(2), .max_kept = 2});
  const auto first = compiler.compile("", GrammarKind::regex, "a");
  compiler.compile("", GrammarKind::regex, "b");
  EXPECT_EQ(compiler.compile("", GrammarKind::regex, "a"), first);
  compiler.compile("", GrammarKind::regex, "c");  // b goes
  EXPECT_EQ(compiler.compile("", GrammarKind::regex, "a"), first);
  compiler.compile("", GrammarKind::regex, "d");
  compiler.compile("", GrammarKind::regex, "e");
  EXPECT_NE(compiler.compile("", GrammarKind::regex, "a"), first);
}

// States of one grammar in several threads share nothing that one could spoil for another.
TEST_F(GrammarTest, ThreadsFollowOneGrammar) {
  const auto grammar = compiler_.compile("", GrammarKind::json_schema, R"({"type": "object"})");
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      GrammarMatcher matcher = grammar->start();
      consume(matcher, R"({"a": [1, 2, {"b": "c"}]})");
      EXPECT_TRUE(matcher.is_accepting());
    });
  }
}

// Memory without bound, were it not for the budget.
TEST_F(GrammarTest, AHostileGrammarEndsAndOthersGoOn) {
  EXPECT_THAT(refusal(GrammarKind::json_schema, R"({"type": "integer", "multipleOf": 1000003})"),
              HasSubstr("too complex"));
  EXPECT_NE(compiler_.compile("", GrammarKind::regex, "fine"), nullptr);
}

class CheckedGrammarTest : public GrammarTest {
 protected:
  static std::size_t threads() {
    return std::ranges::distance(std::filesystem::directory_iterator("/proc/self/task"));
  }
  std::string checked_refusal(GrammarCompiler& compiler, GrammarKind kind,
                              const std::string& source) {
    try {
      compiler.compile("", kind, source);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return error.what();
    }
    return "";
  }
};

// One more than this program could stand itself.
TEST_F(CheckedGrammarTest, HostileGrammarsCostOthersNothing) {
  GrammarCompiler compiler(*tokenizer_,
                           {.limit = std::chrono::minutes(2), .checker = {RIDGE_GRAMMAR_CHECKER}});
  EXPECT_NE(compiler.compile("", GrammarKind::regex, "fine"), nullptr);
  const std::size_t before = threads();
  for (int i = 0; i < 9; ++i) {
    const std::string schema =
        fmt::format(R"({{"type": "integer", "multipleOf": {}}})", 1000003 + 2 * i);
    EXPECT_THAT(checked_refusal(compiler, GrammarKind::json_schema, schema),
                HasSubstr("too complex: out of memory"));
  }
  EXPECT_EQ(threads(), before);
  EXPECT_NE(compiler.compile("", GrammarKind::regex, "also fine"), nullptr);
}

TEST_F(CheckedGrammarTest, WhatTheProcessRefusesIsSaidInItsWords) {
  GrammarCompiler compiler(*tokenizer_,
                           {.limit = std::chrono::minutes(2), .checker = {RIDGE_GRAMMAR_CHECKER}});
  EXPECT_EQ(checked_refusal(compiler, GrammarKind::regex, "a("), refusal(GrammarKind::regex, "a("));
  const std::string schema = R"({"type": "array", "uniqueItems": true})";
  EXPECT_EQ(checked_refusal(compiler, GrammarKind::json_schema, schema),
            refusal(GrammarKind::json_schema, schema));
}

TEST_F(CheckedGrammarTest, AProcessThatEndsOrNeverAnswersIsReplacedOrRefuses) {
  GrammarCompiler ends(*tokenizer_, {.limit = std::chrono::minutes(2), .checker = {"/bin/true"}});
  EXPECT_THAT(checked_refusal(ends, GrammarKind::regex, "a"), HasSubstr("out of memory"));
  GrammarCompiler silent(*tokenizer_,
                         {.limit = std::chrono::seconds(2), .checker = {"/bin/sleep", "1000"}});
  EXPECT_THAT(checked_refusal(silent, GrammarKind::regex, "a"), HasSubstr("out of time"));
  GrammarCompiler missing(*tokenizer_, {.limit = std::chrono::minutes(2), .checker = {"/nowhere"}});
  EXPECT_NE(missing.compile("", GrammarKind::regex, "a"), nullptr);
}

// Each has a process while it needs one.
TEST_F(CheckedGrammarTest, ManyAtOnceAreCheckedEach) {
  GrammarCompiler compiler(
      *tokenizer_,
      {.limit = std::chrono::minutes(2), .max_running = 4, .checker = {RIDGE_GRAMMAR_CHECKER}});
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      EXPECT_NE(compiler.compile("", GrammarKind::regex, fmt::format("a{{{}}}", i + 1)), nullptr);
    });
  }
}

TEST_F(GrammarTest, FindsWhatIsKeptWithoutAPlaceToCompile) {
  GrammarCompiler compiler(*tokenizer_, {.limit = std::chrono::minutes(2)});
  EXPECT_EQ(compiler.find("", GrammarKind::regex, "kept"), nullptr);
  const auto compiled = compiler.compile("", GrammarKind::regex, "kept");
  EXPECT_EQ(compiler.find("", GrammarKind::regex, "kept"), compiled);
  EXPECT_EQ(compiler.find("", GrammarKind::lark, "kept"), nullptr);
}

// Else the time of an answer would tell whether another sent the same.
TEST_F(GrammarTest, WhatIsKeptForOneGroupNoOtherFinds) {
  GrammarCompiler compiler(*tokenizer_, {.limit = std::chrono::minutes(2), .max_kept = 3});
  const auto compiled = compiler.compile("a", GrammarKind::regex, "kept");
  EXPECT_EQ(compiler.find("b", GrammarKind::regex, "kept"), nullptr);
  EXPECT_EQ(compiler.find("", GrammarKind::regex, "akept"), nullptr);
  EXPECT_EQ(compiler.find("ak", GrammarKind::regex, "ept"), nullptr);
  const auto again = compiler.compile("b", GrammarKind::regex, "kept");
  EXPECT_NE(again, compiled) << "it is compiled for each";
  EXPECT_EQ(compiler.compile("a", GrammarKind::regex, "kept"), compiled);
  EXPECT_EQ(compiler.compile("b", GrammarKind::regex, "kept"), again);
  // What is kept is bounded for all together.
  for (const char* const group : {"c", "d", "e"}) {
    compiler.compile(group, GrammarKind::regex, "kept");
  }
  EXPECT_EQ(compiler.find("a", GrammarKind::regex, "kept"), nullptr);
  EXPECT_EQ(compiler.find("b", GrammarKind::regex, "kept"), nullptr);
}

TEST_F(GrammarTest, NobodyWaitsLongerThanTheLimit) {
  compiler_.compile("", GrammarKind::regex, "first");  // prepares the vocabulary
  GrammarCompiler none(*tokenizer_, {.limit = std::chrono::milliseconds(20), .max_running = 0});
  try {
    none.compile("", GrammarKind::regex, "a");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::queue_full);
  }
}

}  // namespace
}  // namespace ridge::text::grammar_test
