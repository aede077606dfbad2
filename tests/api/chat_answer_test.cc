#include <gtest/gtest.h>

#include "api/answer.h"
#include "api/chat_request.h"
#include "events.h"

namespace ridge::api::chat_answer_test {
namespace {

using engine::Delta;
using engine::FinishReason;
using engine::TokenInfo;

const AnswerHead head = {
    .id = "chatcmpl-1", .created_s = 12, .model = "m\"", .fingerprint = "fp_1"};

ChatRequest request(bool stream) {
  ChatRequest request;
  request.generation.stream = stream;
  return request;
}

Delta text_delta(std::string content, std::string reasoning = "") {
  Delta delta;
  delta.pieces.add_content(content);
  delta.reasoning = std::move(reasoning);
  return delta;
}

const engine::Usage usage = {
    .prompt_tokens = 5, .cached_tokens = 2, .completion_tokens = 3, .reasoning_tokens = 1};
const Json usage_json = Json::parse(
    R"({"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,"prompt_tokens_details":{"cached_tokens":2},
        "completion_tokens_details":{"reasoning_tokens":1}})");

TEST(ChatStream, SendsRoleDeltasReasonAndDone) {
  const auto answer = make_answer(request(true), head);
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("a\n"), out);
  answer->add(0, text_delta(""), out);  // nothing to say: no event
  answer->add(0, text_delta("b"), out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(
      events[0],
      Json::parse(R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":12,"model":"m\"",
      "system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":""},
      "logprobs":null,"finish_reason":null}]})"));
  EXPECT_EQ(events[1]["choices"][0]["delta"], Json({{"content", "a\n"}}));
  EXPECT_EQ(events[2]["choices"][0]["delta"], Json({{"content", "b"}}));
  EXPECT_EQ(events[3]["choices"][0]["delta"], Json::object());
  EXPECT_EQ(events[3]["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(events[4], "[DONE]");
}

TEST(ChatStream, SendsUsageLastWhenAskedFor) {
  ChatRequest asks = request(true);
  asks.generation.include_usage = true;
  const auto answer = make_answer(asks, head);
  std::string out;
  answer->begin(out);
  answer->finish_choice(0, FinishReason::stop, out);
  answer->finish(usage, out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_TRUE(events[0].at("usage").is_null());
  EXPECT_EQ(events[2]["choices"], Json::array());
  EXPECT_EQ(events[2]["usage"], usage_json);
}

TEST(ChatStream, SendsReasoningUnderBothNames) {
  const auto answer = make_answer(request(true), head);
  std::string out;
  answer->add(0, text_delta("", "hm"), out);
  answer->add(0, text_delta("so", "."), out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["choices"][0]["delta"],
            Json({{"reasoning_content", "hm"}, {"reasoning", "hm"}}));
  EXPECT_EQ(events[1]["choices"][0]["delta"],
            Json({{"reasoning_content", "."}, {"reasoning", "."}, {"content", "so"}}));
}

TEST(ChatStream, CarriesLogprobsWithExactBytes) {
  ChatRequest asks = request(true);
  asks.top_logprobs = 1;
  const auto answer = make_answer(asks, head);
  std::string out;
  Delta delta;  // the first half of a character: no text yet, yet a token
  delta.tokens.push_back({.picked = {1, -0.5f, "\xE2\x82"}, .top = {{1, -0.5f, "\xE2\x82"}}});
  answer->add(0, delta, out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 1u);
  const Json& choice = events[0]["choices"][0];
  EXPECT_EQ(choice["delta"], Json({{"content", ""}}));
  const Json& token = choice["logprobs"]["content"][0];
  EXPECT_EQ(token["bytes"], Json({0xE2, 0x82}));
  EXPECT_EQ(token["logprob"], -0.5);
  EXPECT_EQ(token["top_logprobs"][0]["bytes"], Json({0xE2, 0x82}));
}

TEST(ChatDocument, HoldsEveryChoice) {
  ChatRequest asks = request(false);
  asks.generation.choices = 2;
  const auto answer = make_answer(asks, head);
  std::string out;
  answer->begin(out);
  answer->add(1, text_delta("b"), out);
  answer->add(0, text_delta("", "think"), out);
  answer->add(0, text_delta("a"), out);
  answer->add(1, text_delta("c"), out);
  answer->finish_choice(1, FinishReason::stop, out);
  answer->finish_choice(0, FinishReason::length, out);
  EXPECT_EQ(out, "");
  answer->finish(usage, out);
  EXPECT_EQ(Json::parse(out),
            Json::parse(R"({"id":"chatcmpl-1","object":"chat.completion","created":12,"model":"m\"",
    "system_fingerprint":"fp_1","choices":[
      {"index":0,"message":{"role":"assistant","content":"a","refusal":null,"reasoning_content":"think","reasoning":"think"},
       "logprobs":null,"finish_reason":"length"},
      {"index":1,"message":{"role":"assistant","content":"bc","refusal":null},"logprobs":null,"finish_reason":"stop"}],
    "usage":)" + usage_json.dump() +
                        "}"));
}

TEST(ChatDocument, HasNoContentWhereTheReasoningNeverEnded) {
  const auto answer = make_answer(request(false), head);
  std::string out;
  answer->add(0, text_delta("", "still thinking"), out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  EXPECT_TRUE(Json::parse(out)["choices"][0]["message"]["content"].is_null());
}

Delta call_delta(int index, std::string name, std::string arguments) {
  Delta delta;
  delta.pieces.add_call({index, !name.empty(), std::move(name), std::move(arguments)});
  return delta;
}

TEST(ChatStream, SendsTheNameOfACallAndThenItsArguments) {
  const auto answer = make_answer(request(true), head);
  std::string out;
  answer->add(0, call_delta(0, "f\"", "{"), out);
  answer->add(0, call_delta(0, "", "\"a\":1}"), out);
  answer->add(0, call_delta(1, "g", ""), out);
  answer->finish_choice(0, FinishReason::tool_calls, out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 5u);
  const auto call = [&](std::size_t event) {
    const Json& delta = events[event]["choices"][0]["delta"];
    EXPECT_FALSE(delta.contains("content"));
    return delta["tool_calls"][0];
  };
  EXPECT_EQ(call(0)["index"], 0);
  EXPECT_EQ(call(0)["type"], "function");
  EXPECT_TRUE(call(0)["id"].get<std::string>().starts_with("call_"));
  EXPECT_EQ(call(0)["function"], Json({{"name", "f\""}, {"arguments", ""}}));
  EXPECT_EQ(call(1), Json::parse(R"({"index":0,"function":{"arguments":"{"}})"));
  EXPECT_EQ(call(2), Json::parse(R"({"index":0,"function":{"arguments":"\"a\":1}"}})"));
  EXPECT_EQ(call(3)["index"], 1);
  EXPECT_NE(call(3)["id"], call(0)["id"]);
  EXPECT_EQ(events[4]["choices"][0]["finish_reason"], "tool_calls");
}

TEST(ChatDocument, HoldsCallsWithoutContent) {
  const auto answer = make_answer(request(false), head);
  std::string out;
  answer->add(0, call_delta(0, "f", "{\"a\":"), out);
  answer->add(0, call_delta(0, "", "1}"), out);
  answer->add(0, call_delta(1, "g", "{}"), out);
  answer->finish_choice(0, FinishReason::tool_calls, out);
  answer->finish(usage, out);
  const Json choice = Json::parse(out)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  const Json& calls = choice["message"]["tool_calls"];
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0]["function"], Json({{"name", "f"}, {"arguments", "{\"a\":1}"}}));
  EXPECT_EQ(calls[1]["function"]["name"], "g");
}

}  // namespace
}  // namespace ridge::api::chat_answer_test
