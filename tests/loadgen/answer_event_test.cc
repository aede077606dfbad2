#include "loadgen/answer_event.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ridge::loadgen::answer_event_test {
namespace {

TEST(AnswerEvent, TextIsContentReasoningCallsAndCompletions) {
  for (const char* data : {R"({"choices":[{"delta":{"content":"x"}}]})",
                           R"({"choices":[{"delta":{"reasoning_content":"x","content":null}}]})",
                           R"({"choices":[{"delta":{"reasoning":"x"}}]})",
                           R"({"choices":[{"delta":{"tool_calls":[{"index":0}]}}]})",
                           R"({"choices":[{"text":"x","index":0}]})"}) {
    EXPECT_TRUE(read_answer_event(data).has_text) << data;
  }
}

TEST(AnswerEvent, ARoleAnEmptyTextAndAnEndAreNoText) {
  for (const char* data : {R"({"choices":[{"delta":{"role":"assistant","content":""}}]})",
                           R"({"choices":[{"delta":{},"finish_reason":"length"}]})",
                           R"({"choices":[{"text":""}]})", R"({"choices":[]})", "[DONE]"}) {
    EXPECT_FALSE(read_answer_event(data).has_text) << data;
  }
}

TEST(AnswerEvent, KnowsTheEnd) {
  EXPECT_TRUE(read_answer_event(R"({"choices":[{"finish_reason":"stop"}]})").finished);
  EXPECT_FALSE(read_answer_event(R"({"choices":[{"finish_reason":null}]})").finished);
  EXPECT_TRUE(read_answer_event("[DONE]").is_last);
}

TEST(AnswerEvent, ReadsUsage) {
  const AnswerEvent event =
      read_answer_event(R"({"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":7,)"
                        R"("prompt_tokens_details":{"cached_tokens":16}}})");
  ASSERT_TRUE(event.usage);
  EXPECT_EQ(event.usage->prompt_tokens, 20);
  EXPECT_EQ(event.usage->output_tokens, 7);
  EXPECT_EQ(event.usage->cached_tokens, 16);
  EXPECT_FALSE(read_answer_event(R"({"usage":null,"choices":[]})").usage);
}

TEST(AnswerEvent, UsageThatIsNotStatedIsMinusOne) {
  EXPECT_EQ(read_usage("{}").prompt_tokens, -1);
  EXPECT_EQ(read_usage("nonsense").prompt_tokens, -1);
  EXPECT_EQ(read_usage(R"({"usage":{"prompt_tokens":"5"}})").prompt_tokens, -1);
  EXPECT_EQ(read_usage(R"({"usage":{"prompt_tokens":5}})").prompt_tokens, 5);
}

TEST(AnswerEvent, NamesErrors) {
  EXPECT_EQ(read_answer_event(R"({"error":{"code":"internal","message":"m"}})").error, "internal");
  EXPECT_EQ(error_name(R"({"error":{"code":429,"type":"queue","message":"m"}})"), "queue");
  EXPECT_EQ(error_name(R"({"error":"busy"})"), "busy");
  EXPECT_EQ(error_name("<html>"), "");
  EXPECT_EQ(error_message(R"({"error":{"code":"x","message":"too long"}})"), "too long");
  EXPECT_EQ(error_message(R"({"error":"busy"})"), "busy");
}

TEST(AnswerEvent, RefusesWhatIsNoObject) {
  EXPECT_THROW(read_answer_event("{"), Error);
  EXPECT_THROW(read_answer_event("[1]"), Error);
}

}  // namespace
}  // namespace ridge::loadgen::answer_event_test
