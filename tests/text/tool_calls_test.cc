#include "text/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::text::tool_calls_test {
namespace {

struct Call {
  std::string name;
  std::string arguments;
  bool operator==(const Call&) const = default;
};

struct Parsed {
  std::string content;
  std::vector<Call> calls;
  std::string order;  // "a" for each run of content, "c" for each call
  bool operator==(const Parsed&) const = default;
};

void PrintTo(const Parsed& parsed, std::ostream* out) {
  *out << "content \"" << parsed.content << "\"";
  for (const Call& call : parsed.calls) *out << ", call " << call.name << call.arguments;
}

const std::vector<CallableTool> tools = {
    callable_tool("get_weather", R"({"properties": {"city": {"type": "string"}}})"),
    callable_tool("get_time", "{}"),
    callable_tool("f", R"({"properties": {
      "text": {"type": "string"}, "n": {"type": "integer"}, "x": {"type": ["number", "null"]},
      "on": {"$ref": "#/$defs/flag"}, "list": {"type": "array"}, "o": {"type": "object"},
      "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
      "kind": {"enum": ["1", "two"]}, "id": {"oneOf": [{"type": "integer"}, {"type": "string"}]}},
      "$defs": {"flag": {"type": "boolean"}}})")};

void add(Parsed& parsed, const AnswerPieces& pieces) {
  for (const AnswerPiece& next : pieces) {
    if (const auto* content = std::get_if<std::string>(&next)) {
      parsed.content += *content;
      if (!parsed.order.ends_with('a')) parsed.order += 'a';
      continue;
    }
    const auto& piece = std::get<ToolCallPiece>(next);
    EXPECT_EQ(piece.begins, piece.index == static_cast<int>(parsed.calls.size()));
    if (piece.begins) {
      parsed.calls.push_back({piece.name, ""});
      parsed.order += 'c';
    }
    EXPECT_TRUE(parsed.order.ends_with('c')) << "content inside of a call";
    EXPECT_EQ(piece.index + 1, static_cast<int>(parsed.calls.size())) << "calls mix";
    parsed.calls.back().arguments += piece.arguments;
  }
}

Parsed parse(ToolStyle style, const std::vector<std::string_view>& pieces) {
  ToolCallParser parser(style, tools);
  Parsed parsed;
  for (const std::string_view piece : pieces) add(parsed, parser.push(piece));
  add(parsed, parser.flush());
  EXPECT_EQ(parser.begun(), static_cast<int>(parsed.calls.size()));
  return parsed;
}

// At each split point in two, and byte by byte, the result is that of the whole text.
Parsed parse_in_all_ways(ToolStyle style, std::string_view text) {
  const Parsed whole = parse(style, {text});
  for (std::size_t at = 1; at < text.size(); ++at) {
    EXPECT_EQ(parse(style, {text.substr(0, at), text.substr(at)}), whole) << "split at " << at;
  }
  std::vector<std::string_view> bytes;
  for (std::size_t at = 0; at < text.size(); ++at) bytes.push_back(text.substr(at, 1));
  EXPECT_EQ(parse(style, bytes), whole) << "byte by byte";
  return whole;
}

struct Case {
  ToolStyle style;
  std::string text;
  Parsed expected;
};

void PrintTo(const Case& given, std::ostream* out) { *out << name(given.style) << given.text; }

class ToolCalls : public testing::TestWithParam<Case> {};

TEST_P(ToolCalls, AreFoundHoweverTheTextIsCut) {
  const Parsed parsed = parse_in_all_ways(GetParam().style, GetParam().text);
  EXPECT_EQ(parsed.content, GetParam().expected.content);
  EXPECT_EQ(parsed.calls, GetParam().expected.calls);
}

constexpr auto hermes = ToolStyle::hermes;
constexpr auto llama3 = ToolStyle::llama3;
constexpr auto deepseek = ToolStyle::deepseek;
constexpr auto qwen = ToolStyle::qwen3_coder;

INSTANTIATE_TEST_SUITE_P(
    Hermes, ToolCalls,
    testing::Values(
        Case{hermes,
             "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": "
             "\"Köln\"}}\n</tool_call>",
             {"", {{"get_weather", "{\"city\": \"Köln\"}"}}}},
        Case{hermes,
             "I look.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n"
             "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"a\": [1, "
             "{}]}}\n</tool_call>\n",
             {"I look.", {{"f", "{}"}, {"get_time", "{\"a\": [1, {}]}"}}}},
        // Brackets, quotes and the closing tag inside strings.
        Case{hermes,
             R"(<tool_call>{"name":"f","arguments":{"a":"}\"]</tool_call>{"}}</tool_call> done)",
             {" done", {{"f", R"({"a":"}\"]</tool_call>{"})"}}}},
        // Arguments first, as a string, or none.
        Case{hermes,
             R"(<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>)",
             {"", {{"f", R"({"a":1})"}}}},
        Case{hermes,
             R"(<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>)",
             {"", {{"f", R"({"a": 1})"}}}},
        Case{hermes, R"(<tool_call>{"name": "f"}</tool_call>)", {"", {{"f", "{}"}}}},
        // More members, a missing brace, one too many, a missing tag.
        Case{hermes,
             R"(<tool_call>{"name": "f", "arguments": {}, "id": "x"}</tool_call>)",
             {"", {{"f", "{}"}}}},
        Case{hermes,
             "<tool_call>{\"name\": \"f\", \"arguments\": {}\n</tool_call>a",
             {"a", {{"f", "{}"}}}},
        Case{hermes,
             "<tool_call>{\"name\": \"f\", \"arguments\": {}}}</tool_call>",
             {"", {{"f", "{}"}}}},
        Case{hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {}}", {"", {{"f", "{}"}}}},
        // No tags at all, as small models write it.
        Case{hermes,
             "\n{\"name\": \"f\", \"arguments\": {\"a\": 2}}",
             {"", {{"f", "{\"a\": 2}"}}}}));

INSTANTIATE_TEST_SUITE_P(
    NoCall, ToolCalls,
    testing::Values(
        Case{hermes, "Hello.\n", {"Hello.\n", {}}}, Case{hermes, " \n", {" \n", {}}},
        Case{hermes,
             "a < b, <tool, </tool_call> <tool_cal",
             {"a < b, <tool, </tool_call> <tool_cal", {}}},
        Case{hermes, "<tool_call>", {"<tool_call>", {}}},
        Case{hermes,
             " <tool_call>nonsense</tool_call> x",
             {" <tool_call>nonsense</tool_call> x", {}}},
        Case{hermes,
             R"(<tool_call>{"name": "unknown", "arguments": {}}</tool_call>)",
             {R"(<tool_call>{"name": "unknown", "arguments": {}}</tool_call>)", {}}},
        Case{hermes,
             R"(<tool_call>{"name": "f", "arguments": [1]}</tool_call>)",
             {R"(<tool_call>{"name": "f", "arguments": [1]}</tool_call>)", {}}},
        Case{hermes,
             R"(<tool_call>{"arguments": {"a": 1}, "name": "g"}</tool_call>)",
             {R"(<tool_call>{"arguments": {"a": 1}, "name": "g"}</tool_call>)", {}}},
        Case{hermes,
             R"(<tool_call>{"arguments": {"a": 1}, )",
             {R"(<tool_call>{"arguments": {"a": 1}, )", {}}},
        Case{hermes, R"({"name": "Ada", "age": 36})", {R"({"name": "Ada", "age": 36})", {}}},
        Case{hermes, R"({"answer": 42})", {R"({"answer": 42})", {}}},
        Case{hermes,
             "text {\"name\": \"f\", \"arguments\": {}}",
             {"text {\"name\": \"f\", \"arguments\": {}}", {}}},
        // A call behind something that is none.
        Case{hermes,
             "<tool_call><tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
             {"<tool_call>", {{"f", "{}"}}}},
        Case{llama3, "<|python_tag|>print(1)", {"<|python_tag|>print(1)", {}}},
        Case{deepseek, "<｜tool▁calls▁begin｜> no", {"<｜tool▁calls▁begin｜> no", {}}},
        Case{deepseek,
             "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n{}",
             {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n{}", {}}}));

// What cannot be parsed once a call was announced is its arguments: nothing is lost.
INSTANTIATE_TEST_SUITE_P(
    Broken, ToolCalls,
    testing::Values(
        Case{hermes,
             "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [}} oops\n</tool_call>b",
             {"b", {{"f", "{\"a\": [}} oops\n"}}}},
        Case{hermes,
             "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1\n</tool_call>b",
             {"b", {{"f", "{\"a\": 1\n"}}}},
        Case{hermes,
             "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"tru",
             {"", {{"f", "{\"a\": \"tru"}}}},
        Case{hermes,
             "<tool_call>{\"name\": \"f\", \"arguments\": {}} more text</tool_call>",
             {" more text</tool_call>", {{"f", "{}"}}}},
        Case{llama3, "{\"name\": \"f\", \"parameters\": {]} rest", {"", {{"f", "{]} rest"}}}}));

INSTANTIATE_TEST_SUITE_P(
    Llama3, ToolCalls,
    testing::Values(
        Case{llama3,
             R"({"name": "get_time", "parameters": {"zone": "CET"}})",
             {"", {{"get_time", R"({"zone": "CET"})"}}}},
        Case{llama3, R"({"type": "function", "name": "f", "parameters": {}})", {"", {{"f", "{}"}}}},
        Case{
            llama3,
            R"(<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "get_time", "parameters": {}})",
            {"", {{"f", R"({"a": 1})"}, {"get_time", "{}"}}}},
        Case{llama3,
             R"({"name": "f", "parameters": {}}; and {"b": 1})",
             {"; and {\"b\": 1}", {{"f", "{}"}}}}));

INSTANTIATE_TEST_SUITE_P(
    DeepSeek, ToolCalls,
    testing::Values(
        Case{deepseek,
             "Let me "
             "see.\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
             "```json\n{\"city\": \"Rom\"}\n```<｜tool▁call▁end｜>\n"
             "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜>"
             "<｜tool▁calls▁end｜>",
             {"Let me see.", {{"get_weather", "{\"city\": \"Rom\"}"}, {"f", "{}"}}}},
        // As V3.1 writes it, and without the outer tags.
        Case{deepseek,
             "<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜>",
             {"", {{"get_time", "{\"a\": 1}"}}}},
        Case{deepseek,
             "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\":",
             {"", {{"f", "{\"a\":"}}}}));

// Whole calls of f with these parameters, as the template writes them.
std::string written(std::string_view parameters) {
  return "<tool_call>\n<function=f>\n" + std::string(parameters) + "</function>\n</tool_call>";
}

std::string parameter(std::string_view key, std::string_view value) {
  return "<parameter=" + std::string(key) + ">\n" + std::string(value) + "\n</parameter>\n";
}

INSTANTIATE_TEST_SUITE_P(
    Qwen3Coder, ToolCalls,
    testing::Values(
        Case{qwen,
             "I look.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n"
             "</function>\n</tool_call>\n" +
                 written("") + "\n",
             {"I look.", {{"get_weather", R"({"city": "Köln"})"}, {"f", "{}"}}}},
        // Strings as they are, with their own quotes, line breaks and tags.
        Case{qwen,
             written(parameter("text", "")),
             {"", {{"f", R"({"text": ""})"}}}},
        Case{qwen,
             written(parameter("text", " \n\"a\\\t\x01\n\n")),
             {"", {{"f", R"({"text": " \n\"a\\\t\u0001\n\n"})"}}}},
        Case{qwen,
             written(parameter("text", "12") + parameter("maybe", "None") +
                     parameter("kind", "1") + parameter("id", "x1")),
             {"", {{"f", R"({"text": "12", "maybe": null, "kind": "1", "id": "x1"})"}}}},
        Case{qwen,
             written(parameter("text", "</parameter> and <parameter=n>\n</function> <b>")),
             {"", {{"f", R"({"text": "</parameter> and <parameter=n>\n</function> <b>"})"}}}},
        // Others as JSON, or as Python and so the template writes them.
        Case{qwen,
             written(parameter("n", "-5") + parameter("x", "1e3") + parameter("on", "True") +
                     parameter("list", "[1, {\"a\": \"<\"}]") + parameter("o", "{\"a\": null}")),
             {"",
              {{"f",
                R"({"n": -5, "x": 1e3, "on": true, "list": [1, {"a": "<"}], "o": {"a": null}})"}}}},
        Case{qwen,
             written(parameter("on", " false ") + parameter("x", "None") + parameter("id", "7")),
             {"", {{"f", R"({"on": false, "x": null, "id": 7})"}}}},
        // What is not of its type stays what it says.
        Case{qwen,
             written(parameter("n", "five") + parameter("list", "{'a': 1}") + parameter("o", "[1]")),
             {"", {{"f", R"({"n": "five", "list": "{'a': 1}", "o": [1]})"}}}},
        // A parameter that nobody knows, and tools without a schema.
        Case{qwen,
             "<tool_call><function=get_time><parameter=at \"me\">3</parameter><parameter=b>a"
             "</parameter></function></tool_call>",
             {"", {{"get_time", R"({"at \"me\"": 3, "b": "a"})"}}}},
        // Without line breaks, without the outer tag, without an end.
        Case{qwen,
             "So: <function=f><parameter=text>a b</parameter></function></tool_call> end",
             {"So: end", {{"f", R"({"text": "a b"})"}}}},
        Case{qwen,
             "<tool_call>\n<function=f>\n<parameter=text>\nabc",
             {"", {{"f", R"({"text": "abc)"}}}},
        Case{qwen,
             "<function=f>\n<parameter=text>\nabc\n</function>\n</tool_call>",
             {"", {{"f", R"({"text": "abc"})"}}}},
        Case{qwen,
             "<tool_call>\n<function=f>\n<parameter=n>\n12",
             {"", {{"f", R"({"n": 12)"}}}},
        Case{qwen,
             "<tool_call>\n<function=f>\n<parameter=n>\n12\n</parameter>\n",
             {"", {{"f", R"({"n": 12})"}}}},
        // What is no parameter ends the call.
        Case{qwen,
             "<tool_call>\n<function=f>\n<parameter=n>\n1\n</parameter>\n</function> oops</tool_call>",
             {" oops</tool_call>", {{"f", R"({"n": 1})"}}}},
        Case{qwen,
             "<function=f><parameter=n>1</parameter><parameter=\n>2",
             {"<parameter=\n>2", {{"f", R"({"n": 1})"}}}}));

INSTANTIATE_TEST_SUITE_P(
    NoCallOfQwen3Coder, ToolCalls,
    testing::Values(
        Case{qwen, "<tool_call>\n<function=", {"<tool_call>\n<function=", {}}},
        Case{qwen,
             "<tool_call>\n<function=g>\n</function>\n</tool_call>",
             {"<tool_call>\n<function=g>\n</function>\n</tool_call>", {}}},
        Case{qwen,
             "<tool_call>\n<function=f>\noops</function>",
             {"<tool_call>\n<function=f>\noops</function>", {}}},
        Case{qwen,
             R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)",
             {R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)", {}}},
        Case{qwen,
             "In <function=NAME> stands <function=f>, or <function=f x>.",
             {"In <function=NAME> stands <function=f>, or <function=f x>.", {}}}));

TEST(ToolCallParser, GivesStringsWithoutQuotesOutWhileTheyCome) {
  ToolCallParser parser(qwen, tools);
  parser.push("<tool_call>\n<function=f>\n<parameter=text>\n");
  const AnswerPieces piece = parser.push("half a \"line\n");
  ASSERT_EQ(piece.calls().size(), 1u);
  EXPECT_EQ(piece.calls()[0].arguments, "half a \\\"line");
  EXPECT_TRUE(parser.is_open());
  parser.push("</parameter>\n</function>\n</tool_call>");
  EXPECT_FALSE(parser.is_open());
  EXPECT_EQ(parser.ended(), 1);
}

// However much comes, little is held, and no byte is looked at again and again.
TEST(ToolCallParser, BoundsWhatItHoldsOfValues) {
  const std::string head = "<tool_call>\n<function=f>\n<parameter=list>\n[";
  const std::string digits = std::string(XmlArguments::max_value_bytes, '1');
  std::vector<std::string_view> pieces = {head};
  for (int i = 0; i < 3; ++i) {
    for (std::size_t at = 0; at < digits.size(); at += 4096) {
      pieces.push_back(std::string_view(digits).substr(at, 4096));
    }
  }
  pieces.push_back("]\n</parameter>\n</function>\n</tool_call>");
  const Parsed parsed = parse(qwen, pieces);
  ASSERT_EQ(parsed.calls.size(), 1u);
  EXPECT_EQ(parsed.calls[0].arguments, "{\"list\": \"[" + digits + digits + digits + "]\"}");

  const std::string spaces(100'000, ' ');
  EXPECT_EQ(parse(qwen, {"<tool_call>", spaces, "<function=f></function>"}).calls.size(), 1u);
  EXPECT_EQ(parse(qwen, {"<tool_call><function=f>", spaces, "</function>"}).content,
            "<tool_call><function=f>" + spaces + "</function>");
  std::string keys = "<function=f>";
  for (int i = 0; i < 20'000; ++i) keys += "<parameter=" + std::string(200, 'k') + ">1</parameter>";
  EXPECT_EQ(parse(qwen, {keys + "</function>"}).calls.size(), 1u);
}

TEST(ToolCallParser, SaysAsSoonAsACallIsOpen) {
  ToolCallParser parser(hermes, tools);
  parser.push("x <tool_");
  EXPECT_FALSE(parser.is_open());
  parser.push("call>\n");
  EXPECT_TRUE(parser.is_open());
  EXPECT_EQ(parser.open_text(), "<tool_call>\n");
  parser.push("{\"name\": \"f\", \"arguments\": {}}\n</tool_call>");
  EXPECT_FALSE(parser.is_open());
  EXPECT_EQ(parser.ended(), 1);

  ToolCallParser bare(llama3, tools);
  bare.push("{\"name\": \"f\", ");
  EXPECT_FALSE(bare.is_open());
  bare.push("\"parameters\": {\"a");
  EXPECT_TRUE(bare.is_open());
  EXPECT_EQ(bare.open_text(), "{\"name\": \"f\", \"parameters\": {\"a");
}

TEST(ToolCallParser, KeepsTheOrderOfTextAndCalls) {
  const std::string call = R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)";
  EXPECT_EQ(parse_in_all_ways(hermes, "a" + call + "b" + call + call + "c").order, "acacca");
}

TEST(ToolCallParser, GivesArgumentsOutWhileTheyCome) {
  ToolCallParser parser(hermes, tools);
  const AnswerPieces head = parser.push("<tool_call>\n{\"name\": \"f\", \"arguments\": {");
  ASSERT_EQ(head.calls().size(), 1u);
  EXPECT_TRUE(head.calls()[0].begins);
  const AnswerPieces piece = parser.push("\"a\": \"hal");
  ASSERT_EQ(piece.calls().size(), 1u);
  EXPECT_EQ(piece.calls()[0].arguments, "\"a\": \"hal");
  EXPECT_FALSE(piece.calls()[0].begins);
}

// Random sequences of what the styles are made of: the same result for random cuts, and without a
// call not one byte is lost.
TEST(ToolCallParser, LosesNothingOfRandomText) {
  const std::vector<std::string> words = {"<tool_call>",
                                          "</tool_call>",
                                          "{\"name\": \"f\"",
                                          ", \"arguments\": {",
                                          "}",
                                          "}}",
                                          "\"",
                                          "\\",
                                          "\n",
                                          " ",
                                          "x",
                                          "[",
                                          "]",
                                          ":",
                                          ",",
                                          ";",
                                          "<",
                                          "<|python_tag|>",
                                          "\"parameters\": {",
                                          "{",
                                          "<｜tool▁calls▁begin｜>",
                                          "<｜tool▁call▁begin｜>",
                                          "function",
                                          "<｜tool▁sep｜>",
                                          "f\n",
                                          "```json\n",
                                          "```",
                                          "<｜tool▁call▁end｜>",
                                          "<｜tool▁calls▁end｜>",
                                          "\"a\": 1",
                                          "get_",
                                          "weather",
                                          "<function=f>",
                                          "<function=get_",
                                          ">",
                                          "<parameter=text>",
                                          "<parameter=n>",
                                          "<parameter=",
                                          "</parameter>",
                                          "\n</parameter>\n",
                                          "</function>",
                                          "True"};
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    const auto style = static_cast<ToolStyle>(random() % 4);
    std::string text;
    for (unsigned n = random() % 14; n > 0; --n) text += words[random() % words.size()];
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 9;
      pieces.push_back(std::string_view(text).substr(at, size));
      at += size;
    }
    const Parsed whole = parse(style, {text});
    ASSERT_EQ(parse(style, pieces), whole) << name(style) << ": " << text;
    if (whole.calls.empty()) {
      ASSERT_EQ(whole.content, text) << name(style);
    }
  }
}

}  // namespace
}  // namespace ridge::text::tool_calls_test
