#include "server/answer_queue.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/anthropic_answer.h"
#include "api/chat_request.h"
#include "api/events.h"

namespace ridge::server::answer_queue_test {
namespace {

using engine::Delta;
using engine::Finish;
using engine::FinishReason;

Delta text(std::string content) {
  Delta delta;
  delta.pieces.add_content(content);
  delta.token_count = 1;
  delta.tokens.resize(1);
  return delta;
}

struct Counted {
  explicit Counted(int requests = 1, size_t max_bytes = 1 << 20, bool wake_for_text = true)
      : queue(requests, max_bytes, wake_for_text, [this] { ++wakes; }) {}
  int wakes = 0;
  AnswerQueue queue;
};

TEST(AnswerQueue, JoinsWhatASlowClientHasNotTaken) {
  Counted counted;
  AnswerQueue& queue = counted.queue;
  for (int i = 0; i < 1000; ++i) {
    queue.push_delta(0, text("a"));
    queue.push_delta(1, text("b"));
  }
  EXPECT_EQ(counted.wakes, 1);
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].delta.pieces.content(), std::string(1000, 'a'));
  EXPECT_EQ(events[0].delta.token_count, 1000);
  EXPECT_EQ(events[0].delta.tokens.size(), 1000u);
  EXPECT_EQ(events[1].delta.pieces.content(), std::string(1000, 'b'));
}

TEST(AnswerQueue, JoinsThePiecesOfACall) {
  Counted counted;
  AnswerQueue& queue = counted.queue;
  const auto push = [&](int index, std::string name, std::string arguments) {
    Delta delta;
    delta.pieces.add_call({index, !name.empty(), std::move(name), std::move(arguments)});
    queue.push_delta(0, std::move(delta));
  };
  push(0, "f", "{");
  queue.take();
  push(0, "", "}");
  push(0, "", " ");
  push(1, "g", "{");
  push(1, "", "}");
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 1u);
  const auto calls = events[0].delta.pieces.calls();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_FALSE(calls[0].begins);
  EXPECT_EQ(calls[0].arguments, "} ");
  EXPECT_EQ(calls[1].name, "g");
  EXPECT_EQ(calls[1].arguments, "{}");
}

Delta said(std::string content) {
  Delta delta;
  delta.pieces.add_content(content);
  return delta;
}

Delta call(int index, std::string name, std::string arguments) {
  Delta delta;
  delta.pieces.add_call({index, !name.empty(), std::move(name), std::move(arguments)});
  return delta;
}

// What the engine says in many deltas, of which a slow client takes some together.
std::vector<Delta> calls_between_texts() {
  std::vector<Delta> deltas;
  deltas.push_back(said("a"));
  deltas.push_back(call(0, "f", "{"));
  deltas.push_back(call(0, "", "}"));
  deltas.push_back(said("b"));
  deltas.push_back(said("c"));
  deltas.push_back(call(1, "g", ""));
  deltas.push_back(call(2, "h", "{}"));
  deltas.push_back(said("d"));
  return deltas;
}

// However many are taken at once.
TEST(AnswerQueue, KeepsTheOrderOfTextAndCalls) {
  const api::Json expected = api::Json::parse(R"([["text","a"],["f",{}],["text","bc"],["g",{}],
      ["h",{}],["text","d"]])");
  const std::size_t count = calls_between_texts().size();
  for (std::size_t at_once = 1; at_once <= count; ++at_once) {
    Counted counted;
    const auto answer = api::make_answer(api::AnthropicRequest{}, {});
    std::string out;
    std::size_t pushed = 0;
    for (Delta& delta : calls_between_texts()) {
      counted.queue.push_delta(0, std::move(delta));
      if (++pushed % at_once != 0 && pushed != count) continue;
      for (const AnswerEvent& event : counted.queue.take()) answer->add(0, event.delta, out);
    }
    answer->finish_choice(0, FinishReason::tool_calls, out);
    answer->finish({}, out);
    const api::Json message = api::Json::parse(out);
    api::Json blocks = api::Json::array();
    for (const api::Json& block : message["content"]) {
      const bool is_text = block["type"] == "text";
      blocks.push_back(is_text ? api::Json::array({block["type"], block["text"]})
                               : api::Json::array({block["name"], block["input"]}));
    }
    EXPECT_EQ(blocks, expected) << at_once << " at once";
  }
}

TEST(AnswerQueue, JoinsTextOnlyWithWhatItFollows) {
  Counted counted;
  for (Delta& delta : calls_between_texts()) counted.queue.push_delta(0, std::move(delta));
  Delta thought;
  thought.reasoning = "hm";
  counted.queue.push_delta(0, std::move(thought));
  const auto events = counted.queue.take();
  ASSERT_EQ(events.size(), 2u) << "a delta has its reasoning in front of all else";
  EXPECT_EQ(events[0].delta.pieces.size(), 6u);
  EXPECT_EQ(events[1].delta.reasoning, "hm");
}

TEST(AnswerQueue, KeepsTokensWithWhatTheySay) {
  Counted counted;
  Delta thought = text("");
  thought.reasoning = "hm";
  counted.queue.push_delta(0, std::move(thought));
  counted.queue.push_delta(0, text("a"));
  counted.queue.push_delta(0, text("b"));
  Delta made = call(0, "f", "{}");
  made.tokens.resize(1);
  counted.queue.push_delta(0, std::move(made));
  std::vector<std::size_t> tokens;
  for (const AnswerEvent& event : counted.queue.take()) tokens.push_back(event.delta.tokens.size());
  EXPECT_EQ(tokens, (std::vector<std::size_t>{1, 2, 1})) << "of a thought, a text and a call";
}

TEST(AnswerQueue, KeepsTextBeforeTheEndOfItsChoice) {
  Counted counted;
  AnswerQueue& queue = counted.queue;
  queue.push_delta(0, text("a"));
  queue.push_choice_finish(0, FinishReason::stop);
  queue.push_finish({.reasons = {FinishReason::stop}, .usage = {.completion_tokens = 3}});
  EXPECT_FALSE(queue.end()) << "nothing may come behind the end";
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].reason, FinishReason::stop);
  ASSERT_TRUE(queue.end());
  EXPECT_EQ(queue.end()->usage.completion_tokens, 3);
  EXPECT_FALSE(queue.end()->error);
  EXPECT_FALSE(queue.end()->cancelled);
}

TEST(AnswerQueue, KeepsAPromptApartFromTheTextBehindIt) {
  Counted counted;
  AnswerQueue& queue = counted.queue;
  queue.push_prompt(0, std::vector<engine::TokenInfo>(1000));
  queue.push_delta(0, text("a"));
  queue.push_delta(0, text("b"));
  queue.push_embedding(1, {1, 2});
  const auto events = queue.take();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].prompt.size(), 1000u);
  EXPECT_EQ(events[1].delta.pieces.content(), "ab");
  EXPECT_EQ(events[2].embedding, (std::vector<float>{1, 2}));
}

TEST(AnswerQueue, EndsOnceAllRequestsHaveAndAddsThem) {
  Counted counted(2);
  AnswerQueue& queue = counted.queue;
  queue.push_finish({.reasons = {FinishReason::stop}, .usage = {.prompt_tokens = 2, .ttft_ms = 9}});
  EXPECT_FALSE(queue.end());
  EXPECT_EQ(counted.wakes, 0);
  queue.push_finish(
      {.reasons = {FinishReason::cancelled}, .usage = {.prompt_tokens = 3, .ttft_ms = 4}});
  EXPECT_EQ(counted.wakes, 1);
  ASSERT_TRUE(queue.end());
  EXPECT_EQ(queue.end()->usage.prompt_tokens, 5);
  EXPECT_EQ(queue.end()->usage.ttft_ms, 4);
  EXPECT_TRUE(queue.end()->cancelled);
}

TEST(AnswerQueue, BoundsWhatAClientLeavesBehind) {
  Counted counted(1, 10'000);
  AnswerQueue& queue = counted.queue;
  for (int i = 0; i < 100'000; ++i) queue.push_delta(0, text("some text"));
  EXPECT_TRUE(queue.overflowed());
  EXPECT_LT(queue.take().at(0).delta.pieces.content().size(), 10'000u);
}

TEST(AnswerQueue, CountsPromptsAndVectors) {
  Counted prompts(1, 100'000);
  std::vector<engine::TokenInfo> tokens(10);
  for (engine::TokenInfo& token : tokens) token.top.resize(100);
  EXPECT_EQ(prompts.queue.bytes(), 0u);
  prompts.queue.push_prompt(0, std::vector(tokens));
  EXPECT_GE(prompts.queue.bytes(), 1000 * sizeof(engine::TokenLogprob));
  EXPECT_FALSE(prompts.queue.overflowed());
  for (int i = 0; i < 9; ++i) prompts.queue.push_prompt(0, std::vector(tokens));
  EXPECT_TRUE(prompts.queue.overflowed());
  Counted vectors(1, 1000, /*wake_for_text=*/false);
  vectors.queue.push_embedding(0, std::vector<float>(200));
  EXPECT_EQ(vectors.queue.bytes(), 800u);
  vectors.queue.push_embedding(1, std::vector<float>(200));
  EXPECT_TRUE(vectors.queue.overflowed());
  EXPECT_EQ(vectors.wakes, 1) << "who waits for the end alone must cancel";
  EXPECT_EQ(vectors.queue.take().size(), 1u);
  EXPECT_EQ(vectors.queue.bytes(), 0u);
}

TEST(AnswerQueue, WakesForTheEndAloneWhereNobodyWantsTheText) {
  Counted counted(1, 1 << 20, /*wake_for_text=*/false);
  counted.queue.push_delta(0, text("a"));
  counted.queue.push_choice_finish(0, FinishReason::stop);
  EXPECT_EQ(counted.wakes, 0);
  counted.queue.push_finish({.reasons = {FinishReason::stop}});
  EXPECT_EQ(counted.wakes, 1);
}

TEST(AnswerQueue, NeverLosesAFailure) {
  Counted counted;
  counted.queue.push_finish({.reasons = {FinishReason::failed}});
  ASSERT_TRUE(counted.queue.end());
  EXPECT_TRUE(counted.queue.end()->error) << "a failure without a reason is still one";
}

}  // namespace
}  // namespace ridge::server::answer_queue_test
