#include "text/tool_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "base/error.h"
#include "text/chat_template.h"
#include "text/parameter_schema.h"
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
    GrammarMatcher matcher = compiler_.compile("", source.kind, source.text)->start();
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

  static std::vector<CallableTool> tools() {
    return {callable_tool(functions[0].name, functions[0].parameters),
            callable_tool(functions[1].name, functions[1].parameters)};
  }

  AnswerPieces parse(const std::string& text) {
    ToolCallParser parser(GetParam(), tools());
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
                         testing::Values(ToolStyle::hermes, ToolStyle::llama3, ToolStyle::deepseek,
                                         ToolStyle::qwen3_coder),
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
  GrammarMatcher matcher = compiler_.compile("", source.kind, source.text)->start();
  matcher.consume_text(GetParam() == ToolStyle::llama3 ? "{ \"name\":\"f\", \"parameters\": {"
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

// Values without quotes are read as what their schema allows.
class XmlToolGrammar : public ToolGrammar {
 protected:
  std::vector<ordered_json> random_arguments(const ToolFunction& function, int count,
                                             int most_tokens = 4000) {
    const GrammarSource source = whole_answer(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1},
                                              /*several=*/false, nullptr);
    std::vector<ordered_json> all;
    for (unsigned seed = 0; seed < static_cast<unsigned>(count); ++seed) {
      const std::string text = random_answer(source, seed, most_tokens);
      ToolCallParser parser(ToolStyle::qwen3_coder,
                            {callable_tool(function.name, function.parameters)});
      AnswerPieces pieces = parser.push(text);
      pieces.append(parser.flush());
      EXPECT_EQ(pieces.content(), "") << text;
      EXPECT_EQ(parser.ended(), 1) << text;
      std::string arguments;
      for (const ToolCallPiece& piece : pieces.calls()) arguments += piece.arguments;
      all.push_back(ordered_json::parse(arguments, nullptr, /*allow_exceptions=*/false));
      EXPECT_TRUE(all.back().is_object()) << text;
    }
    return all;
  }

  std::string refusal(const std::string& parameters) {
    const ToolFunction function{"f", parameters, /*strict=*/true};
    try {
      one_call(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return std::string(error.message());
    }
    ADD_FAILURE() << "taken: " << parameters;
    return {};
  }
};

INSTANTIATE_TEST_SUITE_P(Style, XmlToolGrammar, testing::Values(ToolStyle::qwen3_coder));

TEST_P(XmlToolGrammar, HoldsValuesToTheirTypes) {
  const ToolFunction function{"f",
                              R"({"type": "object", "additionalProperties": false,
          "required": ["short", "maybe", "kind", "id", "n", "o"],
          "properties": {
            "short": {"type": "string", "minLength": 2, "maxLength": 4},
            "maybe": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
            "kind": {"enum": ["a", "b c", 3, null]},
            "id": {"type": ["integer", "string"], "maxLength": 3},
            "n": {"type": "integer", "minimum": 3, "maximum": 5},
            "on": {"$ref": "#/$defs/flag"},
            "o": {"type": "object", "properties": {"a": {"$ref": "#/$defs/flag"}},
                  "required": ["a"], "additionalProperties": false}},
          "$defs": {"flag": {"type": "boolean"}}})",
                              true};
  for (const ordered_json& one : random_arguments(function, 40)) {
    const auto length = [](const ordered_json& value) {
      const auto& bytes = value.get_ref<const std::string&>();
      return std::ranges::count_if(bytes, [](char byte) { return (byte & 0xC0) != 0x80; });
    };
    EXPECT_GE(length(one.at("short")), 2);
    EXPECT_LE(length(one.at("short")), 4);
    EXPECT_TRUE(one.at("maybe").is_null() || length(one.at("maybe")) <= 5) << one;
    EXPECT_TRUE(one.at("kind") == "a" || one.at("kind") == "b c" || one.at("kind") == 3 ||
                one.at("kind").is_null())
        << one;
    EXPECT_TRUE(one.at("id").is_number_integer() || length(one.at("id")) <= 3) << one;
    EXPECT_GE(one.at("n").get<int>(), 3);
    EXPECT_LE(one.at("n").get<int>(), 5);
    EXPECT_TRUE(one.at("o").at("a").is_boolean()) << one;
    EXPECT_TRUE(one.value("on", ordered_json(true)).is_boolean()) << one;
  }
  // What noise hardly ever writes.
  const GrammarSource source = one_call(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1});
  GrammarMatcher matcher = compiler_.compile("", source.kind, source.text)->start();
  const auto parameter = [](const std::string& key, const std::string& value) {
    return "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
  };
  matcher.consume_text("<function=f>\n" + parameter("short", "null") + parameter("maybe", "null") +
                       parameter("kind", "3") + parameter("id", "12") + parameter("n", "4") +
                       parameter("on", "true") + parameter("o", "{\"a\": false}") + "</function>");
  EXPECT_TRUE(matcher.is_accepting());
}

TEST_P(XmlToolGrammar, LeavesOpenWhatTheSchemaDoes) {
  GrammarMatcher matcher = [&] {
    const ToolFunction function{"f", "{}", false};
    const GrammarSource source = one_call(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1});
    return compiler_.compile("", source.kind, source.text)->start();
  }();
  matcher.consume_text("<function=f><parameter=any key>\n12 \"</b>\n\n</parameter>\n</function>");
  EXPECT_TRUE(matcher.is_accepting());
}

// Whatever length the string may have.
TEST_P(XmlToolGrammar, TakesOtherValuesBesideStrings) {
  const auto is_taken = [&](const std::string& schema, const std::string& value) {
    const ToolFunction function{"f", R"({"properties": {"a": )" + schema + "}}", /*strict=*/true};
    const GrammarSource source = one_call(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1});
    GrammarMatcher matcher = compiler_.compile("", source.kind, source.text)->start();
    try {
      matcher.consume_text("<function=f>\n<parameter=a>\n" + value + "\n</parameter>\n</function>");
    } catch (const Error&) {
      return false;
    }
    return matcher.is_accepting();
  };
  for (const std::string length : {"", R"(, "maxLength": 16)", R"(, "maxLength": 200)"}) {
    const std::string string = R"({"type": "string")" + length + "}";
    const std::string nullable = R"({"anyOf": [)" + string + R"(, {"type": "null"}]})";
    const std::string flag = R"({"type": ["string", "boolean"])" + length + "}";
    const std::string number = R"({"type": ["string", "integer"])" + length + "}";
    for (const auto& [schema, value] : {std::pair(string, "null"),
                                        {nullable, "null"},
                                        {nullable, "nullable"},
                                        {nullable, "null\nx"},
                                        {flag, "true"},
                                        {flag, "false"},
                                        {flag, "true love"},
                                        {number, "12"},
                                        {number, "no 12"}}) {
      EXPECT_TRUE(is_taken(schema, value)) << schema << ": " << value;
    }
    EXPECT_FALSE(is_taken(number, "12 x"));
    EXPECT_FALSE(is_taken(string, "a</function>"));
  }
  const std::string long_or_null = R"({"type": ["string", "null"], "minLength": 10})";
  EXPECT_TRUE(is_taken(long_or_null, "null"));
  EXPECT_FALSE(is_taken(long_or_null, "nul"));
  const std::string text_or_true = R"({"anyOf": [{"type": "string"}, {"const": true}]})";
  EXPECT_FALSE(is_taken(text_or_true, "false"));
  const std::string longest = R"({"type": "string", "maxLength": 1000})";
  EXPECT_TRUE(is_taken(longest, std::string(1000, 'x')));
  EXPECT_FALSE(is_taken(longest, std::string(1001, 'x')));
}

TEST_P(XmlToolGrammar, TakesAnnotationsWhereverTheyStand) {
  const std::string annotations = R"("title": "t", "description": "d", "default": "x",
      "examples": ["x"], "deprecated": true, "readOnly": true, "writeOnly": false, "$comment": "c")";
  const std::string schema = "{" + annotations + R"(, "additionalProperties": false, "properties": {
      "word": {"type": "string", "maxLength": 3, )" +
                             annotations + R"(},
      "kind": {"enum": ["x", "y"], )" +
                             annotations + R"(},
      "maybe": {"anyOf": [{"type": "string", )" +
                             annotations + R"(}, {"type": "null"}], )" + annotations + R"(},
      "flag": {"$ref": "#/$defs/flag", )" +
                             annotations + R"(},
      "count": {"type": "integer", )" +
                             annotations + R"(},
      "any": {)" + annotations +
                             R"(}}, "$defs": {"flag": {"type": "boolean"}}})";
  const ToolFunction function{"f", schema, /*strict=*/true};
  const GrammarSource source = one_call(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1});
  GrammarMatcher matcher = compiler_.compile("", source.kind, source.text)->start();
  const auto parameter = [](const std::string& key, const std::string& value) {
    return "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
  };
  matcher.consume_text("<function=f>\n" + parameter("word", "abc") + parameter("kind", "y") +
                       parameter("maybe", "null") + parameter("flag", "true") +
                       parameter("count", "3") + parameter("any", "anything") + "</function>");
  EXPECT_TRUE(matcher.is_accepting());
}

TEST_P(XmlToolGrammar, RefusesWhatItCannotHoldAndNamesIt) {
  EXPECT_THAT(refusal(R"({"properties": {"a": {"type": "string", "pattern": "x"}}})"),
              HasSubstr("'pattern' of \"a\" cannot be enforced"));
  EXPECT_THAT(refusal(R"({"properties": {"a": {"type": "string"}}, "minProperties": 1})"),
              HasSubstr("'minProperties' of its parameters"));
  EXPECT_THAT(refusal(R"({"properties": {"a": {"type": "string", "maxLength": 100000}}})"),
              HasSubstr("'maxLength' of \"a\" is above 1000"));
  EXPECT_THAT(refusal(R"({"properties": {"a<b": {}}})"), HasSubstr("cannot stand in a tag"));
  EXPECT_THAT(refusal(R"({"properties": {"a": {"enum": ["</parameter>\n</function>"]}}})"),
              HasSubstr("would not be read as this string"));
  EXPECT_THAT(refusal(R"({"properties": {"a": {"enum": ["3", 3]}}})"),
              HasSubstr("would not be read as this string"));
  EXPECT_THAT(refusal(R"({"required": ["b"], "additionalProperties": false})"),
              HasSubstr("\"b\" is required, but is none"));
  // Of functions that are not strict it is ignored.
  const ToolFunction lenient{
      "f", R"({"properties": {"a": {"type": "string", "pattern": "x"}}, "required": ["a"]})",
      false};
  const GrammarSource source = one_call(ToolStyle::qwen3_coder, *tokenizer_, {&lenient, 1});
  GrammarMatcher matcher = compiler_.compile("", source.kind, source.text)->start();
  matcher.consume_text("<function=f>\n<parameter=a>\ny\n</parameter>\n</function>");
  EXPECT_TRUE(matcher.is_accepting());
}

// References that multiply must not take their time: each level asks twice for the next.
TEST(CallableTool, BoundsWhatItLooksAt) {
  ordered_json schema = {{"properties", {{"a", {{"anyOf", {{{"$ref", "#/$defs/0"}}}}}}}}};
  for (int i = 0; i < 40; ++i) {
    const ordered_json next = {{"$ref", "#/$defs/" + std::to_string((i + 1) % 40)}};
    schema["$defs"][std::to_string(i)] = {{"anyOf", {next, next, next, next}}};
  }
  for (int i = 0; i < 1000; ++i) {
    schema["properties"]["p" + std::to_string(i)] = {{"$ref", "#/$defs/0"}};
  }
  const CallableTool tool = callable_tool("f", schema.dump());
  EXPECT_EQ(tool.types_of("a"), any_value);
  EXPECT_EQ(tool.parameters.size(), 1001u);
}

// What a property refers to comes with each that refers to it: the bound counts before that is
// made.
TEST_P(XmlToolGrammar, BoundsWhatReferencesMakeOfASchema) {
  ordered_json schema = {{"properties", ordered_json::object()}};
  schema["$defs"]["a"] = {{"type", "boolean"}};
  for (int i = 0; i < 3000; ++i) {
    schema["properties"]["p" + std::to_string(i)] = {{"$ref", "#/$defs/a"}};
  }
  for (const bool is_strict : {false, true}) {
    const ToolFunction function{"f", schema.dump(), is_strict};
    try {
      one_call(ToolStyle::qwen3_coder, *tokenizer_, {&function, 1});
      FAIL() << "it is no grammar that can be compiled";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_THAT(error.message(), HasSubstr("more than a grammar may have"));
    }
  }
}

// The turns that transformers renders of earlier calls are read as those calls.
TEST(ToolCallParser, ReadsWhatTheTemplateOfQwen3CoderWrites) {
  const ordered_json chats = golden("chats");
  int calls = 0;
  for (const ordered_json& chat : chats["cases"]) {
    if (chat["template"] != "calls as Qwen3-Coder's" || !chat.contains("tools")) continue;
    const auto tool = chat["tools"][0]["function"];
    const auto source = chats["sources"][chat["template"].get<std::string>()].get<std::string>();
    const auto chat_template = ChatTemplate::from_source(source, "", "");
    EXPECT_EQ(detect_tool_style(*chat_template), ToolStyle::qwen3_coder);
    const ToolSupport& support = chat_template->tool_support();
    EXPECT_TRUE(support.tools && support.calls && support.results && support.argument_objects);
    const auto prompt = chat["prompt"].get<std::string>();
    for (const ordered_json& message : chat["messages"]) {
      if (!message.contains("tool_calls")) continue;
      const std::string opening = "<|im_start|>assistant\n";
      const std::size_t begin = prompt.find(opening) + opening.size();
      const std::string answer = prompt.substr(begin, prompt.find("<|im_end|>", begin) - begin);
      ToolCallParser parser(ToolStyle::qwen3_coder, {callable_tool(tool["name"].get<std::string>(),
                                                                   tool["parameters"].dump())});
      AnswerPieces pieces = parser.push(answer);
      pieces.append(parser.flush());
      EXPECT_EQ(pieces.content(), message["content"]);
      std::vector<std::string> arguments;
      for (const ToolCallPiece& piece : pieces.calls()) {
        if (piece.begins) arguments.emplace_back();
        arguments.back() += piece.arguments;
      }
      ASSERT_EQ(arguments.size(), message["tool_calls"].size());
      for (std::size_t i = 0; i < arguments.size(); ++i, ++calls) {
        EXPECT_EQ(ordered_json::parse(arguments[i]),
                  message["tool_calls"][i]["function"]["arguments"]);
      }
    }
  }
  EXPECT_EQ(calls, 4);
}

TEST(ToolStyle, IsSeenInTheTemplate) {
  const auto style = [](std::string_view source) {
    return name(detect_tool_style(*ChatTemplate::from_source(source, "", "")));
  };
  EXPECT_EQ(style("<tool_call>{{ x }}"), "hermes");
  EXPECT_EQ(style("<tool_call>\n<function={{ x }}>\n<parameter={{ y }}>"), "qwen3_coder");
  EXPECT_EQ(style("<|python_tag|>"), "llama3");
  EXPECT_EQ(style("<｜Assistant｜>"), "deepseek");
  EXPECT_EQ(tool_style_named("qwen3_coder"), ToolStyle::qwen3_coder);
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
