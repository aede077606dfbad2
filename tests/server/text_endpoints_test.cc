// The endpoints around text that are no conversation: echo, embeddings, ranking, tokens, deadlines.
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <numeric>

#include "api/json_text.h"
#include "server_under_test.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::server {
namespace {

using api::Json;

// A vector that says which tokens it stands for.
void embed_sum(ScriptedEngine::Part& part) {
  const auto& tokens = part.request().prompt_tokens;
  part.embed({1, static_cast<float>(std::accumulate(tokens.begin(), tokens.end(), 0))});
}

TEST(TextEndpoints, EchoAScoredPrompt) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    EXPECT_EQ(part.request().prompt_logprobs, 2);
    EXPECT_EQ(part.request().max_tokens, 0);
    part.score_prompt({{.picked = {2, -1, "b"}, .top = {}}, {.picked = {3, -2, "c"}, .top = {}}});
    part.end_choice(0, engine::FinishReason::length);
  });
  RawClient client(under.port());
  const RawResponse response = client.ask(
      post("/v1/completions", R"({"prompt":[1,2,3],"echo":true,"logprobs":2,"max_tokens":0})"));
  EXPECT_EQ(response.status, 200);
  const Json choice = Json::parse(response.body)["choices"][0];
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Json::parse("[null,-1,-2]"));
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(choice["text"], under.engine->tokenizer().decode(std::vector<int32_t>{1, 2, 3}, false));
}

TEST(TextEndpoints, EmbedEveryInputInItsPlace) {
  std::atomic<int> running{0}, most{0};
  ServerUnderTest under([&](ScriptedEngine::Part& part) {
    const int now = ++running;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    EXPECT_EQ(part.request().embedding, engine::Pooling::last);
    embed_sum(part);
    --running;
  });
  std::string inputs = "[0]";
  for (int i = 1; i < 150; ++i) inputs += ",[" + std::to_string(i) + "]";
  RawClient client(under.port());
  const RawResponse response = client.ask(
      post("/v1/embeddings", R"({"pooling":"last","normalize":false,"input":[)" + inputs + "]}"));
  ASSERT_EQ(response.status, 200) << response.body;
  const Json document = Json::parse(response.body);
  ASSERT_EQ(document["data"].size(), 150u);
  for (int i = 0; i < 150; ++i) {
    EXPECT_EQ(document["data"][static_cast<size_t>(i)]["embedding"][1], i);
  }
  EXPECT_EQ(document["usage"]["total_tokens"], 150);
  EXPECT_LE(most, 64) << "the engine's queue has room for others";
  EXPECT_EQ(under.engine->submitted(), 150);
}

TEST(TextEndpoints, EndAllEmbeddingsWhereOneFails) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    if (part.request().prompt_tokens[0] == 1) throw Error(ErrorCode::timed_out, "too late");
    embed_sum(part);
  });
  std::string inputs = "[1]";
  for (int i = 0; i < 100; ++i) inputs += ",[2]";
  RawClient client(under.port());
  const RawResponse response = client.ask(post("/v1/embeddings", R"({"input":[)" + inputs + "]}"));
  EXPECT_EQ(response.status, 408);
  EXPECT_TRUE(response.has("x-should-retry", "false")) << "the same deadline would pass again";
  EXPECT_EQ(under.engine->submitted(), 64) << "what comes behind the failure is not begun";
}

TEST(TextEndpoints, CarryADeadlineToTheEngine) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    ASSERT_TRUE(part.request().deadline);
    EXPECT_EQ(*part.request().deadline, std::chrono::milliseconds(1500));
    if (part.request().embedding) embed_sum(part);
  });
  RawClient client(under.port());
  for (const auto& [path, body] : std::vector<std::pair<std::string, std::string>>{
           {"/v1/completions", R"("prompt":"a")"},
           {"/v1/chat/completions", R"("messages":[{"role":"user","content":"a"}])"},
           {"/v1/embeddings", R"("input":"a")"},
           {"/v1/rerank", R"("query":"a","documents":["b"])"},
           {"/v1/score", R"("text_1":"a","text_2":"b")"}}) {
    EXPECT_EQ(client.ask(post(path, R"({"timeout_ms":1500,)" + body + "}")).status, 200) << path;
  }
}

TEST(TextEndpoints, RankByTheCosine) {
  ServerUnderTest under(embed_sum);
  RawClient client(under.port());
  const RawResponse response = client.ask(
      post("/v1/rerank", R"({"query":"b","documents":["a","b"],"return_documents":false})"));
  ASSERT_EQ(response.status, 200) << response.body;
  const Json results = Json::parse(response.body)["results"];
  EXPECT_EQ(results[0]["index"], 1);
  EXPECT_EQ(results[0]["relevance_score"], 1.0);
  EXPECT_FALSE(results[0].contains("document"));
}

TEST(TextEndpoints, TurnTextIntoTokensAndBack) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  RawClient client(under.port());
  for (const std::string prefix : {"", "/v1"}) {
    const RawResponse response =
        client.ask(post(prefix + "/tokenize", R"({"prompt":"hello","return_token_strs":true})"));
    ASSERT_EQ(response.status, 200) << response.body;
    const Json answer = Json::parse(response.body);
    const auto expected = under.engine->tokenizer().encode("hello", {.add_special = true});
    EXPECT_EQ(answer["tokens"].get<std::vector<int32_t>>(), expected);
    EXPECT_EQ(answer["count"], expected.size());
    EXPECT_EQ(answer["max_model_len"], 1000);
    EXPECT_EQ(answer["token_strs"].size(), expected.size());
    const RawResponse back =
        client.ask(post(prefix + "/detokenize", R"({"tokens":)" + answer["tokens"].dump() + "}"));
    EXPECT_EQ(Json::parse(back.body)["prompt"], under.engine->tokenizer().decode(expected, false));
  }
  EXPECT_EQ(under.engine->submitted(), 0);
}

TEST(TextEndpoints, TokenizeAConversationAsItIsAnswered) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("x"); });
  RawClient client(under.port());
  const std::string messages = R"({"messages":[{"role":"user","content":"hello"}]})";
  const Json tokens = Json::parse(client.ask(post("/tokenize", messages)).body);
  const Json answer = Json::parse(client.ask(post("/v1/chat/completions", messages)).body);
  EXPECT_EQ(tokens["count"], answer["usage"]["prompt_tokens"]);
  EXPECT_TRUE(tokens["token_strs"].is_null());
}

TEST(TextEndpoints, RefuseTokensThatTheModelLacks) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  RawClient client(under.port());
  const auto refused = [&](const std::string& path, const std::string& body) {
    const RawResponse response = client.ask(post(path, body));
    EXPECT_EQ(response.status, 400) << path << body;
    return Json::parse(response.body)["error"]["param"].get<std::string>();
  };
  EXPECT_EQ(refused("/detokenize", R"({"tokens":[2000000000]})"), "tokens");
  EXPECT_EQ(refused("/detokenize", R"({"tokens":[-1]})"), "tokens[0]");
  EXPECT_EQ(refused("/detokenize", "{}"), "tokens");
  EXPECT_EQ(refused("/tokenize", "{}"), "prompt");
  EXPECT_EQ(refused("/tokenize", R"({"prompt":"a","messages":[]})"), "prompt");
  EXPECT_EQ(refused("/v1/embeddings", R"({"input":[2000000000]})"), "input");
}

TEST(TextEndpoints, SayWhatTheTokenizerHas) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  RawClient client(under.port());
  const RawResponse response = client.ask(get("/tokenizer_info"));
  ASSERT_EQ(response.status, 200) << response.body;
  const Json info = Json::parse(response.body);
  const text::Tokenizer& tokenizer = under.engine->tokenizer();
  ASSERT_TRUE(tokenizer.eos());
  EXPECT_EQ(info["eos_token"], tokenizer.token_bytes(*tokenizer.eos()));
  EXPECT_EQ(info["vocab_size"], tokenizer.vocab_size());
  EXPECT_EQ(info["chat_template"], under.engine->chat_template().source());
}

TEST(TextEndpoints, DescribeThemselves) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  RawClient client(under.port());
  const RawResponse response = client.ask(get("/openapi.json"));
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.headers.at("content-type").starts_with("application/json"));
  EXPECT_EQ(Json::parse(response.body)["info"]["title"], "Ridgeline");
}

}  // namespace
}  // namespace ridge::server
