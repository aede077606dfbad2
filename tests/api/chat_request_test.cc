#include "api/chat_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "refusal.h"

namespace ridge::api::chat_request_test {
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
  EXPECT_FALSE(request.tools.may_call());
  EXPECT_FALSE(request.form.grammar);
  EXPECT_FALSE(request.thinking.enabled);
  EXPECT_TRUE(request.thinking.variables.empty());
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

TEST(ChatRequest, ReadsToolsAndWhetherToCallThem) {
  using Kind = ToolChoice::Kind;
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2},"strict":true}},
                  {"type":"function","function":{"name":"g-2"}}])";
  const ToolFields fields = parse(body(tools)).tools;
  EXPECT_EQ(
      to_text(fields.tools[0]),
      R"({"type":"function","function":{"name":"f","parameters":{"z":1,"a":2},"strict":true}})");
  EXPECT_TRUE(fields.may_call() && !fields.must_call() && fields.parallel);
  const auto functions = callable_functions(fields);
  ASSERT_EQ(functions.size(), 2u);
  EXPECT_EQ(functions[0].parameters, R"({"z":1,"a":2})");
  EXPECT_TRUE(functions[0].strict && !functions[1].strict);

  const auto with = [&](const std::string& choice) {
    return parse(body(tools + R"(,"parallel_tool_calls":false,"tool_choice":)" + choice)).tools;
  };
  EXPECT_FALSE(with("\"none\"").may_call());
  EXPECT_FALSE(with("\"auto\"").parallel);
  EXPECT_TRUE(with("\"required\"").must_call());
  const ToolFields named = with(R"({"type":"function","function":{"name":"g-2"}})");
  EXPECT_EQ(named.choice.kind, Kind::named);
  ASSERT_EQ(callable_functions(named).size(), 1u);
  EXPECT_EQ(callable_functions(named)[0].name, "g-2");

  const auto refused = [&](const std::string& choice) {
    return refusal(body(tools + R"(,"tool_choice":)" + choice));
  };
  EXPECT_EQ(refused("\"maybe\""), "invalid_argument tool_choice");
  EXPECT_EQ(refused(R"({"type":"function","function":{"name":"h"}})"),
            "invalid_argument tool_choice");
  EXPECT_EQ(refused(R"({"type":"custom"})"), "unsupported tool_choice.type");
  EXPECT_EQ(refused(R"({"type":"allowed_tools"})"), "invalid_argument tool_choice.allowed_tools");
  EXPECT_EQ(refusal(body(R"("tool_choice":"required")")), "invalid_argument tool_choice");
}

TEST(ChatRequest, MayCallOnlyTheToolsThatAreAllowed) {
  const auto request = parse(body(R"("tools":[{"type":"function","function":{"name":"f"}},
      {"type":"function","function":{"name":"g"}}],"tool_choice":{"type":"allowed_tools",
      "allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}})"));
  EXPECT_TRUE(request.tools.must_call());
  const auto functions = callable_functions(request.tools);
  ASSERT_EQ(functions.size(), 1u);
  EXPECT_EQ(functions[0].name, "g");
}

TEST(ChatRequest, RefusesBadTools) {
  const auto refused = [&](const std::string& tools) {
    return refusal(body(R"("tools":[)" + tools + "]"));
  };
  EXPECT_EQ(refused(R"({"type":"function","function":{}})"),
            "invalid_argument tools[0].function.name");
  EXPECT_EQ(refused(R"({"type":"function","function":{"name":"a b\""}})"),
            "invalid_argument tools[0].function.name");
  EXPECT_EQ(refused(R"({"function":{"name":"a"}},{"function":{"name":"a"}})"),
            "invalid_argument tools[1].function.name");
  EXPECT_EQ(refused(R"({"function":{"name":"a","strict":"yes"}})"),
            "invalid_argument tools[0].function.strict");
  EXPECT_EQ(refused(R"({"type":"web_search"})"), "unsupported tools[0].type");
}

std::string grammar_of(const std::string& more) {
  const OutputForm form = parse(body(more)).form;
  if (!form.grammar) return "none";
  return fmt::format("{} {} {}", form.param, static_cast<int>(form.grammar->kind),
                     form.grammar->text);
}

TEST(ChatRequest, ReadsTheFormOfTheAnswer) {
  EXPECT_EQ(grammar_of(R"("response_format":{"type":"text"})"), "none");
  EXPECT_EQ(grammar_of(R"("response_format":{"type":"json_object"})"),
            R"(response_format 0 {"type":"object"})");
  EXPECT_EQ(grammar_of(R"("response_format":{"type":"json_schema","json_schema":{"name":"n",
                          "strict":true,"schema":{"b":1,"a":2}}})"),
            R"(response_format 0 {"b":1,"a":2})");
  EXPECT_EQ(grammar_of(R"("response_format":{"type":"json_schema","json_schema":{"schema":{}}})"),
            "response_format 1 {}");
  EXPECT_EQ(grammar_of(R"("guided_json":"{\"type\":\"null\"}")"),
            R"(guided_json 0 {"type":"null"})");
  EXPECT_EQ(grammar_of(R"("guided_regex":"a+")"), "guided_regex 2 a+");
  EXPECT_EQ(grammar_of(R"("guided_choice":["a.b","c|d"])"), R"(guided_choice 2 (a\.b|c\|d))");
  EXPECT_EQ(grammar_of(R"("guided_grammar":"start: \"a\"")"), R"(guided_grammar 3 start: "a")");
  EXPECT_EQ(grammar_of(R"("structured_outputs":{"regex":"x","choice":null})"),
            "structured_outputs.regex 2 x");
  EXPECT_EQ(grammar_of(R"("structured_outputs":{})"), "none");
  EXPECT_EQ(grammar_of(R"("json_schema":true)"), "json_schema 0 true");
}

TEST(ChatRequest, RefusesAFormThatCannotBeHeld) {
  EXPECT_EQ(refusal(body(R"("response_format":{"type":"x"})")),
            "invalid_argument response_format.type");
  EXPECT_EQ(refusal(body(R"("response_format":{"type":"json_schema"})")),
            "invalid_argument response_format.json_schema");
  EXPECT_EQ(refusal(body(R"("response_format":{"type":"json_schema","json_schema":{}})")),
            "invalid_argument response_format.json_schema.schema");
  EXPECT_EQ(refusal(body(R"("guided_json":[])")), "invalid_argument guided_json");
  EXPECT_EQ(refusal(body(R"("guided_json":"no json")")), "invalid_argument guided_json");
  EXPECT_EQ(refusal(body(R"("guided_choice":[])")), "invalid_argument guided_choice");
  EXPECT_EQ(refusal(body(R"("guided_choice":["a",1])")), "invalid_argument guided_choice[1]");
  EXPECT_EQ(refusal(body(R"("guided_grammar":"root ::= \"a\"")")), "unsupported guided_grammar");
  EXPECT_EQ(refusal(body(R"("grammar":"root ::= \"a\"")")), "unsupported grammar");
  EXPECT_EQ(refusal(body(R"("structured_outputs":{"structural_tag":{}})")),
            "unsupported structured_outputs.structural_tag");
  EXPECT_EQ(refusal(body(R"("guided_regex":"a","structured_outputs":{"json":{}})")),
            "invalid_argument structured_outputs.json");
}

TEST(ChatRequest, ReadsHowMuchToThink) {
  const auto thinking = [](const std::string& more) { return parse(body(more)).thinking; };
  EXPECT_EQ(thinking(R"("thinking_budget":7)").budget_tokens, 7);
  EXPECT_EQ(thinking(R"("thinking_token_budget":7)").budget_tokens, 7);
  EXPECT_EQ(thinking(R"("thinking":{"type":"enabled","budget_tokens":1024})").budget_tokens, 1024);
  EXPECT_EQ(thinking(R"("chat_template_kwargs":{"thinking_budget":0})").budget_tokens, 0);
  EXPECT_EQ(thinking(R"("enable_thinking":false)").enabled, false);
  EXPECT_EQ(thinking(R"("reasoning_effort":"none")").enabled, false);
  EXPECT_FALSE(thinking(R"("reasoning_effort":"high")").enabled);
  EXPECT_EQ(refusal(body(R"("thinking_budget":-1)")), "invalid_argument thinking_budget");
  EXPECT_EQ(refusal(body(R"("enable_thinking":"no")")), "invalid_argument enable_thinking");
}

TEST(ChatRequest, AllowsOnlyKnownTemplateVariables) {
  const ChatRequest request = parse(body(
      R"("reasoning_effort":"none","thinking":{"type":"enabled"},"chat_template_kwargs":{"enable_thinking":false})"));
  EXPECT_EQ(request.thinking.variables,
            Json({{"reasoning_effort", "none"}, {"enable_thinking", false}, {"thinking", true}}));
  const ChatRequest other = parse(body(R"("chat_template_kwargs":{"messages":[],"x":1})"));
  EXPECT_EQ(other.thinking.variables, Json::object()) << "no template is given these";
  EXPECT_EQ(other.thinking.unknown_variables, (std::vector<std::string>{"messages", "x"}));
  EXPECT_EQ(refusal(body(R"("chat_template_kwargs":{"thinking":[1]})")),
            "invalid_argument chat_template_kwargs.thinking");
  EXPECT_EQ(refusal(body(R"("reasoning_effort":"huge")")), "invalid_argument reasoning_effort");
  EXPECT_EQ(refusal(body(R"("thinking":{"type":"perhaps"})")), "invalid_argument thinking.type");
}

TEST(ChatRequest, ReadsAPriority) {
  EXPECT_EQ(parse(body(R"("n":1)")).generation.priority, 0);
  EXPECT_EQ(parse(body(R"("priority":-7)")).generation.priority, -7);
  EXPECT_EQ(refusal(body(R"("priority":1001)")), "invalid_argument priority");
  EXPECT_EQ(refusal(body(R"("priority":"high")")), "invalid_argument priority");
}

}  // namespace
}  // namespace ridge::api::chat_request_test
