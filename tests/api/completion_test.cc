#include <gtest/gtest.h>

#include "api/answer.h"
#include "api/completion_request.h"
#include "api/logprobs_json.h"
#include "events.h"
#include "refusal.h"

namespace ridge::api::completion_test {
namespace {

using engine::Delta;
using engine::FinishReason;

CompletionRequest parse(const std::string& text) {
  return parse_completion_request(parse_json(text));
}

std::string refusal(const std::string& text) {
  return refusal_of([&] { parse(text); });
}

TEST(CompletionRequest, ReadsEveryFormOfAPrompt) {
  EXPECT_EQ(parse(R"({"prompt":"a"})").prompts, (std::vector<PromptText>{"a"}));
  EXPECT_EQ(parse(R"({"prompt":["a","b"]})").prompts, (std::vector<PromptText>{"a", "b"}));
  EXPECT_EQ(parse(R"({"prompt":[1,2]})").prompts,
            (std::vector<PromptText>{std::vector<int32_t>{1, 2}}));
  EXPECT_EQ(parse(R"({"prompt":[[1],[2,3]]})").prompts,
            (std::vector<PromptText>{std::vector<int32_t>{1}, std::vector<int32_t>{2, 3}}));
}

TEST(CompletionRequest, RefusesWhatIsNoPrompt) {
  EXPECT_EQ(refusal("{}"), "invalid_argument prompt");
  EXPECT_EQ(refusal(R"({"prompt":1})"), "invalid_argument prompt");
  EXPECT_EQ(refusal(R"({"prompt":[]})"), "invalid_argument prompt");
  EXPECT_EQ(refusal(R"({"prompt":["a",1]})"), "invalid_argument prompt[1]");
  EXPECT_EQ(refusal(R"({"prompt":[1,"a"]})"), "invalid_argument prompt[1]");
  EXPECT_EQ(refusal(R"({"prompt":[1,-2]})"), "invalid_argument prompt[1]");
  EXPECT_EQ(refusal(R"({"prompt":[1,4294967296]})"), "invalid_argument prompt[1]");
  EXPECT_EQ(refusal(R"({"prompt":[[1],[]]})"), "invalid_argument prompt[1]");
}

TEST(CompletionRequest, BoundsThePromptsAndAnswers) {
  std::string prompts = "\"a\"";
  for (int i = 1; i < 64; ++i) prompts += ",\"a\"";
  EXPECT_EQ(refusal("{\"prompt\":[" + prompts + "]}"), "");
  EXPECT_EQ(refusal("{\"n\":3,\"prompt\":[" + prompts + "]}"), "invalid_argument n");
  EXPECT_EQ(refusal("{\"prompt\":[" + prompts + ",\"a\"]}"), "invalid_argument prompt");
}

TEST(CompletionRequest, RefusesWhatItCannotHonour) {
  EXPECT_EQ(refusal(R"({"prompt":"a","echo":false,"suffix":""})"), "");
  EXPECT_EQ(refusal(R"({"prompt":"a","suffix":"b"})"), "unsupported suffix");
  EXPECT_EQ(refusal(R"({"prompt":"a","best_of":2})"), "unsupported best_of");
  EXPECT_EQ(refusal(R"({"prompt":"a","logprobs":6})"), "invalid_argument logprobs");
  EXPECT_EQ(parse(R"({"prompt":"a","logprobs":0})").top_logprobs, 0);
  EXPECT_EQ(parse(R"({"prompt":"a"})").top_logprobs, -1);
}

TEST(CompletionRequest, TakesNoTokensOnlyWithEcho) {
  EXPECT_EQ(parse(R"({"prompt":"a","echo":true,"max_tokens":0})").generation.max_tokens, 0);
  EXPECT_TRUE(parse(R"({"prompt":"a","echo":true})").echo);
  EXPECT_EQ(refusal(R"({"prompt":"a","max_tokens":0})"), "invalid_argument max_tokens");
}

TEST(CompletionRequest, ReadsItsDeadline) {
  EXPECT_FALSE(parse(R"({"prompt":"a"})").generation.timeout);
  EXPECT_EQ(parse(R"({"prompt":"a","timeout_ms":250})").generation.timeout,
            std::chrono::milliseconds(250));
  for (const char* bad : {"0", "-1", "1e12", "\"1s\""}) {
    EXPECT_EQ(refusal(std::string(R"({"prompt":"a","timeout_ms":)") + bad + "}"),
              "invalid_argument timeout_ms");
  }
}

const AnswerHead head = {.id = "cmpl-1", .created_s = 12, .model = "m", .fingerprint = "fp"};
const engine::Usage usage = {.prompt_tokens = 1, .completion_tokens = 2};

Delta token_delta(std::string text, std::string bytes) {
  Delta delta;
  delta.pieces.add_content(text);
  delta.tokens.push_back({.picked = {3, -1, bytes}, .top = {{3, -1, bytes}, {4, -2, "z"}}});
  return delta;
}

TEST(CompletionAnswer, HoldsLogprobsInTheOldForm) {
  CompletionRequest request = parse(R"({"prompt":"p","logprobs":2})");
  const auto answer = make_answer(request, head);
  std::string out;
  answer->add(0, token_delta("", "\xC3"), out);
  answer->add(0, token_delta("éb", "\xA9"), out);
  answer->add(0, token_delta("c", "c"), out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  const Json choice = Json::parse(out)["choices"][0];
  EXPECT_EQ(choice["text"], "ébc");
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(choice["logprobs"],
            Json::parse(R"({"tokens":["bytes:\\xc3","bytes:\\xa9","c"],"token_logprobs":[-1,-1,-1],
      "top_logprobs":[{"bytes:\\xc3":-1,"z":-2},{"bytes:\\xa9":-1,"z":-2},{"c":-1,"z":-2}],"text_offset":[0,1,1]})"));
}

TEST(CompletionAnswer, StreamsEachChoice) {
  CompletionRequest request =
      parse(R"({"prompt":["p","q"],"stream":true,"stream_options":{"include_usage":true}})");
  const auto answer = make_answer(request, head);
  std::string out;
  answer->begin(out);
  answer->add(1, token_delta("x", "x"), out);
  answer->finish_choice(1, FinishReason::stop, out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0]["choices"][0],
            Json::parse(R"({"index":1,"text":"x","logprobs":null,"finish_reason":null})"));
  EXPECT_EQ(events[2]["choices"][0],
            Json::parse(R"({"index":0,"text":"","logprobs":null,"finish_reason":"length"})"));
  EXPECT_EQ(events[3]["usage"]["total_tokens"], 3);
  EXPECT_EQ(events[4], "[DONE]");
}

engine::TokenInfo scored(std::string bytes) {
  return {.picked = {3, -1, bytes}, .top = {{4, -0.5, "z"}}};
}

TEST(CompletionAnswer, EchoesThePromptWithItsLogprobs) {
  const CompletionRequest request = parse(R"({"prompt":"é b","logprobs":1,"echo":true,"n":2})");
  const auto answer =
      make_answer(request, head, {{.text = "é b", .first = {.token = 1, .bytes = "<s>"}}});
  std::string out;
  answer->begin(out);
  answer->add_prompt(0, std::vector{scored("\xC3"), scored("\xA9"), scored(" b")}, out);
  answer->add(1, token_delta("c", "c"), out);
  for (int choice : {0, 1}) answer->finish_choice(choice, FinishReason::length, out);
  answer->finish(usage, out);
  const Json choices = Json::parse(out)["choices"];
  EXPECT_EQ(choices[0]["text"], "é b");
  EXPECT_EQ(choices[1]["text"], "é bc");
  // The BOS that was put before the text takes none of its characters.
  EXPECT_EQ(choices[1]["logprobs"]["text_offset"], Json::parse("[0,0,1,1,3]"));
  EXPECT_EQ(choices[1]["logprobs"]["token_logprobs"], Json::parse("[null,-1,-1,-1,-1]"));
  EXPECT_EQ(choices[0]["logprobs"], Json::parse(R"({
      "tokens":["<s>","bytes:\\xc3","bytes:\\xa9"," b"],"token_logprobs":[null,-1,-1,-1],
      "top_logprobs":[null,{"z":-0.5,"bytes:\\xc3":-1},{"z":-0.5,"bytes:\\xa9":-1},{"z":-0.5," b":-1}],
      "text_offset":[0,0,1,1]})"));
}

TEST(CompletionAnswer, CountsASpaceThatSentencePieceAddsAsNone) {
  const CompletionRequest request = parse(R"({"prompt":"a b","logprobs":0,"echo":true})");
  const auto answer =
      make_answer(request, head, {{.text = "a b", .first = {.token = 1, .bytes = " a"}}});
  std::string out;
  answer->begin(out);
  answer->add_prompt(0, std::vector{scored(" b"), scored("</s>")}, out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  EXPECT_EQ(Json::parse(out)["choices"][0]["logprobs"]["text_offset"], Json::parse("[0,1,3]"));
}

TEST(CompletionAnswer, StreamsThePromptFirst) {
  const std::vector<EchoedPrompt> echoes = {{.text = "p", .first = {.token = 1, .bytes = "p"}},
                                            {.text = "q", .first = {.token = 2, .bytes = "q"}}};
  const auto plain =
      make_answer(parse(R"({"prompt":["p","q"],"echo":true,"stream":true})"), head, echoes);
  std::string out;
  plain->begin(out);
  auto events = events_of(out);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1]["choices"][0],
            Json::parse(R"({"index":1,"text":"q","logprobs":null,"finish_reason":null})"));

  const auto scoring = make_answer(
      parse(R"({"prompt":["p","q"],"echo":true,"stream":true,"logprobs":0})"), head, echoes);
  out.clear();
  scoring->begin(out);
  EXPECT_EQ(out, "") << "with logprobs, a prompt is sent once it is scored";
  scoring->add_prompt(1, std::vector<engine::TokenInfo>{}, out);
  scoring->add(1, token_delta("x", "x"), out);
  events = events_of(out);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["choices"][0]["text"], "q");
  EXPECT_EQ(events[0]["choices"][0]["logprobs"]["token_logprobs"], Json::parse("[null]"));
  EXPECT_EQ(events[1]["choices"][0]["logprobs"]["text_offset"], Json::parse("[1]"));
}

TEST(CompletionTokenName, TellsPartsOfCharactersApart) {
  EXPECT_EQ(completion_token_name("é"), "é");
  EXPECT_EQ(completion_token_name("\xC3"), "bytes:\\xc3");
  EXPECT_EQ(completion_token_name("a\xE2\x80"), "bytes:\\x61\\xe2\\x80");
}

}  // namespace
}  // namespace ridge::api::completion_test
