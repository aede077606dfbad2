// What is told of requests: at /v1/requests, in traceparent, and at /metrics.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "engine/request_trace.h"
#include "server_under_test.h"

namespace ridge::server::requests_test {
namespace {

using api::Json;
using engine::TraceEvent;

const std::string chat = R"({"model":"m","messages":[{"role":"user","content":"SECRETPROMPT"}]})";
const std::string trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string parent_id = "00f067aa0ba902b7";

std::string key(const std::string& name) { return "Authorization: Bearer " + name + "\r\n"; }

// Says what an engine would of the request's course.
void note(ScriptedEngine::Part& part, TraceEvent::Kind kind,
          engine::Wait wait = engine::Wait::turn) {
  part.request().trace->add({.kind = kind, .at = SteadyClock().now(), .wait = wait});
}

TEST(Requests, TellsTheCallerAloneWhyARequestWaits) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    note(part, TraceEvent::Kind::queued);
    note(part, TraceEvent::Kind::waiting, engine::Wait::blocks);
    part.say("SECRETANSWER");
    part.wait_for_go();
    note(part, TraceEvent::Kind::admitted);
    note(part, TraceEvent::Kind::first_token);
    note(part, TraceEvent::Kind::finished);
  });
  RawClient client(under.port());
  client.send(post("/v1/chat/completions", chat.substr(0, chat.size() - 1) + R"(,"stream":true})",
                   key("a") + "x-request-id: mine\r\n"));
  ASSERT_TRUE(client.wait_for("SECRETANSWER"));
  const auto ask = [&](const std::string& target, const std::string& name) {
    return RawClient(under.port()).ask(get(target, key(name)));
  };
  Json one = Json::parse(ask("/v1/requests/mine", "a").body);
  EXPECT_EQ(one["state"], "waiting");
  EXPECT_EQ(one["waits_for"], "blocks");
  EXPECT_EQ(one["status"], nullptr);
  EXPECT_EQ(one["events"].size(), 2u);
  EXPECT_EQ(ask("/v1/requests/mine", "b").status, 404);
  EXPECT_EQ(ask("/v1/requests/mine", "").status, 404);
  EXPECT_EQ(Json::parse(ask("/v1/requests", "b").body)["data"], Json::array());
  EXPECT_EQ(Json::parse(ask("/v1/requests", "a").body)["data"][0]["id"], "mine");
  under.engine->go();
  EXPECT_EQ(client.read().status, 200);

  const RawResponse ended = client.ask(get("/v1/requests/mine", key("a")));
  one = Json::parse(ended.body);
  EXPECT_EQ(one["state"], "finished");
  EXPECT_EQ(one["status"], 200);
  EXPECT_EQ(one["model"], "m");
  EXPECT_EQ(one["endpoint"], "/v1/chat/completions");
  EXPECT_EQ(one["usage"]["completion_tokens"], 1);
  EXPECT_EQ(one["events"].size(), 5u);
  EXPECT_GE(one["first_token_ms"], one["admitted_ms"]);
  EXPECT_GE(one["duration_ms"], one["first_token_ms"]);
  EXPECT_EQ(ended.body.find("SECRET"), std::string::npos);
  const std::string answer_id = one["response_id"];
  EXPECT_EQ(client.ask(get("/v1/requests/" + answer_id, key("a"))).status, 200);
}

TEST(Requests, KeepsThoseThatWereRefused) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  RawClient client(under.port());
  const auto of = [&](const std::string& id) {
    return Json::parse(client.ask(get("/v1/requests/" + id)).body);
  };
  client.ask(post("/v1/chat/completions", "{}", "x-request-id: wrong\r\n"));
  EXPECT_EQ(of("wrong")["status"], 400);
  EXPECT_EQ(of("wrong")["error"], "invalid_argument");
  EXPECT_EQ(of("wrong")["model"], nullptr);
  EXPECT_EQ(of("wrong")["state"], "finished");
  under.engine->refuse_requests(true);
  client.ask(post("/v1/chat/completions", chat, "x-request-id: many\r\n"));
  EXPECT_EQ(of("many")["status"], 429);
  EXPECT_EQ(of("many")["error"], "queue_full");
  EXPECT_EQ(of("many")["model"], "m");
}

TEST(Requests, KeepsNothingOfWhatNeedsNoEngine) {
  ServerUnderTest under([](ScriptedEngine::Part&) {});
  RawClient client(under.port());
  EXPECT_EQ(client.ask(post("/tokenize", R"({"prompt":"a"})")).status, 200);
  EXPECT_EQ(client
                .ask(post("/v1/messages/count_tokens",
                          R"({"model":"m","messages":[{"role":"user","content":"a"}]})"))
                .status,
            200);
  EXPECT_EQ(client.ask(post("/api/generate", R"({"model":"m","keep_alive":0})")).status, 200)
      << "unloads it";
  EXPECT_EQ(Json::parse(client.ask(get("/v1/requests")).body)["data"], Json::array());
}

TEST(Requests, NotesThatTheClientLeft) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.wait_for_cancel(); });
  {
    RawClient client(under.port());
    client.send(post("/v1/chat/completions", chat, "x-request-id: gone\r\n"));
    while (under.engine->submitted() == 0) std::this_thread::yield();
  }
  ASSERT_TRUE(under.engine->wait_until_ended(1));
  RawClient other(under.port());
  Json one;
  do {
    one = Json::parse(other.ask(get("/v1/requests/gone")).body);
  } while (one["state"] != "finished");
  EXPECT_EQ(one["status"], 499);
  EXPECT_EQ(one["error"], "cancelled");
}

TEST(Requests, GoesOnWithTheCallersTraceAndSaysSo) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("so"); });
  RawClient client(under.port());
  const std::string header = "traceparent: 00-" + trace_id + "-" + parent_id + "-01\r\n";
  const RawResponse response =
      client.ask(post("/v1/chat/completions", chat, header + "x-request-id: mine\r\n"));
  const std::string answered = response.headers.at("traceparent");
  EXPECT_TRUE(std::regex_match(answered, std::regex("00-" + trace_id + "-[0-9a-f]{16}-01")));
  EXPECT_EQ(answered.find(parent_id), std::string::npos);
  EXPECT_EQ(Json::parse(client.ask(get("/v1/requests/mine")).body)["trace_id"], trace_id);
  const std::string own = client.ask(get("/health")).headers.at("traceparent");
  EXPECT_TRUE(std::regex_match(own, std::regex("00-[0-9a-f]{32}-[0-9a-f]{16}-01"))) << own;
}

TEST(Requests, AreCountedUnderOpenTelemetrysNames) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    if (part.request().max_tokens == 7) throw Error(ErrorCode::timed_out, "too late");
    note(part, TraceEvent::Kind::first_token);
    part.say("a");
    part.say("b");
  });
  RawClient client(under.port());
  client.ask(post("/v1/chat/completions", chat));
  client.ask(post("/v1/chat/completions", chat));
  client.ask(post("/v1/completions", R"({"model":"m","prompt":[1],"max_tokens":7})"));
  client.ask(post("/v1/completions", "{}"));
  const std::string text = client.ask(get("/metrics")).body;
  const auto count = [&](const std::string& metric, const std::string& operation,
                         const std::string& error = "") {
    const std::string labels = (error.empty() ? "" : "error_type=\"" + error + "\",") +
                               "gen_ai_operation_name=\"" + operation +
                               "\",gen_ai_provider_name=\"ridgeline\",gen_ai_request_model=\"m\"";
    const std::string line = "gen_ai_server_" + metric + "_seconds_count{" + labels + "} ";
    const size_t at = text.find(line);
    return at == std::string::npos ? -1 : std::stoi(text.substr(at + line.size()));
  };
  EXPECT_EQ(count("request_duration", "chat"), 2);
  EXPECT_EQ(count("time_to_first_token", "chat"), 2);
  EXPECT_EQ(count("time_per_output_token", "chat"), 2);
  EXPECT_EQ(count("request_duration", "text_completion", "timed_out"), 1);
  EXPECT_EQ(count("request_duration", "text_completion"), -1) << "that without a model counts not";
  EXPECT_EQ(count("time_to_first_token", "text_completion"), -1);
}

TEST(Requests, AreCountedUnderTheNamesOfVllm) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    if (part.request().max_tokens == 7) throw Error(ErrorCode::timed_out, "too late");
    note(part, TraceEvent::Kind::admitted);
    note(part, TraceEvent::Kind::first_token);
    for (const char* token : {"a", "b", "c"}) part.say(token);
  });
  RawClient client(under.port());
  const Json usage = Json::parse(client.ask(post("/v1/chat/completions", chat)).body)["usage"];
  client.ask(post("/v1/completions", R"({"model":"m","prompt":[1],"max_tokens":7})"));
  const std::string text = client.ask(get("/metrics")).body;
  const auto value = [&](const std::string& sample) {
    const std::string line = "\nvllm:request_" + sample + "{model_name=\"m\"} ";
    const size_t at = text.find(line);
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + line.size()));
  };
  EXPECT_EQ(value("prompt_tokens_count"), 1) << "what failed is not counted";
  EXPECT_EQ(value("prompt_tokens_sum"), usage["prompt_tokens"]);
  EXPECT_EQ(value("generation_tokens_sum"), usage["completion_tokens"]);
  EXPECT_EQ(value("prefill_time_seconds_count"), 1);
  EXPECT_EQ(value("decode_time_seconds_count"), 1);
  EXPECT_EQ(value("inference_time_seconds_count"), 1);
  EXPECT_NEAR(value("inference_time_seconds_sum"),
              value("prefill_time_seconds_sum") + value("decode_time_seconds_sum"), 1e-4);
  const double tokens = value("generation_tokens_sum");
  ASSERT_GT(tokens, 1);
  EXPECT_EQ(value("time_per_output_token_seconds_count"), 1);
  EXPECT_NEAR(value("time_per_output_token_seconds_sum"),
              value("decode_time_seconds_sum") / (tokens - 1), 1e-4);
}

}  // namespace
}  // namespace ridge::server::requests_test
