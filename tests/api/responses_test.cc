#include <fmt/format.h>
#include <gtest/gtest.h>

#include "api/responses_answer.h"
#include "api/responses_request.h"
#include "events.h"
#include "refusal.h"

namespace ridge::api {
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
  EXPECT_EQ(refusal(with(R"("previous_response_id":"resp_1")")),
            "invalid_argument previous_response_id");
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
      {with(R"("top_logprobs":2)"), "unsupported top_logprobs"},
      {with(R"("include":["message.output_text.logprobs"])"), "unsupported include"},
      {with(R"("tools":[{"type":"web_search"}])"), "unsupported tools[0].type"},
      {with(R"("tools":[{"type":"function"}])"), "invalid_argument tools[0].name"},
      {with(R"("tools":[{"type":"function","name":"f","parameters":7}])"),
       "invalid_argument tools[0].parameters"},
      {with(R"("tool_choice":"required")"), "invalid_argument tool_choice"},
      {with(R"("tool_choice":{"type":"mcp"})"), "unsupported tool_choice.type"},
      {with(R"("text":{"format":{"type":"xml"}})"), "invalid_argument text.format.type"},
      {with(R"("text":{"format":{"type":"json_schema"}})"), "invalid_argument text.format.schema"},
      {with(R"("reasoning":{"effort":"huge"})"), "invalid_argument reasoning.effort"},
      {with(R"("metadata":{"a":1})"), "invalid_argument metadata.a"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(refusal(text), expected) << text;
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
  for (const char* query :
       {"limit=0", "limit=101", "limit=x", "limit=99999999999999999999", "order=up", "after=i9"}) {
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

StoredResponse stored(const std::string& id, std::size_t bytes = 0) {
  return {id, std::string(bytes, 'x'), {}, "[]"};
}

TEST(ResponseStore, KeepsEachForItsOwnerOnly) {
  ResponseStore store(10, 1 << 20);
  store.put("a", stored("1"));
  EXPECT_TRUE(store.find("a", "1"));
  EXPECT_FALSE(store.find("b", "1"));
  EXPECT_FALSE(store.find("", "1"));
  EXPECT_FALSE(store.erase("b", "1"));
  EXPECT_TRUE(store.erase("a", "1"));
  EXPECT_FALSE(store.erase("a", "1"));
  EXPECT_EQ(store.size(), 0u);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(ResponseStore, ForgetsWhatWasNotUsedForLongest) {
  ResponseStore store(2, 1 << 20);
  store.put("a", stored("1"));
  store.put("a", stored("2"));
  store.find("a", "1");
  store.put("a", stored("3"));
  EXPECT_TRUE(store.find("a", "1"));
  EXPECT_FALSE(store.find("a", "2"));
  EXPECT_TRUE(store.find("a", "3"));
}

TEST(ResponseStore, KeepsWithinItsBytesAndSparesThoseWhoKeepLittle) {
  ResponseStore store(1000, 10'000);
  store.put("small", stored("1", 100));
  for (int i = 0; i < 50; ++i) {
    store.put("large", stored(std::to_string(i), 3000));
    EXPECT_LE(store.bytes(), 10'000u);
  }
  EXPECT_TRUE(store.find("small", "1"));
  EXPECT_TRUE(store.find("large", "49"));
  EXPECT_FALSE(store.find("large", "0"));
  store.put("large", stored("huge", 20'000));
  EXPECT_FALSE(store.find("large", "huge"));
  EXPECT_TRUE(store.find("large", "49")) << "what cannot be kept pushes nothing out";
}

}  // namespace
}  // namespace ridge::api
