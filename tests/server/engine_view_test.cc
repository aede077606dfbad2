// What the engines do now, for those who look on.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/request_trace.h"
#include "server/measured_speed.h"
#include "server_under_test.h"
#include "still_engine.h"

namespace ridge::server::engine_view_test {
namespace {

using nlohmann::json;

TEST(EngineView, TellsOfEachModelAndOfTheMachine) {
  const auto first = std::make_shared<StillEngine>(), second = std::make_shared<StillEngine>();
  first->figures.running = 2;
  first->figures.waiting = 3;
  first->figures.blocks_total = 8;
  first->figures.blocks_free = 2;
  first->figures.prompt_tokens_total = 100;
  first->figures.generated_tokens_total = 50;
  first->figures.queried_tokens_total = 80;
  first->figures.cached_tokens_total = 20;
  second->figures.is_loaded = false;
  std::vector<api::ServedModel> models = {{.name = "a", .engine = first},
                                          {.name = "b", .engine = second},
                                          {.name = "lora", .engine = first, .adapter = 0}};
  ServerOptions options;
  options.port = 0;
  options.no_auth = true;
  Server server(options, models);
  std::jthread thread([&] { server.run(); });
  const RawResponse answer = RawClient(server.port()).ask(get("/api/v1/engine"));
  server.stop();
  ASSERT_EQ(answer.status, 200) << answer.body;
  const json body = json::parse(answer.body);
  ASSERT_EQ(body["data"].size(), 2u) << "an adapter's engine is its model's";
  EXPECT_EQ(body["data"][0], json({{"name", "a"},
                                   {"loaded", true},
                                   {"loading", false},
                                   {"running", 2},
                                   {"waiting", 3},
                                   {"kv_usage", 0.75},
                                   {"prompt_tokens_total", 100},
                                   {"generation_tokens_total", 50},
                                   {"prefix_hit_rate", 0.25},
                                   {"tokens_per_second", nullptr}}));
  EXPECT_EQ(body["data"][1]["loaded"], false);
  EXPECT_EQ(body["data"][1]["kv_usage"], 0);
  EXPECT_EQ(body["data"][1]["prefix_hit_rate"], nullptr) << "it has looked nothing up";
  EXPECT_GT(body["memory"]["process_bytes"], 1 << 20);
  EXPECT_GT(body["memory"]["total_bytes"], body["memory"]["available_bytes"]);
  EXPECT_GE(body["threads"]["cpus"], 1);
  EXPECT_GE(body["threads"]["process"], 2);
}

TEST(MeasuredSpeed, IsThatOfTokensBehindTheFirst) {
  const auto engine = std::make_shared<StillEngine>();
  const api::ServedModel model{.name = "m", .engine = engine};
  EXPECT_EQ(measured_tokens_per_second(model), nullptr);
  engine::EngineStats& figures = engine->figures;
  figures.generated_tokens_total = 2 + 40;  // of two answers, two tokens a step
  for (int i = 0; i < 2; ++i) figures.first_token.observe(1.0);
  for (int i = 0; i < 15; ++i) figures.inter_token.observe(0.1);
  EXPECT_EQ(measured_tokens_per_second(model), nullptr) << "too few to tell";
  for (int i = 0; i < 5; ++i) figures.inter_token.observe(0.1);
  EXPECT_NEAR(measured_tokens_per_second(model).get<double>(), 20, 1e-9);
  EXPECT_EQ(measured_tokens_per_second({.name = "lora", .engine = engine, .adapter = 0}), nullptr);
}

TEST(EngineView, TellsWhatTheEngineHasWithoutWhatWasSaid) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    const auto note = [&](engine::TraceEvent::Kind kind) {
      part.request().trace->add(
          {.kind = kind, .at = SteadyClock().now(), .wait = engine::Wait::place});
    };
    note(engine::TraceEvent::Kind::queued);
    note(engine::TraceEvent::Kind::waiting);
    part.say("SECRETANSWER");
    part.wait_for_go();
    note(engine::TraceEvent::Kind::finished);
  });
  RawClient client(under.port());
  client.send(post("/v1/completions", R"({"model":"m","prompt":"SECRETPROMPT","stream":true})",
                   "Authorization: Bearer SECRETKEY\r\nx-request-id: mine\r\n"));
  ASSERT_TRUE(client.wait_for("SECRETANSWER"));
  const RawResponse answer = RawClient(under.port()).ask(get("/api/v1/requests"));
  EXPECT_EQ(answer.body.find("SECRET"), std::string::npos) << answer.body;
  const json data = json::parse(answer.body).at("data");
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(data[0]["id"], "mine");
  EXPECT_EQ(data[0]["state"], "waiting");
  EXPECT_EQ(data[0]["reason"], "place");
  EXPECT_EQ(data[0]["project"], nullptr) << "nobody is asked";
  EXPECT_EQ(data[0]["key"], nullptr);
  EXPECT_GT(data[0]["prompt_tokens"], 0);
  EXPECT_GE(data[0]["waited_ms"], 0);
  under.engine->go();
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(json::parse(RawClient(under.port()).ask(get("/api/v1/requests")).body).at("data"),
            json::array());
}

}  // namespace
}  // namespace ridge::server::engine_view_test
