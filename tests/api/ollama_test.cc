#include <gtest/gtest.h>

#include "api/error_body.h"
#include "api/ollama_answer.h"
#include "api/ollama_request.h"
#include "refusal.h"

namespace ridge::api::ollama_test {
namespace {

using engine::Delta;
using engine::FinishReason;
using Kind = OllamaRequest::Kind;

OllamaRequest parse(Kind kind, const std::string& text) {
  const Json body = parse_json(text);
  return kind == Kind::chat ? parse_ollama_chat(body) : parse_ollama_generate(body);
}

const ChatRequest& chat_of(const OllamaRequest& request) {
  return std::get<ChatRequest>(request.core);
}

std::string refusal(Kind kind, const std::string& text) {
  return refusal_of([&] { parse(kind, text); });
}

TEST(OllamaRequest, ReadsAChat) {
  const auto request = parse(Kind::chat, R"({"model":"m","messages":[
      {"role":"system","content":"s"},{"role":"user","content":"q","images":[]},
      {"role":"assistant","thinking":"hm","content":"","tool_calls":[
        {"function":{"name":"f","arguments":{"x":1}}}]},
      {"role":"tool","tool_name":"f","content":"42"}],
      "options":{"num_predict":7,"temperature":0.5,"top_k":3,"top_p":0.9,"min_p":0.1,"seed":4,
        "stop":["a"],"repeat_penalty":1.5,"num_ctx":4096,"mirostat":0},
      "tools":[{"type":"function","function":{"name":"f"}}],"keep_alive":"5m","think":"high"})");
  const ChatRequest& chat = chat_of(request);
  EXPECT_TRUE(chat.generation.stream) << "Ollama's default";
  EXPECT_EQ(chat.generation.max_tokens, 7);
  EXPECT_EQ(chat.generation.temperature, 0.5);
  EXPECT_EQ(chat.generation.top_k, 3);
  EXPECT_EQ(chat.generation.top_p, 0.9);
  EXPECT_EQ(chat.generation.min_p, 0.1);
  EXPECT_EQ(chat.generation.seed, 4u);
  EXPECT_EQ(chat.generation.repetition_penalty, 1.5);
  EXPECT_EQ(chat.generation.stop, std::vector<std::string>{"a"});
  EXPECT_TRUE(chat.tools.may_call());
  EXPECT_EQ(chat.thinking.enabled, true);
  EXPECT_EQ(chat.thinking.variables["reasoning_effort"], "high");
  EXPECT_EQ(chat.messages, Json::parse(R"([{"role":"system","content":"s"},
      {"role":"user","content":"q"},
      {"role":"assistant","content":null,"tool_calls":[
        {"id":"","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
      {"role":"tool","content":"42","name":"f"}])"));
}

TEST(OllamaRequest, ReadsAPrompt) {
  const auto templated = parse(Kind::generate, R"({"prompt":"q","system":"s","stream":false,
      "think":false,"format":"json","options":{"num_predict":-1}})");
  EXPECT_EQ(chat_of(templated).messages, Json::parse(R"([{"role":"system","content":"s"},
                                                         {"role":"user","content":"q"}])"));
  EXPECT_FALSE(templated.generation().stream);
  EXPECT_FALSE(templated.generation().max_tokens);
  EXPECT_EQ(chat_of(templated).thinking.enabled, false);
  EXPECT_EQ(chat_of(templated).form.grammar->kind, text::GrammarKind::json_schema);
  const auto raw = parse(Kind::generate, R"({"prompt":"q","raw":true,"format":{"type":"object"}})");
  const auto& completion = std::get<CompletionRequest>(raw.core);
  EXPECT_EQ(std::get<std::string>(completion.prompts.at(0)), "q");
  EXPECT_FALSE(completion.generation.max_tokens);
  EXPECT_EQ(completion.default_tokens, max_requested_tokens);
  EXPECT_TRUE(completion.form.grammar);
}

TEST(OllamaRequest, AsksNothingToLoadOrUnload) {
  EXPECT_TRUE(parse(Kind::chat, R"({"messages":[]})").is_empty);
  EXPECT_TRUE(parse(Kind::chat, "{}").is_empty);
  EXPECT_FALSE(parse(Kind::generate, R"({"prompt":"a"})").is_empty);
  const auto request = parse(Kind::generate, R"({"keep_alive":0})");
  EXPECT_TRUE(request.unloads());
  EXPECT_FALSE(parse(Kind::generate, R"({"prompt":"a","keep_alive":0})").unloads());
  EXPECT_FALSE(parse(Kind::generate, R"({"keep_alive":"5m"})").unloads());
  const Json body = Json::parse(ollama_unloaded_body(request, {.model = "m"}));
  EXPECT_EQ(body["done_reason"], "unload");
  EXPECT_EQ(body["response"], "");
  EXPECT_EQ(body["done"], true);
}

TEST(OllamaRequest, KeepsAModelForADuration) {
  const auto seconds = [](const std::string& keep_alive) {
    const auto request = parse(Kind::chat, R"({"keep_alive":)" + keep_alive + "}");
    return std::chrono::duration<double>(request.keep_alive.value()).count();
  };
  EXPECT_EQ(seconds("300"), 300);
  EXPECT_EQ(seconds("0"), 0);
  EXPECT_EQ(seconds("0.5"), 0.5);
  EXPECT_LT(seconds("-1"), 0);
  EXPECT_EQ(seconds("\"5m\""), 300);
  EXPECT_EQ(seconds("\"1h30m\""), 5400);
  EXPECT_EQ(seconds("\"1.5h\""), 5400);
  EXPECT_EQ(seconds("\"250ms\""), 0.25);
  EXPECT_EQ(seconds("\"0\""), 0);
  EXPECT_EQ(seconds("\"0s\""), 0);
  EXPECT_LT(seconds("\"-1s\""), 0);
  EXPECT_GT(seconds("1e300"), 1e9) << "and no overflow";
  EXPECT_FALSE(parse(Kind::chat, "{}").keep_alive);
  for (const char* wrong :
       {"\"\"", "\"m\"", "\"5 m\"", "\"5d\"", "\"1h-5m\"", "\"nans\"", "\"infs\""}) {
    EXPECT_EQ(refusal(Kind::chat, R"({"keep_alive":)" + std::string(wrong) + "}"),
              "invalid_argument keep_alive")
        << wrong;
  }
}

TEST(OllamaRequest, MeansWhatOllamasEngineDoes) {
  const auto request = parse(Kind::generate, R"({"prompt":"a","logprobs":true,"top_logprobs":2,
      "timeout_ms":1500,"options":{"seed":-1,"top_p":0,"top_k":40,"repetition_penalty":1.25,
        "min_tokens":2,"logit_bias":{"3":-1},"ignore_eos":true}})");
  const GenerationFields& fields = request.generation();
  EXPECT_FALSE(fields.seed) << "any";
  EXPECT_FALSE(fields.top_p);
  EXPECT_EQ(fields.top_k, 1) << "the best token alone";
  EXPECT_EQ(fields.repetition_penalty, 1.25);
  EXPECT_EQ(fields.min_tokens, 2);
  EXPECT_EQ(fields.logit_bias.size(), 1u);
  EXPECT_TRUE(fields.ignore_eos);
  EXPECT_EQ(fields.timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(chat_of(request).top_logprobs, 2);
  const auto raw = parse(Kind::generate, R"({"prompt":"a","raw":true,"logprobs":true})");
  EXPECT_EQ(std::get<CompletionRequest>(raw.core).top_logprobs, 0);
}

TEST(OllamaRequest, NamesTheFieldAtFault) {
  const std::pair<std::string, std::string> chats[] = {
      {"3", "invalid_argument "},
      {R"({"messages":7})", "invalid_argument messages"},
      {R"({"messages":[7]})", "invalid_argument messages[0]"},
      {R"({"messages":[{"role":"x","content":"a"}]})", "invalid_argument messages[0].role"},
      {R"({"messages":[{"role":"user","content":7}]})", "invalid_argument messages[0].content"},
      {R"({"messages":[{"role":"user","content":"a","images":["AAAA"]}]})",
       "unsupported messages[0].images"},
      {R"({"stream":"yes"})", "invalid_argument stream"},
      {R"({"options":[]})", "invalid_argument options"},
      {R"({"options":{"temperature":-1}})", "invalid_argument options.temperature"},
      {R"({"options":{"num_predict":-3}})", "invalid_argument options.num_predict"},
      {R"({"options":{"seed":"x"}})", "invalid_argument options.seed"},
      {R"({"options":{"stop":7}})", "invalid_argument options.stop"},
      {R"({"options":{"repeat_penalty":0}})", "invalid_argument options.repeat_penalty"},
      {R"({"format":"xml"})", "invalid_argument format"},
      {R"({"think":3})", "invalid_argument think"},
      {R"({"keep_alive":[]})", "invalid_argument keep_alive"},
      {R"({"keep_alive":"5"})", "invalid_argument keep_alive"},
      {R"({"top_logprobs":2})", "invalid_argument top_logprobs"},
      {R"({"logprobs":true,"top_logprobs":21})", "invalid_argument top_logprobs"},
      {R"({"n":2})", "unsupported n"},
      {R"({"options":{"n":2}})", "unsupported options.n"},
      {R"({"options":{"logit_bias":{"x":1}}})", "invalid_argument options.logit_bias"},
      {R"({"options":{"num_predict":2,"min_tokens":3}})", "invalid_argument options.min_tokens"},
      {R"({"options":{"top_p":-1}})", "invalid_argument options.top_p"},
      {R"({"timeout_ms":0})", "invalid_argument timeout_ms"},
      {R"({"tools":[{"function":{}}]})", "invalid_argument tools[0].function.name"},
  };
  for (const auto& [text, expected] : chats) {
    EXPECT_EQ(refusal(Kind::chat, text), expected) << text;
  }
  const std::pair<std::string, std::string> prompts[] = {
      {R"({"prompt":[1]})", "invalid_argument prompt"},
      {R"({"prompt":"a","suffix":"b"})", "unsupported suffix"},
      {R"({"prompt":"a","template":"b"})", "unsupported template"},
      {R"({"prompt":"a","context":[1,2]})", "unsupported context"},
      {R"({"prompt":"a","images":["AAAA"]})", "unsupported images"},
      {R"({"prompt":"a","raw":1})", "invalid_argument raw"},
  };
  for (const auto& [text, expected] : prompts) {
    EXPECT_EQ(refusal(Kind::generate, text), expected) << text;
  }
  EXPECT_EQ(refusal(Kind::generate, R"({"prompt":"a","suffix":"","context":[]})"), "");
  EXPECT_EQ(parse_ollama_show(parse_json(R"({"name":"a"})")), "a");
}

const AnswerHead head = {
    .id = "x", .created_s = 1700000000, .model = "m\"", .fingerprint = "fp", .prompt_tokens = 5};
const engine::Usage usage = {.prompt_tokens = 5,
                             .cached_tokens = 2,
                             .completion_tokens = 3,
                             .reasoning_tokens = 1,
                             .queue_ms = 1,
                             .ttft_ms = 3,
                             .duration_ms = 10};

OllamaRequest asked(Kind kind, bool stream) {
  OllamaRequest request;
  request.kind = kind;
  ChatRequest chat;
  chat.generation.stream = stream;
  request.core = std::move(chat);
  return request;
}

std::vector<Json> lines_of(const std::string& stream) {
  std::vector<Json> lines;
  std::size_t at = 0;
  while (at < stream.size()) {
    const std::size_t end = stream.find('\n', at);
    if (end == std::string::npos) {
      ADD_FAILURE() << "the last line does not end";
      break;
    }
    lines.push_back(Json::parse(stream.substr(at, end - at)));
    at = end + 1;
  }
  return lines;
}

Delta call_delta(int index, std::string name, std::string arguments) {
  Delta delta;
  delta.pieces.add_call({index, !name.empty(), std::move(name), std::move(arguments)});
  return delta;
}

Delta text_delta(std::string content, std::string reasoning = "") {
  Delta delta;
  delta.pieces.add_content(content);
  delta.reasoning = std::move(reasoning);
  return delta;
}

TEST(OllamaStream, IsLinesOfWhichTheLastHasTheFigures) {
  const auto answer = make_answer(asked(Kind::chat, true), head);
  EXPECT_EQ(answer->stream_type(), "application/x-ndjson");
  EXPECT_EQ(answer->heartbeat(), "");
  std::string out;
  answer->begin(out);
  answer->add(0, text_delta("", "hm"), out);
  answer->add(0, text_delta("a\nb"), out);
  answer->add(0, text_delta(""), out);
  answer->add(0, call_delta(0, "f", "{\"x\":"), out);
  answer->add(0, call_delta(0, "", "1}"), out);
  answer->add(0, call_delta(1, "g", "{\"y"), out);
  answer->finish_choice(0, FinishReason::length, out);
  answer->finish(usage, out);
  const auto lines = lines_of(out);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], Json::parse(R"({"model":"m\"","created_at":"2023-11-14T22:13:20Z",
      "message":{"role":"assistant","content":"","thinking":"hm"},"done":false})"));
  EXPECT_EQ(lines[1]["message"], Json::parse(R"({"role":"assistant","content":"a\nb"})"));
  EXPECT_EQ(lines[2]["message"]["tool_calls"],
            Json::parse(R"([{"function":{"name":"f","arguments":{"x":1}}}])"));
  EXPECT_EQ(lines[3]["message"]["tool_calls"],
            Json::parse(R"([{"function":{"name":"g","arguments":{"invalid_json":"{\"y"}}}])"));
  EXPECT_EQ(lines[4], Json::parse(R"({"model":"m\"","created_at":"2023-11-14T22:13:20Z",
      "message":{"role":"assistant","content":""},"done":true,"done_reason":"length",
      "total_duration":10000000,"load_duration":1000000,"prompt_eval_count":5,
      "prompt_eval_duration":2000000,"eval_count":3,"eval_duration":7000000})"));
}

TEST(OllamaStream, KeepsTheOrderOfTextAndCalls) {
  const auto answer = make_answer(asked(Kind::chat, true), head);
  std::string out;
  Delta delta = text_delta("a");
  delta.pieces.append(call_delta(0, "f", "{}").pieces);
  delta.pieces.add_content("b");
  answer->add(0, delta, out);
  answer->finish_choice(0, FinishReason::tool_calls, out);
  answer->finish(usage, out);
  const auto lines = lines_of(out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["message"]["content"], "a");
  EXPECT_EQ(lines[0]["message"]["tool_calls"].size(), 1u);
  EXPECT_EQ(lines[1]["message"]["content"], "b");
}

TEST(OllamaStream, HasLogprobsWhereTheyAreAskedFor) {
  OllamaRequest request = asked(Kind::generate, true);
  std::get<ChatRequest>(request.core).top_logprobs = 0;
  const auto answer = make_answer(request, head);
  std::string out;
  Delta delta = text_delta("a");
  delta.tokens.push_back({.picked = {.token = 1, .logprob = -0.5f, .bytes = "a"}, .top = {}});
  answer->add(0, delta, out);
  answer->finish_choice(0, FinishReason::stop, out);
  answer->finish(usage, out);
  const auto lines = lines_of(out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["logprobs"], Json::parse(R"([{"token":"a","logprob":-0.5,"bytes":[97],
      "top_logprobs":[]}])"));
  EXPECT_FALSE(lines[1].contains("logprobs"));
}

TEST(OllamaDocument, SaysThatAModelIsLoaded) {
  const auto answer = make_answer(parse(Kind::chat, "{}"), head);
  EXPECT_FALSE(answer->streams());
  std::string out;
  answer->add_embedding(0, {1, 2});
  answer->finish(usage, out);
  const Json body = Json::parse(out);
  EXPECT_EQ(body["done_reason"], "load");
  EXPECT_EQ(body["message"]["content"], "");
  EXPECT_EQ(body["load_duration"], 1'000'000);
}

TEST(OllamaStream, EndsWithAnErrorOfItsOwn) {
  const auto answer = make_answer(asked(Kind::generate, true), head);
  std::string out;
  answer->add(0, text_delta("a", "t"), out);
  answer->fail(Error(ErrorCode::unavailable, "bye"), "r", out);
  const auto lines = lines_of(out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["response"], "a");
  EXPECT_EQ(lines[0]["thinking"], "t");
  EXPECT_EQ(lines[1], Json::parse(R"({"error":"bye"})"));
}

TEST(OllamaDocument, IsOneAnswer) {
  const auto answer = make_answer(asked(Kind::chat, false), head);
  std::string out;
  answer->add(0, text_delta("a", "t"), out);
  answer->add(0, text_delta("b"), out);
  answer->add(0, call_delta(0, "f", "{}"), out);
  answer->finish_choice(0, FinishReason::tool_calls, out);
  EXPECT_EQ(out, "");
  answer->finish(usage, out);
  const Json body = Json::parse(out);
  EXPECT_EQ(body["message"], Json::parse(R"({"role":"assistant","content":"ab","thinking":"t",
      "tool_calls":[{"function":{"name":"f","arguments":{}}}]})"));
  EXPECT_EQ(body["done_reason"], "stop");
}

TEST(OllamaEmbedding, ReadsTextsAndWhatIsToHappenToLongOnes) {
  const auto asks = parse_ollama_embed(parse_json(
      R"({"model":"m","input":["a","b"],"truncate":false,"dimensions":2,"keep_alive":"5m"})"));
  EXPECT_EQ(asks.embedding.vectors.model, "m");
  EXPECT_EQ(asks.embedding.inputs, (std::vector<PromptText>{"a", "b"}));
  EXPECT_FALSE(asks.embedding.vectors.cuts);
  EXPECT_TRUE(asks.embedding.normalize);
  EXPECT_EQ(asks.embedding.dimensions, 2);
  EXPECT_EQ(asks.keep_alive, std::chrono::minutes(5));
  EXPECT_TRUE(parse_ollama_embed(parse_json(R"({"input":"a"})")).embedding.vectors.cuts);
  for (const char* empty : {R"({"input":""})", R"({"input":[]})"}) {
    EXPECT_TRUE(parse_ollama_embed(parse_json(empty)).embedding.inputs.empty()) << empty;
  }
  EXPECT_EQ(refusal_of([] { parse_ollama_embed(parse_json("{}")); }), "invalid_argument input");
  EXPECT_EQ(refusal_of([] { parse_ollama_embed(parse_json(R"({"input":["a",1]})")); }),
            "invalid_argument input[1]");
  const auto one = parse_ollama_embeddings(parse_json(R"({"prompt":"a"})"));
  EXPECT_EQ(one.embedding.inputs, (std::vector<PromptText>{"a"}));
  EXPECT_FALSE(one.embedding.normalize);
}

TEST(OllamaEmbedding, IsOneDocument) {
  const auto document = [](const OllamaEmbedding& asks, std::vector<std::vector<float>> vectors) {
    const auto answer = make_answer(asks.embedding, head);
    std::string out;
    answer->begin(out);
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      answer->add_embedding(static_cast<int>(i), std::move(vectors[i]));
    }
    answer->finish({.prompt_tokens = 7, .queue_ms = 1, .duration_ms = 3}, out);
    return Json::parse(out);
  };
  const auto several = parse_ollama_embed(parse_json(R"({"input":["a","b"]})"));
  EXPECT_EQ(document(several, {{3, 4}, {0, 2}}),
            Json::parse(R"({"model":"m\"","embeddings":[[0.6,0.8],[0.0,1.0]],
                "total_duration":3000000,"load_duration":1000000,"prompt_eval_count":7})"));
  const auto one = parse_ollama_embeddings(parse_json(R"({"prompt":"a"})"));
  EXPECT_EQ(document(one, {{3, 4}}), Json::parse(R"({"embedding":[3.0,4.0]})"));
  ServedModel model;
  model.name = "m";
  EXPECT_EQ(Json::parse(ollama_no_vectors_body(several, model)),
            Json::parse(R"({"model":"m","embeddings":[]})"));
  EXPECT_EQ(Json::parse(ollama_no_vectors_body(one, model)), Json::parse(R"({"embedding":[]})"));
}

}  // namespace
}  // namespace ridge::api::ollama_test
