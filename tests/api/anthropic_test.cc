#include <gtest/gtest.h>

#include "api/anthropic_answer.h"
#include "api/anthropic_request.h"
#include "api/error_body.h"
#include "api/parted_answer.h"
#include "events.h"
#include "refusal.h"

namespace ridge::api::anthropic_test {
namespace {

using engine::Delta;
using engine::FinishReason;

AnthropicRequest parse(const std::string& text) {
  return parse_anthropic_request(parse_json(text));
}

// A body with one message and `more` members.
std::string body(const std::string& more = "") {
  return R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}])" +
         (more.empty() ? "" : "," + more) + "}";
}

std::string messages(const std::string& list) {
  return R"({"max_tokens":9,"messages":)" + list + "}";
}

std::string refusal(const std::string& text) {
  return refusal_of([&] { parse(text); });
}

TEST(AnthropicRequest, ReadsEveryField) {
  const ChatRequest chat = parse(body(R"("system":"be brief","temperature":0.5,"top_p":0.9,
      "top_k":40,"stop_sequences":["a","b"],"stream":true,"metadata":{"user_id":"u"},
      "thinking":{"type":"enabled","budget_tokens":7},"output_config":{"effort":"max"},
      "service_tier":"auto","tools":[{"name":"f","description":"d","input_schema":{"type":"object"},
      "cache_control":{"type":"ephemeral"}}],"tool_choice":{"type":"any",
      "disable_parallel_tool_use":true})"))
                               .chat;
  EXPECT_EQ(chat.generation.model, "m");
  EXPECT_EQ(chat.generation.max_tokens, 9);
  EXPECT_EQ(chat.generation.temperature, 0.5);
  EXPECT_EQ(chat.generation.top_p, 0.9);
  EXPECT_EQ(chat.generation.top_k, 40);
  EXPECT_EQ(chat.generation.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(chat.generation.stream);
  EXPECT_EQ(chat.thinking.enabled, true);
  EXPECT_EQ(chat.thinking.budget_tokens, 7);
  EXPECT_EQ(chat.thinking.variables["reasoning_effort"], "max");
  EXPECT_EQ(chat.tools.tools,
            Json::parse(R"([{"type":"function","function":{"name":"f","description":"d",
                            "parameters":{"type":"object"}}}])"));
  EXPECT_EQ(chat.tools.choice.kind, ToolChoice::Kind::required);
  EXPECT_FALSE(chat.tools.parallel);
  EXPECT_EQ(chat.messages, Json::parse(R"([{"role":"system","content":"be brief"},
                                           {"role":"user","content":"hi"}])"));
}

TEST(AnthropicRequest, TurnsBlocksIntoMessages) {
  const ChatRequest chat = parse(R"({"max_tokens":1,"system":[{"type":"text","text":"a"},
    {"type":"text","text":"b","cache_control":{"type":"ephemeral"}}],"messages":[
    {"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]},
    {"role":"user","content":"three"},
    {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
      {"type":"text","text":"I look"},{"type":"tool_use","id":"t1","name":"f","input":{"x":1}},
      {"type":"tool_use","id":"t2","name":"g","input":{}}]},
    {"role":"user","content":[
      {"type":"tool_result","tool_use_id":"t1","content":"42"},
      {"type":"tool_result","tool_use_id":"t2","is_error":true,
       "content":[{"type":"text","text":"no"},{"type":"text","text":"way"}]},
      {"type":"text","text":"and now?"}]}]})")
                               .chat;
  EXPECT_EQ(chat.messages, Json::parse(R"([{"role":"system","content":"a\nb"},
    {"role":"user","content":"one\ntwo\nthree"},
    {"role":"assistant","content":"I look","tool_calls":[
      {"id":"t1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
      {"id":"t2","type":"function","function":{"name":"g","arguments":"{}"}}]},
    {"role":"tool","content":"42","tool_call_id":"t1","name":"f"},
    {"role":"tool","content":"Error: no\nway","tool_call_id":"t2","name":"g"},
    {"role":"user","content":"and now?"}])"));
  EXPECT_FALSE(chat.tools.may_call());
}

TEST(AnthropicRequest, NamesTheToolThatMustBeCalled) {
  const std::string tools = R"("tools":[{"name":"f","input_schema":{}}])";
  EXPECT_EQ(parse(body(tools)).chat.tools.choice.kind, ToolChoice::Kind::automatic);
  const auto named = parse(body(tools + R"(,"tool_choice":{"type":"tool","name":"f"})"));
  EXPECT_EQ(named.chat.tools.choice.kind, ToolChoice::Kind::named);
  EXPECT_EQ(named.chat.tools.choice.name, "f");
  const auto none = parse(body(tools + R"(,"tool_choice":{"type":"none"})"));
  EXPECT_FALSE(none.chat.tools.may_call());
}

TEST(AnthropicRequest, EnforcesItsOutputFormat) {
  const std::string format = R"({"type":"json_schema","schema":{"type":"object"}})";
  const auto request = parse(body(R"("output_config":{"format":)" + format + "}"));
  ASSERT_TRUE(request.chat.form.grammar);
  EXPECT_EQ(request.chat.form.grammar->kind, text::GrammarKind::json_schema);
  EXPECT_EQ(request.chat.form.param, "output_config.format.schema");
}

TEST(AnthropicRequest, NamesTheFieldAtFault) {
  const std::pair<std::string, std::string> cases[] = {
      {"[]", "invalid_argument "},
      {"{}", "invalid_argument messages"},
      {R"({"max_tokens":1,"messages":[]})", "invalid_argument messages"},
      {R"({"messages":[{"role":"user","content":"a"}]})", "invalid_argument max_tokens"},
      {R"({"max_tokens":0,"messages":[{"role":"user","content":"a"}]})",
       "invalid_argument max_tokens"},
      {R"({"max_tokens":-9e99,"messages":[{"role":"user","content":"a"}]})",
       "invalid_argument max_tokens"},
      {messages(R"([1])"), "invalid_argument messages[0]"},
      {messages(R"([{"role":"tool","content":"a"}])"), "invalid_argument messages[0].role"},
      {messages(R"([{"role":"user"}])"), "invalid_argument messages[0].content"},
      {messages(R"([{"role":"user","content":5}])"), "invalid_argument messages[0].content"},
      {messages(R"([{"role":"assistant","content":{}}])"), "invalid_argument messages[0].content"},
      {messages(R"([{"role":"user","content":[{"text":"a"}]}])"),
       "invalid_argument messages[0].content[0].type"},
      {messages(R"([{"role":"user","content":[{"type":"text"}]}])"),
       "invalid_argument messages[0].content[0].text"},
      {messages(R"([{"role":"user","content":[{"type":"image","source":{}}]}])"),
       "unsupported messages[0].content[0].type"},
      {messages(R"([{"role":"user","content":[{"type":"document"}]}])"),
       "unsupported messages[0].content[0].type"},
      {messages(R"([{"role":"user","content":[{"type":"tool_use","id":"i","name":"f"}]}])"),
       "unsupported messages[0].content[0].type"},
      {messages(R"([{"role":"user","content":[{"type":"tool_result"}]}])"),
       "invalid_argument messages[0].content[0].tool_use_id"},
      {messages(R"([{"role":"user","content":[{"type":"tool_result","tool_use_id":"i",
                     "content":[{"type":"image"}]}]}])"),
       "unsupported messages[0].content[0].content[0].type"},
      {messages(R"([{"role":"assistant","content":[{"type":"tool_use","name":"f"}]}])"),
       "invalid_argument messages[0].content[0].id"},
      {messages(R"([{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f",
                     "input":"x"}]}])"),
       "invalid_argument messages[0].content[0].input"},
      {messages(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])"),
       "unsupported messages"},
      {body(R"("system":7)"), "invalid_argument system"},
      {body(R"("system":[{"type":"image"}])"), "unsupported system[0].type"},
      {body(R"("temperature":3)"), "invalid_argument temperature"},
      {body(R"("top_p":0)"), "invalid_argument top_p"},
      {body(R"("top_k":-2)"), "invalid_argument top_k"},
      {body(R"("stream":1)"), "invalid_argument stream"},
      {body(R"("stop_sequences":[""])"), "invalid_argument stop_sequences[0]"},
      {body(R"("stop_sequences":{})"), "invalid_argument stop_sequences"},
      {body(R"("thinking":{"type":"loud"})"), "invalid_argument thinking.type"},
      {body(R"("thinking":{"type":"enabled","budget_tokens":-1})"),
       "invalid_argument thinking.budget_tokens"},
      {body(R"("tools":[{"type":"web_search_20250305","name":"web_search"}])"),
       "unsupported tools[0].type"},
      {body(R"("tools":[{"input_schema":{}}])"), "invalid_argument tools[0].name"},
      {body(R"("tools":[{"name":"a b"}])"), "invalid_argument tools[0].name"},
      {body(R"("tools":[{"name":"a"},{"name":"a"}])"), "invalid_argument tools[1].name"},
      {body(R"("tools":[{"name":"a","input_schema":[]}])"),
       "invalid_argument tools[0].input_schema"},
      {body(R"("tool_choice":{"type":"any"})"), "invalid_argument tool_choice"},
      {body(R"("tools":[{"name":"a"}],"tool_choice":{"type":"required"})"),
       "invalid_argument tool_choice.type"},
      {body(R"("tools":[{"name":"a"}],"tool_choice":{"type":"tool"})"),
       "invalid_argument tool_choice.name"},
      {body(R"("tools":[{"name":"a"}],"tool_choice":{"type":"tool","name":"b"})"),
       "invalid_argument tool_choice"},
      {body(R"("output_config":{"format":{"type":"xml"}})"),
       "unsupported output_config.format.type"},
      {body(R"("output_config":{"effort":"huge"})"), "invalid_argument output_config.effort"},
      {body(R"("n":2)"), "unsupported n"},
      {body(R"("logprobs":true)"), "unsupported logprobs"},
      {body(R"("top_logprobs":2)"), "unsupported top_logprobs"},
      {body(R"("logit_bias":[])"), "invalid_argument logit_bias"},
      {body(R"("timeout_ms":-1)"), "invalid_argument timeout_ms"},
      {body(R"("repetition_penalty":0)"), "invalid_argument repetition_penalty"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(refusal(text), expected) << text;
}

TEST(AnthropicRequest, ReadsWhatOnlyEnginesLikeThisOneKnow) {
  const auto request = parse(body(R"("repetition_penalty":1.5,"logit_bias":{"3":-1},"min_tokens":1,
      "timeout_ms":1500,"n":1,"logprobs":false)"));
  const GenerationFields& fields = request.chat.generation;
  EXPECT_EQ(fields.repetition_penalty, 1.5);
  EXPECT_EQ(fields.logit_bias.size(), 1u);
  EXPECT_EQ(fields.min_tokens, 1);
  EXPECT_EQ(fields.timeout, std::chrono::milliseconds(1500));
}

TEST(AnthropicRequest, CountsTokensWithoutMaxTokens) {
  const Json document = parse_json(R"({"messages":[{"role":"user","content":"a"}]})");
  EXPECT_EQ(parse_count_tokens_request(document).messages.size(), 1u);
  EXPECT_EQ(token_count_body(12), R"({"input_tokens":12})");
}

const AnswerHead head = {
    .id = "msg_1", .created_s = 12, .model = "m\"", .fingerprint = "fp", .prompt_tokens = 5};
const engine::Usage usage = {
    .prompt_tokens = 5, .cached_tokens = 2, .completion_tokens = 3, .reasoning_tokens = 1};

AnthropicRequest asked(bool stream) {
  AnthropicRequest request;
  request.chat.generation.stream = stream;
  return request;
}

Delta text_delta(std::string content, std::string reasoning = "") {
  Delta delta;
  delta.pieces.add_content(content);
  delta.reasoning = std::move(reasoning);
  return delta;
}

Delta call_delta(int index, std::string name, std::string arguments) {
  Delta delta;
  delta.pieces.add_call({index, !name.empty(), std::move(name), std::move(arguments)});
  return delta;
}

TEST(AnthropicStream, OpensAndClosesEachBlock) {
  const auto answer = make_answer(asked(true), head);
  EXPECT_TRUE(answer->streams());
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("", "h"), out);
  answer->add(0, text_delta("so\n", "m"), out);
  answer->add(0, text_delta(""), out);
  answer->add(0, call_delta(0, "f", "{\"a\":"), out);
  answer->add(0, call_delta(0, "", "1}"), out);
  answer->add(0, call_delta(1, "g", ""), out);
  answer->finish_choice(0, FinishReason::tool_calls, out);
  answer->finish(usage, out);
  const auto events = named_events_of(out);
  std::string shape;
  for (const auto& [name, data] : events) {
    EXPECT_EQ(data["type"], name);
    shape += name.starts_with("content_block_")
                 ? name.substr(14) + std::to_string(data["index"].get<int>()) + " "
                 : name + " ";
  }
  EXPECT_EQ(shape,
            "message_start start0 delta0 delta0 delta0 stop0 start1 delta1 stop1 start2 delta2 "
            "delta2 stop2 start3 stop3 message_delta message_stop ");
  EXPECT_EQ(events[0].second["message"],
            Json::parse(R"({"id":"msg_1","type":"message","role":"assistant","model":"m\"",
      "content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,
      "cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0,
      "output_tokens_details":{"thinking_tokens":0}}})"));
  EXPECT_EQ(events[1].second["content_block"],
            Json::parse(R"({"type":"thinking","thinking":"","signature":""})"));
  EXPECT_EQ(events[2].second["delta"], Json::parse(R"({"type":"thinking_delta","thinking":"h"})"));
  EXPECT_EQ(events[3].second["delta"], Json::parse(R"({"type":"thinking_delta","thinking":"m"})"));
  EXPECT_EQ(events[4].second["delta"]["type"], "signature_delta");
  EXPECT_EQ(events[7].second["delta"], Json::parse(R"({"type":"text_delta","text":"so\n"})"));
  const Json& call = events[9].second["content_block"];
  EXPECT_EQ(call["name"], "f");
  EXPECT_EQ(call["input"], Json::object());
  EXPECT_TRUE(call["id"].get<std::string>().starts_with("toolu_"));
  EXPECT_EQ(events[11].second["delta"],
            Json::parse(R"({"type":"input_json_delta","partial_json":"1}"})"));
  EXPECT_EQ(events[15].second["delta"],
            Json::parse(R"({"stop_reason":"tool_use","stop_sequence":null})"));
  EXPECT_EQ(events[15].second["usage"],
            Json::parse(R"({"input_tokens":3,"cache_creation_input_tokens":0,
      "cache_read_input_tokens":2,"output_tokens":3,"output_tokens_details":{"thinking_tokens":1}})"));
}

TEST(AnthropicStream, HidesThoughtsWhereItIsAskedTo) {
  AnthropicRequest request = asked(true);
  request.hides_thinking = true;
  const auto answer = make_answer(request, head);
  std::string out;
  answer->add(0, text_delta("so", "secret"), out);
  answer->finish_choice(0, FinishReason::stop, out);
  EXPECT_EQ(out.find("secret"), std::string::npos);
  EXPECT_NE(out.find("signature_delta"), std::string::npos);
}

TEST(AnthropicStream, EndsWithAnErrorOfItsOwn) {
  const auto answer = make_answer(asked(true), head);
  std::string out;
  answer->fail(Error(ErrorCode::unavailable, "bye"), "r", out);
  answer->fail(Error(ErrorCode::internal, "/secret"), "r", out);
  const auto events = named_events_of(out);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].first, "error");
  EXPECT_EQ(events[0].second, Json::parse(R"({"type":"error","error":{"type":"overloaded_error",
                                              "message":"bye"},"request_id":"r"})"));
  EXPECT_EQ(events[1].second["error"]["type"], "api_error");
  EXPECT_EQ(out.find("secret"), std::string::npos);
  EXPECT_EQ(named_events_of(answer->heartbeat())[0].first, "ping");
}

TEST(AnthropicDocument, HoldsItsBlocks) {
  const auto answer = make_answer(asked(false), head);
  EXPECT_FALSE(answer->streams());
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("a", "hm"), out);
  answer->add(0, text_delta("b"), out);
  answer->add(0, call_delta(0, "f", "{\"a\":"), out);
  answer->add(0, call_delta(0, "", "[1]}"), out);
  answer->add(0, call_delta(1, "g", "{\"a"), out);
  answer->finish_choice(0, FinishReason::length, out);
  EXPECT_EQ(out, "");
  answer->finish(usage, out);
  const Json message = Json::parse(out);
  EXPECT_EQ(message["stop_reason"], "max_tokens");
  const Json& content = message["content"];
  ASSERT_EQ(content.size(), 4u);
  EXPECT_EQ(content[0]["thinking"], "hm");
  EXPECT_FALSE(content[0]["signature"].get<std::string>().empty());
  EXPECT_EQ(content[1], Json::parse(R"({"type":"text","text":"ab"})"));
  EXPECT_EQ(content[2]["input"], Json::parse(R"({"a":[1]})"));
  EXPECT_EQ(content[3]["input"], Json::parse(R"({"invalid_json":"{\"a"})"));
}

TEST(AnthropicDocument, SaysWhatEndedIt) {
  const auto says = [](FinishReason reason, const std::string& stop) {
    const auto answer = make_answer(asked(false), head);
    std::string out;
    Delta delta = text_delta("a");
    delta.stop_sequence = stop;
    answer->add(0, delta, out);
    answer->finish_choice(0, reason, out);
    answer->finish(usage, out);
    const Json message = Json::parse(out);
    return message["stop_reason"].get<std::string>() + " " + to_text(message["stop_sequence"]);
  };
  EXPECT_EQ(says(FinishReason::stop, ""), "end_turn null");
  EXPECT_EQ(says(FinishReason::stop, "x\""), R"(stop_sequence "x\"")");
  EXPECT_EQ(says(FinishReason::tool_calls, ""), "tool_use null");
  EXPECT_EQ(says(FinishReason::length, ""), "max_tokens null");
}

TEST(AnthropicDocument, DoesNotFollowArgumentsWithoutABottom) {
  const auto nested = [](std::size_t levels) {
    return R"({"a":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  EXPECT_TRUE(arguments_object(nested(60)).contains("a"));
  for (const std::size_t levels : {64u, 100'000u}) {
    const Json kept = arguments_object(nested(levels));
    EXPECT_EQ(kept["invalid_json"], nested(levels));
  }
}

TEST(AnthropicError, HasItsOwnForm) {
  EXPECT_EQ(
      error_body(Error(ErrorCode::invalid_argument, "bad \"x\"", "x"), "r", ErrorStyle::anthropic),
      R"({"type":"error","error":{"type":"invalid_request_error","message":"bad \"x\""},"request_id":"r"})");
  EXPECT_EQ(status_of(Error(ErrorCode::unavailable, "m"), ErrorStyle::anthropic), 529);
  EXPECT_EQ(status_of(Error(ErrorCode::unavailable, "m"), ErrorStyle::openai), 503);
  EXPECT_EQ(status_of(Error(ErrorCode::queue_full, "m"), ErrorStyle::anthropic), 429);
  EXPECT_EQ(
      error_body(413, "payload_too_large", "large", "r", ErrorStyle::anthropic),
      R"({"type":"error","error":{"type":"request_too_large","message":"large"},"request_id":"r"})");
}

}  // namespace
}  // namespace ridge::api::anthropic_test
