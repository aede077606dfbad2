#include "text/tool_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "text/chat_template.h"
#include "text/tool_calls.h"
#include "text/tool_prompt.h"
#include "vocabularies.h"

namespace ridge::text::tool_grammar_test {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

const std::vector<ToolFunction> functions = {
    {"get.weather-now",
     R"({"type": "object", "properties": {"city": {"$ref": "#/$defs/name"}, "days": {"type":
         "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "days"],
         "additionalProperties": false, "$defs": {"name": {"enum": ["Rom", "Köln"]}}})",
     true},
    {"f", R"({"properties": {"a": {"type": "array", "uniqueItems": true, "maxItems": 2,
                                   "items": {"type": "boolean"}}}, "additionalProperties": false,
              "required": ["a"]})",
     false}};

class ToolGrammar : public testing::TestWithParam<ToolStyle> {
 protected:
  // An answer of random tokens under the grammar.
  std::string random_answer(const GrammarSource& source, unsigned seed, int most_tokens = 400) {
    GrammarMatcher matcher = compiler_.compile(source.kind, source.text)->start();
    std::mt19937 random(seed);
    std::string text;
    for (int n = 0; n < most_tokens; ++n) {
      const std::span<const uint32_t> mask = matcher.mask();
      std::vector<int32_t> allowed;
      for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
        if (mask[static_cast<std::size_t>(id) / 32] >> (id % 32) & 1) allowed.push_back(id);
      }
      if (allowed.empty()) {
        ADD_FAILURE() << "nothing may follow " << text;
        return text;
      }
      const int32_t id = allowed[random() % allowed.size()];
      if (tokenizer_->is_end_of_generation(id)) return text;
      matcher.consume(id);
      text += tokenizer_->token_bytes(id);
    }
    ADD_FAILURE() << "no end: " << text;
    return text;
  }

  static std::vector<std::string> names() { return {functions[0].name, functions[1].name}; }

  AnswerPieces parse(const std::string& text) {
    ToolCallParser parser(GetParam(), names());
    AnswerPieces delta = parser.push(text);
    AnswerPieces rest = parser.flush();
    EXPECT_TRUE(rest.calls().empty());
    delta.append(std::move(rest));
    EXPECT_EQ(parser.begun(), parser.ended()) << text;
    return delta;
  }

  static void check(const ToolCallPiece& call) {
    const auto arguments = ordered_json::parse(call.arguments);
    if (call.name == functions[0].name) {
      EXPECT_TRUE(arguments.at("city") == "Rom" || arguments.at("city") == "Köln");
      EXPECT_GE(arguments.at("days").get<int>(), 1);
      EXPECT_LE(arguments.at("days").get<int>(), 9);
    } else {
      EXPECT_EQ(call.name, "f");
      EXPECT_LE(arguments.at("a").size(), 2u);
    }
  }

  std::shared_ptr<const Tokenizer> tokenizer_ = vocabulary("smollm2");
  GrammarCompiler compiler_{*tokenizer_, {.limit = std::chrono::minutes(2)}};
};

INSTANTIATE_TEST_SUITE_P(Styles, ToolGrammar,
                         testing::Values(ToolStyle::hermes, ToolStyle::llama3, ToolStyle::deepseek),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(ToolGrammar, EveryAnswerIsCallsThatParse) {
  const GrammarSource source =
      whole_answer(GetParam(), *tokenizer_, functions, /*several=*/true, nullptr);
  int several = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    const std::string text = random_answer(source, seed, 4000);
    const AnswerPieces delta = parse(text);
    EXPECT_EQ(delta.content(), "") << text;
    ASSERT_FALSE(delta.calls().empty()) << text;
    if (delta.calls().size() > 1) ++several;
    for (const ToolCallPiece& call : delta.calls()) check(call);
  }
  EXPECT_GT(several, 0);
}

TEST_P(ToolGrammar, OneCallWhereNoMoreAreWanted) {
  const GrammarSource source =
      whole_answer(GetParam(), *tokenizer_, functions, /*several=*/false, nullptr);
  for (unsigned seed = 0; seed < 10; ++seed) {
    EXPECT_EQ(parse(random_answer(source, seed)).calls().size(), 1u);
  }
}

TEST_P(ToolGrammar, CallsOrAnAnswerInItsForm) {
  for (const GrammarSource& form :
       {GrammarSource{GrammarKind::json_schema, R"({"enum": ["yes", "no"]})"},
        GrammarSource{GrammarKind::regex, "\"(yes|no)\""},
        GrammarSource{GrammarKind::lark, "start: \"\\\"yes\\\"\" | NO\nNO: \"\\\"no\\\"\""}}) {
    const GrammarSource source =
        whole_answer(GetParam(), *tokenizer_, functions, /*several=*/false, &form);
    int answers = 0;
    for (unsigned seed = 0; seed < 20; ++seed) {
      const AnswerPieces delta = parse(random_answer(source, seed));
      if (!delta.calls().empty()) continue;
      EXPECT_TRUE(delta.content() == "\"yes\"" || delta.content() == "\"no\"") << delta.content();
      ++answers;
    }
    EXPECT_GT(answers, 0);
    EXPECT_LT(answers, 20);
  }
}

TEST_P(ToolGrammar, ACallThatHasBegunIsCompleted) {
  const GrammarSource source = one_call(GetParam(), *tokenizer_, functions);
  GrammarMatcher matcher = compiler_.compile(source.kind, source.text)->start();
  matcher.consume_text(tags_of(GetParam()).separator.empty() && GetParam() != ToolStyle::hermes
                           ? "{ \"name\":\"f\", \"parameters\": {"
                           : tags_of(GetParam()).call_open);
  EXPECT_FALSE(matcher.is_accepting());
}

// What we tell a model to write is what we read.
TEST_P(ToolGrammar, WrittenCallsAreRead) {
  const ordered_json calls = {{{"function", {{"name", "f"}, {"arguments", "{\"a\": [true]}"}}}},
                              {{"function", {{"name", "f"}, {"arguments", "{}"}}}}};
  const AnswerPieces delta = parse(write_calls(GetParam(), calls));
  ASSERT_EQ(delta.calls().size(), 2u);
  EXPECT_EQ(delta.calls()[0].arguments, "{\"a\": [true]}");
  EXPECT_EQ(delta.content(), "");
  const ordered_json tools = {{{"type", "function"}, {"function", {{"name", "f"}}}}};
  EXPECT_THAT(describe_tools(GetParam(), tools), HasSubstr("{\"name\":\"f\"}"));
}

TEST(ToolSupport, IsFoundByRendering) {
  const auto support = [](std::string_view source) {
    return ChatTemplate::from_source(source, "", "")->tool_support();
  };
  const ToolSupport none = support(ChatTemplate::chatml_source());
  EXPECT_FALSE(none.tools);
  EXPECT_FALSE(none.calls);
  const ToolSupport objects = support(
      "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{% if m.tool_calls %}"
      "{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
      "{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}");
  EXPECT_TRUE(objects.tools && objects.calls && objects.results && objects.argument_objects);
  const ToolSupport strings = support(
      "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0]['function']['name'] + '\\n' "
      "+ "
      "m.tool_calls[0]['function']['arguments'] }}{% elif m.role == 'user' %}{{ m.content }}"
      "{% endif %}{% endfor %}");
  EXPECT_TRUE(strings.calls);
  EXPECT_FALSE(strings.argument_objects || strings.tools || strings.results);
}

}  // namespace
}  // namespace ridge::text::tool_grammar_test
