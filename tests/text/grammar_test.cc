// The grammar part of rust/textkit through its C interface, on a real vocabulary.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/textkit_call.h"
#include "vocabularies.h"

namespace ridge::text {
namespace {

using testing::HasSubstr;
using Environment = std::unique_ptr<tk_grammar_environment, decltype(&tk_grammar_environment_free)>;
using Matcher = std::unique_ptr<tk_matcher, decltype(&tk_matcher_free)>;

class Grammar : public testing::Test {
 protected:
  Matcher compile(tk_grammar_kind kind, std::string_view source) {
    tk_matcher* matcher = nullptr;
    TextkitBuffer error;
    check_textkit(tk_matcher_new(environment_.get(), kind, to_slice(source), &matcher, error.out()),
                  error);
    return Matcher(matcher, tk_matcher_free);
  }

  std::vector<int32_t> allowed(tk_matcher* matcher) {
    std::vector<uint32_t> words((tokenizer_->vocab_size() + 31) / 32);
    TextkitBuffer error;
    check_textkit(tk_matcher_mask(matcher, words.data(), words.size(), error.out()), error);
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
      if (words[id / 32] >> (id % 32) & 1) ids.push_back(id);
    }
    return ids;
  }

  void consume(tk_matcher* matcher, std::string_view text) {
    for (const int32_t id : tokenizer_->encode(text)) {
      TextkitBuffer error;
      check_textkit(tk_matcher_consume(matcher, id, error.out()), error);
    }
  }

  bool is_accepting(tk_matcher* matcher) {
    bool accepting = false;
    TextkitBuffer error;
    check_textkit(tk_matcher_is_accepting(matcher, &accepting, error.out()), error);
    return accepting;
  }

  Environment make_environment() {
    tk_grammar_environment* environment = nullptr;
    const auto ends = tokenizer_->end_of_generation_ids();
    TextkitBuffer error;
    check_textkit(tk_grammar_environment_new(tokenizer_->handle(), ends.data(), ends.size(),
                                             &environment, error.out()),
                  error);
    return Environment(environment, tk_grammar_environment_free);
  }

  std::shared_ptr<const Tokenizer> tokenizer_ = vocabulary("smollm2");
  Environment environment_ = make_environment();
};

TEST_F(Grammar, ARegexAllowsOnlyTokensThatContinueIt) {
  const Matcher matcher = compile(TK_GRAMMAR_REGEX, "(hello|help) [0-9]{2}");
  for (const int32_t id : allowed(matcher.get())) {
    const std::string_view bytes = tokenizer_->token_bytes(id);
    EXPECT_TRUE(std::string_view("hello ").starts_with(bytes) ||
                std::string_view("help ").starts_with(bytes))
        << bytes;
  }
  consume(matcher.get(), "help 4");
  EXPECT_FALSE(is_accepting(matcher.get()));
  EXPECT_THAT(allowed(matcher.get()), testing::SizeIs(10));
  consume(matcher.get(), "2");
  EXPECT_TRUE(is_accepting(matcher.get()));
  EXPECT_THAT(allowed(matcher.get()), testing::IsSubsetOf(tokenizer_->end_of_generation_ids()));
}

TEST_F(Grammar, ASchemaAcceptsItsObjectAndNothingElse) {
  const Matcher matcher = compile(TK_GRAMMAR_JSON_SCHEMA,
                                  R"({"type": "object", "required": ["city"],
                                      "properties": {"city": {"enum": ["Köln", "東京"]}},
                                      "additionalProperties": false})");
  tk_matcher* fork = nullptr;
  TextkitBuffer error;
  check_textkit(tk_matcher_fork(matcher.get(), &fork, error.out()), error);
  const Matcher other(fork, tk_matcher_free);
  consume(matcher.get(), R"({"city": "東京"})");
  EXPECT_TRUE(is_accepting(matcher.get()));
  EXPECT_THROW(consume(other.get(), R"({"town")"), Error);
}

TEST_F(Grammar, ABadGrammarIsTheRequestsFault) {
  for (const std::string_view source : {"(", "a{99999999999}"}) {
    try {
      compile(TK_GRAMMAR_REGEX, source);
      FAIL() << source;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_THAT(std::string(error.message()), HasSubstr("grammar"));
    }
  }
}

}  // namespace
}  // namespace ridge::text
