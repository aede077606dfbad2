#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/events.h"
#include "server_under_test.h"

namespace ridge::server::stopping_test {
namespace {

using namespace std::chrono_literals;
using api::events_of;

const std::string streaming = R"({"model":"m","prompt":[1],"stream":true})";

TEST(Stopping, LetsRunningRequestsEnd) {
  ServerUnderTest under([](ScriptedEngine::Part& part) {
    part.say("first");
    part.wait_for_go();
    part.say("last");
  });
  RawClient client(under.port());
  client.send(post("/v1/completions", streaming));
  ASSERT_TRUE(client.wait_for("first"));
  under.server.stop();
  RawClient other(under.port());
  EXPECT_EQ(other.ask(get("/v1/health/ready")).status, 503);
  const RawResponse refused = RawClient(under.port()).ask(post("/v1/completions", streaming));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_TRUE(refused.headers.contains("retry-after"));
  EXPECT_EQ(RawClient(under.port()).ask(get("/v1/health/live")).status, 200)
      << "not ready, yet alive";
  under.engine->go();
  under.stop();
  const RawResponse response = client.read();
  EXPECT_TRUE(response.is_whole);
  EXPECT_EQ(events_of(response.body).back(), "[DONE]");
  EXPECT_EQ(under.engine->cancelled(), 0);
}

TEST(Stopping, EndsWhatTakesTooLongWithAnError) {
  ServerOptions options;
  options.drain_timeout = 100ms;
  ServerUnderTest under(
      [](ScriptedEngine::Part& part) {
        part.say("first");
        part.wait_for_cancel();
      },
      options);
  RawClient stream(under.port());
  stream.send(post("/v1/completions", streaming));
  ASSERT_TRUE(stream.wait_for("first"));
  RawClient document(under.port());
  document.send(post("/v1/completions", R"({"prompt":[1]})"));
  while (under.engine->stats().running < 2) std::this_thread::sleep_for(1ms);
  under.stop();
  const RawResponse cut = stream.read();
  EXPECT_TRUE(cut.is_whole);
  EXPECT_EQ(events_of(cut.body).back()["error"]["code"], "unavailable");
  EXPECT_EQ(document.read().status, 503);
}

TEST(Stopping, ReturnsAtOnceWhereNothingRuns) {
  ServerOptions options;
  options.drain_timeout = options.idle_timeout = std::chrono::hours(1);
  auto under = std::make_unique<ServerUnderTest>([](ScriptedEngine::Part&) {}, options);
  RawClient idle(under->port());
  EXPECT_EQ(idle.ask(get("/health")).status, 200);
  const auto start = std::chrono::steady_clock::now();
  under.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, longest_wait);
  EXPECT_TRUE(idle.is_closed());
}

}  // namespace
}  // namespace ridge::server::stopping_test
