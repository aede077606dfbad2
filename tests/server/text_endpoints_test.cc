// The endpoints around text that are no conversation: echo, embeddings, ranking, tokens, deadlines.
#include <gmock/gmock.h>

#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>

#include "api/events.h"
#include "api/json_text.h"
#include "server_under_test.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::server::text_endpoints_test {
namespace {

using api::Json;
using namespace std::chrono_literals;

// A vector that says which tokens it stands for.
void embed_sum(ScriptedEngine::Part& part) {
  const auto& tokens = part.request().prompt_tokens;
  part.embed({1, static_cast<float>(std::accumulate(tokens.begin(), tokens.end(), 0))});
}

std::string inputs_of(int count) {
  std::string inputs = "[0]";
  for (int i = 1; i < count; ++i) inputs += ",[" + std::to_string(i) + "]";
  return R"("input":[)" + inputs + "]";
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

TEST(TextEndpoints, RefuseAnEmptyPromptWhereNothingBeginsAText) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("x"); });
  RawClient client(under.port());
  const std::string body = R"({"prompt":"","echo":true})";
  EXPECT_EQ(client.ask(post("/v1/completions", body)).status, 200) << "it is BOS";
  under.engine->forget_special_tokens();
  ASSERT_FALSE(under.engine->tokenizer().bos() || under.engine->tokenizer().eos());
  const RawResponse refused = client.ask(post("/v1/completions", body));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json::parse(refused.body)["error"]["param"], "prompt");
}

TEST(TextEndpoints, EchoOnePromptInEachOfItsAnswers) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.score_prompt({{.picked = {2, -1, "b"}, .top = {}}});
    for (int choice = 0; choice < 2; ++choice) {
      part.say(choice == 0 ? "x" : "y", choice);
      part.end_choice(choice);
    }
  });
  const std::string asked = R"("prompt":[1,2],"echo":true,"logprobs":0,"n":2)";
  RawClient client(under.port());
  const auto whole = Json::parse(client.ask(post("/v1/completions", "{" + asked + "}")).body);
  const auto stream = client.ask(post("/v1/completions", R"({"stream":true,)" + asked + "}"));
  std::vector<Json> scored(2);
  for (const Json& event : api::events_of(stream.body)) {
    if (!event.is_object()) continue;
    const Json& choice = event["choices"][0];
    if (choice["logprobs"].is_object()) scored.at(choice["index"]) = choice["logprobs"];
  }
  for (const Json& choice : whole["choices"]) {
    const Json& logprobs = choice["logprobs"];
    EXPECT_EQ(logprobs["token_logprobs"], Json::parse("[null,-1]"));
    EXPECT_EQ(logprobs["tokens"].size(), 2u);
    EXPECT_EQ(logprobs["top_logprobs"], Json::parse(R"([null,{"b":-1}])"));
    EXPECT_TRUE(choice["text"].get<std::string>().ends_with(choice["index"] == 0 ? "x" : "y"));
    EXPECT_EQ(scored.at(choice["index"]), logprobs);
  }
}

TEST(TextEndpoints, BoundTheLogprobsOfEchoedPrompts) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.score_prompt({}); });
  std::string prompt = "[1";
  for (int i = 0; i < 899; ++i) prompt += ",1";
  prompt += "]";
  std::string prompts = prompt;
  for (int i = 0; i < 59; ++i) prompts += "," + prompt;
  RawClient client(under.port());
  const auto ask = [&](const std::string& more) {
    return client.ask(post("/v1/completions", R"({"echo":true,"max_tokens":1,"prompt":[)" +
                                                  prompts + "]," + more + "}"));
  };
  const RawResponse refused = ask(R"("logprobs":5,"n":2)");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json::parse(refused.body)["error"]["param"], "logprobs");
  EXPECT_EQ(under.engine->submitted(), 0);
  EXPECT_EQ(ask(R"("logprobs":5)").status, 200);
  EXPECT_EQ(ask(R"("n":2)").status, 200) << "text alone is small";
}

TEST(TextEndpoints, EmbedEveryInputInItsPlace) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    EXPECT_EQ(part.request().embedding, engine::Pooling::last);
    part.wait_for_go();
    embed_sum(part);
  });
  RawClient client(under.port());
  client.send(
      post("/v1/embeddings", R"({"pooling":"last","normalize":false,)" + inputs_of(150) + "}"));
  // All that are submitted run until `go`, so that their number is that of one wave.
  while (under.engine->submitted() < 64) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(RawClient(under.port()).ask(get("/health")).status, 200);
  EXPECT_EQ(under.engine->submitted(), 64) << "the engine's queue has room for others";
  under.engine->go();
  const RawResponse response = client.read();
  ASSERT_EQ(response.status, 200) << response.body;
  const Json document = Json::parse(response.body);
  ASSERT_EQ(document["data"].size(), 150u);
  for (int i = 0; i < 150; ++i) {
    EXPECT_EQ(document["data"][static_cast<size_t>(i)]["embedding"][1], i);
  }
  EXPECT_EQ(document["usage"]["total_tokens"], 150);
  EXPECT_EQ(under.engine->submitted(), 150);
}

TEST(TextEndpoints, WaitForRoomOnceTheyHaveBegun) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.wait_for_go();
    embed_sum(part);
  });
  RawClient client(under.port());
  client.send(post("/v1/embeddings", "{" + inputs_of(70) + "}"));
  while (under.engine->submitted() < 64) std::this_thread::sleep_for(1ms);
  under.engine->refuse_requests(true);  // others have filled the queue
  under.engine->go();
  while (under.engine->refused() < 2) std::this_thread::sleep_for(1ms);
  under.engine->refuse_requests(false);
  const RawResponse response = client.read();
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(under.engine->submitted(), 70);
  under.engine->refuse_requests(true);
  EXPECT_EQ(client.ask(post("/v1/embeddings", "{" + inputs_of(70) + "}")).status, 429)
      << "what has not begun can come again";
}

TEST(TextEndpoints, ShareOneDeadlineFromTheirArrival) {
  std::mutex mutex;
  std::map<int32_t, Clock::Duration> deadlines;
  ServerUnderTest under([&](ScriptedEngine::Part& part) {
    {
      const std::lock_guard lock(mutex);
      deadlines[part.request().prompt_tokens[0]] = part.request().deadline.value();
    }
    embed_sum(part);
  });
  RawClient client(under.port());
  const auto ask = [&](const std::string& timeout_ms) {
    return client
        .ask(post("/v1/embeddings", R"({"timeout_ms":)" + timeout_ms + "," + inputs_of(70) + "}"))
        .status;
  };
  ASSERT_EQ(ask("1500000"), 200);
  ASSERT_EQ(deadlines.size(), 70u);
  for (int32_t later = 64; later < 70; ++later) {
    EXPECT_LT(deadlines[later], deadlines[0]) << "the time of the first wave has passed";
  }
  EXPECT_EQ(ask("0.0001"), 408);
  EXPECT_EQ(under.engine->submitted(), 70) << "what is too late is not begun";
}

TEST(TextEndpoints, AreShapedWhereTheyKeepNobodyWaiting) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.wait_for_go();
    part.embed(std::vector<float>(2000, 0.5f));
  });
  RawClient large(under.port()), held(under.port());
  large.send(post("/v1/embeddings", "{" + inputs_of(20) + "}"));
  while (under.engine->submitted() < 20) std::this_thread::sleep_for(1ms);
  under.engine->hold_text_work(true);
  held.send(post("/v1/embeddings", R"({"input":"a"})"));
  ASSERT_TRUE(under.engine->wait_until_held()) << "the only text thread is busy now";
  under.engine->go();
  while (under.engine->ended() < 20) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(RawClient(under.port()).ask(get("/health")).status, 200);
  EXPECT_FALSE(large.has_news()) << "the network's only thread has shaped it";
  under.engine->hold_text_work(false);
  EXPECT_EQ(large.read().status, 200);
  EXPECT_EQ(held.read().status, 200);
}

TEST(TextEndpoints, WhoLeavesBeforeItsTurnTakesNone) {
  ServerUnderTest under(embed_sum);
  RawClient held(under.port());
  under.engine->hold_text_work(true);
  held.send(post("/v1/embeddings", R"({"input":"a"})"));
  ASSERT_TRUE(under.engine->wait_until_held()) << "the only text thread is busy now";
  {
    RawClient gone(under.port());
    gone.send(post("/v1/embeddings", R"({"input":7})"));
    RawClient(under.port()).ask(get("/health"));  // by then it has been read
  }
  for (int i = 0; i < 3; ++i) RawClient(under.port()).ask(get("/health"));
  under.engine->hold_text_work(false);
  EXPECT_EQ(held.read().status, 200);
  const auto records = [&] { return RawClient(under.port()).ask(get("/v1/requests")).body; };
  while (records().find("cancelled") == std::string::npos &&
         records().find("invalid") == std::string::npos)
    std::this_thread::sleep_for(1ms);
  EXPECT_THAT(records(), testing::Not(testing::HasSubstr("invalid")))
      << "nobody reads what nobody waits for";
}

TEST(TextEndpoints, RefuseMoreVectorsThanOneAnswerHolds) {
  ServerUnderTest under(embed_sum);
  RawClient client(under.port());
  under.engine->set_hidden_size(1 << 17);
  const auto refused = [&](const std::string& path, const std::string& body) {
    const RawResponse response = client.ask(post(path, body));
    return response.status == 200 ? ""
                                  : Json::parse(response.body)["error"]["param"].get<std::string>();
  };
  std::string documents = R"("a")";
  for (int i = 0; i < 31; ++i) documents += R"(,"a")";
  EXPECT_EQ(refused("/v1/embeddings", "{" + inputs_of(32) + "}"), "");
  EXPECT_EQ(refused("/v1/embeddings", "{" + inputs_of(33) + "}"), "input");
  EXPECT_EQ(refused("/v1/rerank", R"({"query":"a","documents":[)" + documents + "]}"), "documents");
  EXPECT_EQ(refused("/v1/score", R"({"text_1":"a","text_2":[)" + documents + "]}"), "text_2");
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
    EXPECT_LE(*part.request().deadline, 1'500'000ms);
    EXPECT_GT(*part.request().deadline, 1'000'000ms);
    if (part.request().embedding) embed_sum(part);
  });
  RawClient client(under.port());
  for (const auto& [path, body] : std::vector<std::pair<std::string, std::string>>{
           {"/v1/completions", R"("prompt":"a")"},
           {"/v1/chat/completions", R"("messages":[{"role":"user","content":"a"}])"},
           {"/v1/embeddings", R"("input":"a")"},
           {"/v1/rerank", R"("query":"a","documents":["b"])"},
           {"/v1/score", R"("text_1":"a","text_2":"b")"}}) {
    EXPECT_EQ(client.ask(post(path, R"({"timeout_ms":1500000,)" + body + "}")).status, 200) << path;
  }
}

TEST(TextEndpoints, HaveTheModelsOwnWidthAlone) {
  ServerUnderTest under(embed_sum);
  RawClient client(under.port());
  EXPECT_EQ(client.ask(post("/v1/embeddings", R"({"input":"a","dimensions":2})")).status, 200);
  const RawResponse refused = client.ask(post("/v1/embeddings", R"({"input":"a","dimensions":1})"));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json::parse(refused.body)["error"]["param"], "dimensions");
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
}  // namespace ridge::server::text_endpoints_test
