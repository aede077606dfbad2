#include "api/chat_request.h"

#include <gtest/gtest.h>

#include "refusal.h"

namespace ridge::api {
namespace {

// A body with one message and `more` members, as in R"("n":2)".
std::string body(const std::string& more = "") {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
         (more.empty() ? "" : "," + more) + "}";
}

ChatRequest parse(const std::string& text) { return parse_chat_request(parse_json(text)); }

std::string refusal(const std::string& text) {
  return refusal_of([&] { parse(text); });
}

std::string messages(const std::string& list) { return R"({"messages":)" + list + "}"; }

TEST(ChatRequest, LeavesWhatIsNotSaidToTheDefaults) {
  const ChatRequest request = parse(body());
  EXPECT_EQ(request.generation.model, "m");
  EXPECT_FALSE(request.generation.max_tokens);
  EXPECT_FALSE(request.generation.stream);
  EXPECT_EQ(request.generation.choices, 1);
  EXPECT_EQ(request.top_logprobs, -1);
  EXPECT_FALSE(request.tools);
  EXPECT_FALSE(request.variables);
  const auto params =
      sampling_params(request.generation, {.temperature = 0.6f, .top_p = 0.95f}, -1);
  EXPECT_FLOAT_EQ(params.temperature, 0.6f);
  EXPECT_FLOAT_EQ(params.top_p, 0.95f);
}

TEST(ChatRequest, ReadsEverySamplingField) {
  const ChatRequest request = parse(body(
      R"("temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,
      "repetition_penalty":1.5,"seed":-1,"stop":["a","b"],"n":3,"logprobs":true,"top_logprobs":5,
      "logit_bias":{"7":-100,"9":2.5},"min_tokens":2,"ignore_eos":true,"max_tokens":9,"stream":true,
      "stream_options":{"include_usage":true},"user":"u")"));
  const GenerationFields& fields = request.generation;
  const auto params =
      sampling_params(fields, {.temperature = 0.6f, .top_p = 0.95f}, request.top_logprobs);
  EXPECT_FLOAT_EQ(params.temperature, 0.5f);
  EXPECT_FLOAT_EQ(params.top_p, 0.9f);
  EXPECT_EQ(params.top_k, 40);
  EXPECT_FLOAT_EQ(params.min_p, 0.1f);
  EXPECT_FLOAT_EQ(params.presence_penalty, 1);
  EXPECT_FLOAT_EQ(params.frequency_penalty, -1);
  EXPECT_FLOAT_EQ(params.repetition_penalty, 1.5f);
  EXPECT_EQ(params.seed, UINT64_MAX);
  EXPECT_EQ(params.top_logprobs, 5);
  ASSERT_EQ(params.logit_bias.size(), 2u);
  EXPECT_EQ(params.logit_bias[1].first, 9);
  EXPECT_FLOAT_EQ(params.logit_bias[1].second, 2.5f);
  EXPECT_EQ(fields.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(fields.choices, 3);
  EXPECT_EQ(fields.min_tokens, 2);
  EXPECT_TRUE(fields.ignore_eos);
  EXPECT_EQ(fields.max_tokens, 9);
  EXPECT_TRUE(fields.stream);
  EXPECT_TRUE(fields.include_usage);
}

TEST(ChatRequest, TakesTheNewerNameOfMaxTokens) {
  EXPECT_EQ(parse(body(R"("max_tokens":5,"max_completion_tokens":7)")).generation.max_tokens, 7);
}

TEST(ChatRequest, IgnoresUnknownFieldsAndNulls) {
  EXPECT_EQ(refusal(body(R"("no_such_field":{"a":[1]},"temperature":null,"stop":null,"tools":null,
      "response_format":{"type":"text"},"metadata":{},"store":false,"parallel_tool_calls":true)")),
            "");
}

TEST(ChatRequest, BoundsEveryNumber) {
  const std::pair<const char*, const char*> wrong[] = {{"temperature", "-0.1"},
                                                       {"temperature", "2.1"},
                                                       {"temperature", "\"1\""},
                                                       {"temperature", "true"},
                                                       {"top_p", "0"},
                                                       {"top_p", "1.1"},
                                                       {"top_k", "-2"},
                                                       {"top_k", "1.5"},
                                                       {"top_k", "99999999999"},
                                                       {"min_p", "-1"},
                                                       {"min_p", "2"},
                                                       {"presence_penalty", "2.5"},
                                                       {"frequency_penalty", "-3"},
                                                       {"repetition_penalty", "0"},
                                                       {"repetition_penalty", "3"},
                                                       {"seed", "1.5"},
                                                       {"seed", "\"x\""},
                                                       {"max_tokens", "0"},
                                                       {"max_tokens", "-1"},
                                                       {"max_tokens", "1e18"},
                                                       {"max_tokens", "18446744073709551615"},
                                                       {"max_completion_tokens", "0"},
                                                       {"n", "0"},
                                                       {"n", "17"},
                                                       {"n", "16384"},
                                                       {"min_tokens", "-1"},
                                                       {"top_logprobs", "21"},
                                                       {"top_logprobs", "-1"},
                                                       {"top_logprobs", "1"},
                                                       {"logprobs", "1"},
                                                       {"stream", "1"},
                                                       {"ignore_eos", "\"yes\""},
                                                       {"stop", "1"},
                                                       {"stop", "\"\""},
                                                       {"logit_bias", "[]"},
                                                       {"user", "1"}};
  for (const auto& [field, value] : wrong) {
    if (std::string_view(field) == "user") continue;  // not read: any value is ignored
    const std::string text = body("\"" + std::string(field) + "\":" + value);
    EXPECT_EQ(refusal(text), "invalid_argument " + std::string(field)) << text;
  }
}

TEST(ChatRequest, NamesTheElementAtFault) {
  EXPECT_EQ(refusal(body(R"("stop":["a",3])")), "invalid_argument stop[1]");
  EXPECT_EQ(refusal(body(R"("logit_bias":{"x":1})")), "invalid_argument logit_bias");
  EXPECT_EQ(refusal(body(R"("logit_bias":{"-1":1})")), "invalid_argument logit_bias");
  EXPECT_EQ(refusal(body(R"("logit_bias":{"1":101})")), "invalid_argument logit_bias.1");
  EXPECT_EQ(refusal(body(R"("stream_options":{"include_usage":1},"stream":true)")),
            "invalid_argument stream_options.include_usage");
  EXPECT_EQ(refusal(body(R"("stream_options":{})")), "invalid_argument stream_options");
  EXPECT_EQ(refusal(body(R"("min_tokens":5,"max_tokens":4)")), "invalid_argument min_tokens");
  EXPECT_EQ(refusal(messages(R"([{"role":"user","content":"a"},{"role":"robot","content":"b"}])")),
            "invalid_argument messages[1].role");
}

TEST(ChatRequest, RefusesBodiesThatAreNoChat) {
  EXPECT_EQ(refusal("[]"), "invalid_argument ");
  EXPECT_EQ(refusal("{}"), "invalid_argument messages");
  EXPECT_EQ(refusal(messages("[]")), "invalid_argument messages");
  EXPECT_EQ(refusal(messages("\"hi\"")), "invalid_argument messages");
  EXPECT_EQ(refusal(messages("[1]")), "invalid_argument messages[0]");
  EXPECT_EQ(refusal(messages(R"([{"role":"user"}])")), "invalid_argument messages[0].content");
  EXPECT_EQ(refusal(messages(R"([{"role":"user","content":5}])")),
            "invalid_argument messages[0].content");
}

TEST(ChatRequest, JoinsTextPartsAndRefusesOthers) {
  const ChatRequest request = parse(messages(
      R"([{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
          {"role":"user","content":"c","name":"n"}])"));
  EXPECT_EQ(to_text(request.messages),
            R"([{"role":"system","content":"a\nb"},{"role":"user","content":"c","name":"n"}])");
  EXPECT_EQ(refusal(messages(
                R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])")),
            "unsupported messages[0].content[0].type");
}

TEST(ChatRequest, DoesNotFeedEarlierReasoningBack) {
  const ChatRequest request = parse(messages(
      R"([{"role":"user","content":"q"},
          {"role":"assistant","content":"<think>\nsecret\n</think>\n\nanswer","reasoning_content":"r","reasoning":"r"},
          {"role":"user","content":"<think>mine</think>"}])"));
  EXPECT_EQ(request.messages[1], Json({{"role", "assistant"}, {"content", "answer"}}));
  EXPECT_EQ(request.messages[2]["content"], "<think>mine</think>");
}

TEST(ChatRequest, KeepsToolCallsForTheTemplate) {
  const ChatRequest request = parse(messages(
      R"([{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
            "function":{"name":"f","arguments":"{\"x\":1}"}}]},
          {"role":"tool","tool_call_id":"c1","content":"2"}])"));
  EXPECT_TRUE(request.messages[0]["content"].is_null());
  EXPECT_EQ(request.messages[0]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
  EXPECT_EQ(request.messages[1]["tool_call_id"], "c1");
}

TEST(ChatRequest, PassesToolsAndRefusesToForceThem) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}])";
  EXPECT_EQ(to_text(*parse(body(tools)).tools),
            R"([{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}])");
  EXPECT_TRUE(parse(body(tools + R"(,"tool_choice":"auto")")).tools);
  EXPECT_FALSE(parse(body(tools + R"(,"tool_choice":"none")")).tools);
  EXPECT_EQ(refusal(body(tools + R"(,"tool_choice":"required")")), "unsupported tool_choice");
  EXPECT_EQ(refusal(body(tools + R"(,"tool_choice":{"type":"function","function":{"name":"f"}})")),
            "unsupported tool_choice");
  EXPECT_EQ(refusal(body(tools + R"(,"tool_choice":"maybe")")), "invalid_argument tool_choice");
  EXPECT_EQ(refusal(body(R"("tools":[{"type":"function","function":{}}])")),
            "invalid_argument tools[0].function.name");
}

TEST(ChatRequest, NeverAnswersUnconstrainedWhereAFormWasAskedFor) {
  EXPECT_EQ(refusal(body(R"("response_format":{"type":"json_object"})")),
            "unsupported response_format");
  EXPECT_EQ(refusal(body(R"("response_format":{"type":"json_schema","json_schema":{}})")),
            "unsupported response_format");
  EXPECT_EQ(refusal(body(R"("response_format":{"type":"x"})")),
            "invalid_argument response_format.type");
  EXPECT_EQ(refusal(body(R"("guided_json":{})")), "unsupported guided_json");
  EXPECT_EQ(refusal(body(R"("structured_outputs":{})")), "unsupported structured_outputs");
}

TEST(ChatRequest, AllowsOnlyKnownTemplateVariables) {
  const ChatRequest request = parse(body(
      R"("reasoning_effort":"none","thinking":{"type":"enabled"},"chat_template_kwargs":{"enable_thinking":false})"));
  EXPECT_EQ(*request.variables,
            Json({{"reasoning_effort", "none"}, {"enable_thinking", false}, {"thinking", true}}));
  EXPECT_EQ(refusal(body(R"("chat_template_kwargs":{"messages":[]})")),
            "invalid_argument chat_template_kwargs.messages");
  EXPECT_EQ(refusal(body(R"("chat_template_kwargs":{"thinking":[1]})")),
            "invalid_argument chat_template_kwargs.thinking");
  EXPECT_EQ(refusal(body(R"("reasoning_effort":"huge")")), "invalid_argument reasoning_effort");
  EXPECT_EQ(refusal(body(R"("thinking":{"type":"perhaps"})")), "invalid_argument thinking.type");
}

}  // namespace
}  // namespace ridge::api
