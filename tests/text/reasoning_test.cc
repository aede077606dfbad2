#include "text/reasoning.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace ridge::text::reasoning_test {
namespace {

struct Parts {
  std::string reasoning;
  std::string content;
};

Parts split(ReasoningMode mode, std::string_view answer, std::size_t bytes_per_delta) {
  ReasoningSplitter splitter(mode);
  Parts parts;
  const auto take = [&](const ReasoningDelta& delta) {
    parts.reasoning += delta.reasoning;
    parts.content += delta.content;
  };
  for (std::size_t at = 0; at < answer.size(); at += bytes_per_delta) {
    take(splitter.push(answer.substr(at, bytes_per_delta)));
  }
  take(splitter.flush());
  return parts;
}

struct Case {
  std::string_view name;
  ReasoningMode mode;
  std::string_view answer;
  std::string_view reasoning;
  std::string_view content;
};

constexpr auto inside = ReasoningMode::starts_inside;
constexpr auto optional = ReasoningMode::optional;
constexpr auto none = ReasoningMode::none;

constexpr Case cases[] = {
    {"the template opened the tag", inside, "a\nb</think>\n\nanswer", "a\nb", "answer"},
    {"the model opens it too", inside, "<think>\na</think>c", "a", "c"},
    {"white space before the tag", inside, " \n<think>a</think>c", "a", "c"},
    {"never closed: all is reasoning", inside, "a < b </thin", "a < b </thin", ""},
    {"nothing to think about", inside, "<think>\n\n</think>\n\nhi", "", "hi"},
    {"closed at once", inside, "</think>hi", "", "hi"},
    {"only the first closing tag counts", inside, "a</think>b</think>c", "a", "b</think>c"},
    {"an opening tag inside is text", inside, "a<think>b</think>c", "a<think>b", "c"},
    {"the answer is empty", inside, "", "", ""},
    {"newlines inside stay", inside, "\n\na\n\nb\n</think>\nc\n\nd\n", "a\n\nb\n", "c\n\nd\n"},
    {"a model that may reason does", optional, "<think>a</think>\n\nb", "a", "b"},
    {"a model that may reason does not", optional, "\nplain </think> text", "",
     "\nplain </think> text"},
    {"an answer that is the start of a tag", optional, "<thi", "", "<thi"},
    {"no reasoning: tags are content", none, "<think>a</think>\nb", "", "<think>a</think>\nb"},
};

TEST(ReasoningSplitter, FollowsTheRulesHoweverTheAnswerIsCut) {
  for (const Case& c : cases) {
    for (std::size_t bytes = 1; bytes <= c.answer.size() + 1; ++bytes) {
      const Parts parts = split(c.mode, c.answer, bytes);
      EXPECT_EQ(parts.reasoning, c.reasoning) << c.name << ", " << bytes << " bytes a delta";
      EXPECT_EQ(parts.content, c.content) << c.name << ", " << bytes << " bytes a delta";
    }
  }
}

TEST(ReasoningSplitter, GivesTextOutAsSoonAsItCannotBeATag) {
  ReasoningSplitter splitter(inside);
  EXPECT_EQ(splitter.push("think").reasoning, "think");
  EXPECT_EQ(splitter.push("ing </").reasoning, "ing ");
  EXPECT_EQ(splitter.push("b").reasoning, "</b");
  EXPECT_TRUE(splitter.push("</think").empty());
  EXPECT_TRUE(splitter.in_reasoning());
  EXPECT_TRUE(splitter.push(">").empty());
  EXPECT_TRUE(splitter.in_content());
  EXPECT_EQ(splitter.push("x").content, "x");
}

}  // namespace
}  // namespace ridge::text::reasoning_test
