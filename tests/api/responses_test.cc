#include <fmt/format.h>
#include <gtest/gtest.h>

#include "api/responses_answer.h"
#include "api/responses_request.h"
#include "api/stored_response.h"
#include "events.h"
#include "refusal.h"

namespace ridge::api::responses_test {
namespace {

using engine::Delta;
using engine::FinishReason;

std::shared_ptr<const StoredResponse> none(const std::string&) { return nullptr; }

ResponsesRequest parse(const std::string& text, const FindResponse& find = none) {
  return parse_responses_request(parse_json(text), find);
}

std::string input(const std::string& items) { return R"({"input":)" + items + "}"; }

std::string with(const std::string& more) { return R"({"input":"a",)" + more + "}"; }

std::string refusal(const std::string& text) {
  return refusal_of([&] { parse(text); });
}

TEST(ResponsesRequest, ReadsEveryField) {
  const auto request = parse(R"({"model":"m","input":"hi","instructions":"be brief",
      "temperature":0.5,"top_p":0.9,"max_output_tokens":7,"stream":true,"store":false,
      "metadata":{"a":"b"},"parallel_tool_calls":false,"reasoning":{"effort":"low"},
      "tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true}],
      "tool_choice":{"type":"function","name":"f"},"include":["reasoning.encrypted_content"],
      "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}})");
  const ChatRequest& chat = request.chat;
  EXPECT_EQ(chat.generation.model, "m");
  EXPECT_EQ(chat.generation.max_tokens, 7);
  EXPECT_EQ(chat.generation.temperature, 0.5);
  EXPECT_TRUE(chat.generation.stream);
  EXPECT_FALSE(request.store);
  EXPECT_EQ(chat.thinking.variables["reasoning_effort"], "low");
  EXPECT_EQ(chat.tools.tools, Json::parse(R"([{"type":"function","function":{"name":"f",
      "parameters":{"type":"object"},"strict":true}}])"));
  EXPECT_EQ(chat.tools.choice.kind, ToolChoice::Kind::named);
  EXPECT_FALSE(chat.tools.parallel);
  EXPECT_EQ(chat.form.param, "text.format.schema");
  EXPECT_EQ(chat.form.grammar->kind, text::GrammarKind::lenient_json_schema);
  EXPECT_EQ(chat.messages, Json::parse(R"([{"role":"system","content":"be brief"},
                                           {"role":"user","content":"hi"}])"));
  EXPECT_EQ(request.conversation, Json::parse(R"([{"role":"user","content":"hi"}])"));
  EXPECT_EQ(request.echo["metadata"], Json({{"a", "b"}}));
  EXPECT_EQ(request.echo["tools"][0]["name"], "f");
  ASSERT_EQ(request.input.size(), 1u);
  const Json item = Json::parse(request.input[0]);
  EXPECT_TRUE(item["id"].get<std::string>().starts_with("msg_"));
  EXPECT_EQ(item["content"], Json::parse(R"([{"type":"input_text","text":"hi"}])"));
}

TEST(ResponsesRequest, TurnsItemsIntoMessages) {
  const auto request = parse(input(R"([{"role":"developer","content":"d"},
      {"type":"message","role":"user","content":[{"type":"input_text","text":"q"}]},
      {"type":"reasoning","id":"rs_1","summary":[]},
      {"type":"message","id":"msg_7","role":"assistant",
       "content":[{"type":"output_text","text":"I look","annotations":[]}]},
      {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"x\":1}"},
      {"type":"function_call","call_id":"c2","name":"g","arguments":""},
      {"type":"function_call_output","call_id":"c1","output":"42"},
      {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"7"}]}
      ])"));
  EXPECT_EQ(request.chat.messages, Json::parse(R"([{"role":"system","content":"d"},
      {"role":"user","content":"q"},
      {"role":"assistant","content":"I look","tool_calls":[
        {"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
        {"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]},
      {"role":"tool","content":"42","tool_call_id":"c1","name":"f"},
      {"role":"tool","content":"7","tool_call_id":"c2","name":"g"}])"));
  ASSERT_EQ(request.input.size(), 8u);
  EXPECT_EQ(Json::parse(request.input[3])["id"], "msg_7");
  EXPECT_EQ(Json::parse(request.input[7])["output"], "7");
}

TEST(ResponsesRequest, GoesOnFromAnEarlierResponse) {
  const auto earlier = std::make_shared<const StoredResponse>(StoredResponse{
      "resp_1", "", {}, R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])"});
  const auto find = [&](const std::string& id) { return id == "resp_1" ? earlier : nullptr; };
  const auto request =
      parse(R"({"input":"c","previous_response_id":"resp_1","instructions":"now so"})", find);
  EXPECT_EQ(request.chat.messages, Json::parse(R"([{"role":"system","content":"now so"},
      {"role":"user","content":"a"},{"role":"assistant","content":"b"},
      {"role":"user","content":"c"}])"));
  EXPECT_EQ(request.input.size(), 1u) << "only what this request brought";
  EXPECT_EQ(refusal(with(R"("previous_response_id":"resp_1")")), "not_found previous_response_id");
}

TEST(ResponsesRequest, NamesTheFieldAtFault) {
  const std::pair<std::string, std::string> cases[] = {
      {"[]", "invalid_argument "},
      {"{}", "invalid_argument input"},
      {input("7"), "invalid_argument input"},
      {input("[]"), "invalid_argument input"},
      {input("[7]"), "invalid_argument input[0]"},
      {input(R"([{"type":"reasoning"}])"), "invalid_argument input"},
      {input(R"([{"type":"web_search_call"}])"), "unsupported input[0].type"},
      {input(R"([{"type":"item_reference","id":"x"}])"), "unsupported input[0].type"},
      {input(R"([{"role":"robot","content":"a"}])"), "invalid_argument input[0].role"},
      {input(R"([{"role":"tool","content":"a"}])"), "invalid_argument input[0].role"},
      {input(R"([{"role":"user","content":[{"type":"input_image"}]}])"),
       "unsupported input[0].content[0].type"},
      {input(R"([{"type":"function_call","name":"f","arguments":"{}"}])"),
       "invalid_argument input[0].call_id"},
      {input(R"([{"type":"function_call","call_id":"c","name":"f","arguments":{}}])"),
       "invalid_argument input[0].arguments"},
      {input(R"([{"type":"function_call_output","call_id":"c"}])"),
       "invalid_argument input[0].output"},
      {with(R"("max_output_tokens":0)"), "invalid_argument max_output_tokens"},
      {with(R"("instructions":[1])"), "invalid_argument instructions"},
      {with(R"("store":"yes")"), "invalid_argument store"},
      {with(R"("background":true)"), "unsupported background"},
      {with(R"("conversation":"c")"), "unsupported conversation"},
      {with(R"("prompt":{"id":"p"})"), "unsupported prompt"},
      {with(R"("truncation":"auto")"), "unsupported truncation"},
      {with(R"("top_logprobs":21)"), "invalid_argument top_logprobs"},
      {with(R"("n":2)"), "unsupported n"},
      {with(R"("max_output_tokens":2,"min_tokens":3)"), "invalid_argument min_tokens"},
      {with(R"("logit_bias":{"x":1})"), "invalid_argument logit_bias"},
      {with(R"("timeout_ms":0)"), "invalid_argument timeout_ms"},
      {input(R"([{"role":"user","content":"a","status":"done"}])"),
       "invalid_argument input[0].status"},
      {with(R"("tools":[{"type":"web_search"}])"), "unsupported tools[0].type"},
      {with(R"("tools":[{"type":"function"}])"), "invalid_argument tools[0].name"},
      {with(R"("tools":[{"type":"function","name":"f","parameters":7}])"),
       "invalid_argument tools[0].parameters"},
      {with(R"("tool_choice":"required")"), "invalid_argument tool_choice"},
      {with(R"("tool_choice":{"type":"mcp"})"), "unsupported tool_choice.type"},
      {with(R"("tool_choice":{"type":"allowed_tools"})"), "invalid_argument tool_choice.mode"},
      {with(R"("tool_choice":{"type":"allowed_tools","mode":"auto","tools":[]})"),
       "invalid_argument tool_choice.tools"},
      {with(R"("tool_choice":{"type":"allowed_tools","mode":"any","tools":[]})"),
       "invalid_argument tool_choice.mode"},
      {with(R"("tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"allowed_tools",
          "mode":"auto","tools":[{"type":"function","name":"g"}]})"),
       "invalid_argument tool_choice"},
      {with(R"("text":{"format":{"type":"xml"}})"), "invalid_argument text.format.type"},
      {with(R"("text":{"format":{"type":"json_schema"}})"), "invalid_argument text.format.schema"},
      {with(R"("reasoning":{"effort":"huge"})"), "invalid_argument reasoning.effort"},
      {with(R"("metadata":{"a":1})"), "invalid_argument metadata.a"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(refusal(text), expected) << text;
}

TEST(ResponsesRequest, ReadsWhatOnlyEnginesLikeThisOneKnow) {
  const auto request = parse(with(R"("repetition_penalty":1.5,"logit_bias":{"3":-1},"min_tokens":2,
      "ignore_eos":true,"timeout_ms":1500,"n":1,"instructions":"")"));
  const GenerationFields& fields = request.chat.generation;
  EXPECT_EQ(fields.repetition_penalty, 1.5);
  ASSERT_EQ(fields.logit_bias.size(), 1u);
  EXPECT_EQ(fields.min_tokens, 2);
  EXPECT_TRUE(fields.ignore_eos);
  EXPECT_EQ(fields.timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(request.chat.messages.size(), 1u) << "empty instructions are none";
}

TEST(ResponsesRequest, AsksForLogprobsInTwoWays) {
  const auto top = [](const std::string& more) { return parse(with(more)).chat.top_logprobs; };
  EXPECT_EQ(top(R"("store":true)"), -1);
  EXPECT_EQ(top(R"("include":["message.output_text.logprobs"])"), 0);
  EXPECT_EQ(top(R"("include":["message.output_text.logprobs"],"top_logprobs":3)"), 3);
  EXPECT_EQ(top(R"("top_logprobs":2)"), 2);
  EXPECT_EQ(top(R"("top_logprobs":0,"include":["reasoning.encrypted_content"])"), -1);
}

TEST(ResponsesRequest, MayCallOnlyTheToolsThatAreAllowed) {
  const auto tools = [](const std::string& mode) {
    return parse(with(R"("tools":[{"type":"function","name":"f"},{"type":"function","name":"g"},
        {"type":"function","name":"h"}],"tool_choice":{"type":"allowed_tools","mode":")" +
                      mode + R"(","tools":[{"type":"function","name":"h"},
        {"type":"function","name":"f"}]})"))
        .chat.tools;
  };
  const auto functions = callable_functions(tools("auto"));
  ASSERT_EQ(functions.size(), 2u);
  EXPECT_EQ(functions[0].name, "f");
  EXPECT_EQ(functions[1].name, "h");
  EXPECT_EQ(tools("auto").tools.size(), 3u)
      << "the prompt names all, so that it stays in the cache";
  EXPECT_FALSE(tools("auto").must_call());
  EXPECT_TRUE(tools("required").must_call());
}

TEST(ResponsesRequest, KeepsIdsAndStatesOfItsItems) {
  const auto request = parse(input(R"([{"role":"user","content":"a","id":"mine"},
      {"role":"assistant","content":"b","id":"mine","status":"incomplete"}])"));
  ASSERT_EQ(request.input.size(), 2u);
  const Json first = Json::parse(request.input[0]), second = Json::parse(request.input[1]);
  EXPECT_EQ(first["id"], "mine");
  EXPECT_EQ(first["status"], "completed");
  EXPECT_NE(second["id"], "mine") << "a page could not begin behind it";
  EXPECT_EQ(second["status"], "incomplete");
}

TEST(ResponsesRequest, ListsItsInputInPages) {
  StoredResponse stored;
  for (int i = 0; i < 5; ++i) stored.input.push_back(fmt::format(R"({{"id":"i{}"}})", i));
  const auto ids = [&](const std::string& query) {
    const Json list = Json::parse(input_items_body(stored, query));
    std::string text;
    for (const Json& item : list["data"]) text += item["id"].get<std::string>() + " ";
    return text + (list["has_more"].get<bool>() ? "more" : "end");
  };
  EXPECT_EQ(ids(""), "i4 i3 i2 i1 i0 end");
  EXPECT_EQ(ids("order=asc&limit=2"), "i0 i1 more");
  EXPECT_EQ(ids("limit=2&after=i1&order=asc"), "i2 i3 more");
  EXPECT_EQ(ids("after=i4&order=asc"), "end");
  EXPECT_EQ(ids("after=%694&order=asc"), "end") << "as a browser may escape it";
  for (const char* query : {"limit=0", "limit=101", "limit=x", "limit=99999999999999999999",
                            "order=up", "after=i9", "after=%4", "limit=%zz"}) {
    EXPECT_NE(refusal_of([&] { input_items_body(stored, query); }), "") << query;
  }
}

const AnswerHead head = {
    .id = "resp_1", .created_s = 12, .model = "m", .fingerprint = "fp", .prompt_tokens = 5};
const engine::Usage usage = {
    .prompt_tokens = 5, .cached_tokens = 2, .completion_tokens = 3, .reasoning_tokens = 1};

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

TEST(ResponsesStream, TellsEachItemFromItsBeginningToItsEnd) {
  std::vector<StoredResponse> kept;
  const auto answer =
      make_answer(parse(R"({"input":"hi","stream":true,"temperature":0.25})"), head, {},
                  [&](StoredResponse&& response) { kept.push_back(std::move(response)); });
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("", "h"), out);
  answer->add(0, text_delta("so", "m"), out);
  answer->add(0, text_delta("!"), out);
  answer->add(0, call_delta(0, "f", "{\"a\":"), out);
  answer->add(0, call_delta(0, "", "1}"), out);
  answer->finish_choice(0, FinishReason::tool_calls, out);
  EXPECT_TRUE(kept.empty());
  answer->finish(usage, out);
  std::string shape;
  int number = 0;
  const auto events = named_events_of(out);
  for (const auto& [name, data] : events) {
    EXPECT_EQ(data["type"], name);
    EXPECT_EQ(data["sequence_number"], number++);
    shape += name.substr(9) + " ";
  }
  EXPECT_EQ(shape,
            "created in_progress "
            "output_item.added content_part.added reasoning_text.delta reasoning_text.delta "
            "reasoning_text.done content_part.done output_item.done "
            "output_item.added content_part.added output_text.delta output_text.delta "
            "output_text.done content_part.done output_item.done "
            "output_item.added function_call_arguments.delta function_call_arguments.delta "
            "function_call_arguments.done output_item.done completed ");
  const Json& last = events.back().second["response"];
  EXPECT_EQ(last["status"], "completed");
  EXPECT_EQ(last["temperature"], 0.25);
  ASSERT_EQ(last["output"].size(), 3u);
  EXPECT_EQ(last["output"][0]["content"][0]["text"], "hm");
  EXPECT_EQ(last["output"][1]["content"][0]["text"], "so!");
  EXPECT_EQ(last["output"][2]["arguments"], "{\"a\":1}");
  EXPECT_EQ(last["output"][2], events[events.size() - 2].second["item"]);
  EXPECT_EQ(last["usage"], Json::parse(R"({"input_tokens":5,"input_tokens_details":
      {"cached_tokens":2,"cache_write_tokens":0},"output_tokens":3,
      "output_tokens_details":{"reasoning_tokens":1},"total_tokens":8})"));
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(Json::parse(kept[0].body), last);
  const Json conversation = Json::parse(kept[0].conversation);
  ASSERT_EQ(conversation.size(), 2u);
  EXPECT_EQ(conversation[1]["content"], "so!");
  EXPECT_EQ(conversation[1]["tool_calls"][0]["id"], last["output"][2]["call_id"]);
}

TEST(ResponsesStream, SaysWhatCutItOff) {
  const auto answer = make_answer(parse(R"({"input":"hi","stream":true})"), head, {}, {});
  std::string out;
  answer->add(0, text_delta("a"), out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  const auto [name, data] = named_events_of(out).back();
  EXPECT_EQ(name, "response.incomplete");
  EXPECT_EQ(data["response"]["incomplete_details"], Json({{"reason", "max_output_tokens"}}));
  EXPECT_EQ(data["response"]["output"][0]["status"], "incomplete");
}

TEST(ResponsesStream, EndsAsFailed) {
  const auto answer = make_answer(parse(R"({"input":"hi","stream":true})"), head, {}, {});
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("a"), out);
  answer->fail(Error(ErrorCode::internal, "/secret"), "r", out);
  const auto [name, data] = named_events_of(out).back();
  EXPECT_EQ(name, "response.failed");
  EXPECT_EQ(data["response"]["status"], "failed");
  EXPECT_EQ(data["response"]["error"]["code"], "server_error");
  EXPECT_EQ(out.find("secret"), std::string::npos);
}

// A stream whose response goes to `kept`, which must outlive it.
std::unique_ptr<Answer> make_stream_kept_in(std::vector<StoredResponse>& kept) {
  return make_answer(parse(R"({"input":"hi","stream":true})"), head, {},
                     [&kept](StoredResponse&& response) { kept.push_back(std::move(response)); });
}

TEST(ResponsesStream, KeepsWhatFailed) {
  std::vector<StoredResponse> kept;
  const auto answer = make_stream_kept_in(kept);
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("a"), out);
  answer->fail(Error(ErrorCode::internal, "/secret"), "r", out);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(Json::parse(kept[0].body), named_events_of(out).back().second["response"]);
  EXPECT_EQ(Json::parse(kept[0].conversation).size(), 1u) << "half an answer is not gone on from";
}

Delta with_token(Delta delta, std::string bytes) {
  delta.tokens.push_back({.picked = {.token = 1, .logprob = -0.5f, .bytes = std::move(bytes)},
                          .top = {{.token = 2, .logprob = -0.25f, .bytes = "z"}}});
  return delta;
}

// Their shape is the openai package's ResponseTextDeltaEvent and ResponseOutputText.
TEST(ResponsesStream, HasTheLogprobsOfItsText) {
  const auto answer =
      make_answer(parse(R"({"input":"hi","stream":true,"top_logprobs":1})"), head, {}, {});
  std::string out;
  answer->begin(out);
  answer->add(0, with_token(text_delta("", "hm"), "hm"), out);
  answer->add(0, with_token(text_delta("a"), "a"), out);
  answer->add(0, with_token(text_delta("b"), "b"), out);
  answer->finish_choice(0, FinishReason::stop, out);
  answer->finish(usage, out);
  const Json one = Json::parse(R"([{"token":"a","logprob":-0.5,"bytes":[97],
      "top_logprobs":[{"token":"z","logprob":-0.25,"bytes":[122]}]}])");
  const auto events = named_events_of(out);
  std::vector<Json> deltas;
  for (const auto& [name, data] : events) {
    if (name == "response.output_text.delta") deltas.push_back(data["logprobs"]);
  }
  ASSERT_EQ(deltas.size(), 2u);
  EXPECT_EQ(deltas[0], one);
  const Json& text = events.back().second["response"]["output"][1]["content"][0];
  ASSERT_EQ(text["logprobs"].size(), 2u) << "those of the thoughts are left out";
  EXPECT_EQ(text["logprobs"][0], one[0]);
  EXPECT_EQ(text["logprobs"][1]["token"], "b");
}

// A client that asks for the events of a response sees them as they were, but for how the text was
// cut.
TEST(StoredResponse, IsStreamedAgain) {
  std::vector<StoredResponse> kept;
  const auto answer = make_stream_kept_in(kept);
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("a", "hm"), out);
  answer->add(0, call_delta(0, "f", "{}"), out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  ASSERT_EQ(kept.size(), 1u);
  const auto again = response_body(kept[0], "stream=true");
  EXPECT_EQ(again.content_type, event_stream_type);
  EXPECT_EQ(again.text, out);
  EXPECT_EQ(response_body(kept[0], "").text, kept[0].body);
  EXPECT_EQ(response_body(kept[0], "stream=false").content_type, "application/json");
  const auto events = named_events_of(out);
  const auto rest = named_events_of(response_body(kept[0], "stream=true&starting_after=3").text);
  ASSERT_EQ(rest.size(), events.size() - 4);
  EXPECT_EQ(rest.front(), events[4]);
  for (const char* query : {"stream=yes", "stream=true&starting_after=x"}) {
    EXPECT_NE(refusal_of([&] { response_body(kept[0], query); }), "") << query;
  }
}

TEST(ResponsesDocument, HoldsItsOutput) {
  const auto answer = make_answer(parse(R"({"input":"hi"})"), head, {.temperature = 0.6f}, {});
  EXPECT_FALSE(answer->streams());
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("a"), out);
  answer->finish_choice(0, FinishReason::stop, out);
  EXPECT_EQ(out, "");
  answer->finish(usage, out);
  const Json body = Json::parse(out);
  EXPECT_EQ(body["id"], "resp_1");
  EXPECT_EQ(body["object"], "response");
  EXPECT_EQ(body["status"], "completed");
  EXPECT_EQ(body["store"], true);
  EXPECT_FLOAT_EQ(body["temperature"].get<float>(), 0.6f);
  EXPECT_EQ(body["output"][0]["content"][0], Json::parse(R"({"type":"output_text","text":"a",
      "annotations":[],"logprobs":[]})"));
}

}  // namespace
}  // namespace ridge::api::responses_test
