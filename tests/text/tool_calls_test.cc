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

const std::vector<std::string> tools = {"get_weather", "get_time", "f"};

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
                                          "weather"};
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    const auto style = static_cast<ToolStyle>(random() % 3);
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
