#include "server/health.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/still_engine.h"

namespace ridge::server::health_test {
namespace {

using namespace std::chrono_literals;

struct Watched {
  std::shared_ptr<StillEngine> engine = std::make_shared<StillEngine>();
  std::vector<api::ServedModel> models = {{.name = "m", .engine = engine}};
  FakeClock clock;
  Health health{120s, clock.now()};

  void pass(Clock::Duration time) {
    clock.advance(time);
    health.observe(models, clock.now());
  }
};

TEST(Health, AnIdleEngineIsAlive) {
  Watched watched;
  watched.pass(1h);
  EXPECT_TRUE(watched.health.alive());
}

TEST(Health, AnEngineThatStandsStillWithWorkIsNot) {
  Watched watched;
  watched.engine->figures.running = 1;
  watched.pass(100s);
  EXPECT_TRUE(watched.health.alive());
  watched.pass(100s);
  EXPECT_FALSE(watched.health.alive());
  const std::string body =
      watched.health.body(watched.models, watched.clock.now(), /*draining=*/false, 3);
  EXPECT_EQ(nlohmann::json::parse(body)["status"], "stalled");
  ++watched.engine->figures.steps_total;
  watched.pass(1s);
  EXPECT_TRUE(watched.health.alive());
}

TEST(Health, AnEngineThatLoadsItsModelIsAlive) {
  Watched watched;
  watched.engine->figures.waiting = 1;
  watched.engine->figures.is_loading = true;
  watched.pass(1h);
  EXPECT_TRUE(watched.health.alive());
  watched.engine->figures.is_loading = false;
  watched.pass(121s);
  EXPECT_FALSE(watched.health.alive());
}

TEST(Health, TellsWhenToComeBackFromTheMeasuredRate) {
  Watched watched;
  EXPECT_EQ(watched.health.retry_after_s(watched.models[0]), 1);
  for (int i = 0; i < 20; ++i) {  // one request in eight seconds
    ++watched.engine->figures.finished_total;
    watched.pass(8s);
  }
  const int slow_s = watched.health.retry_after_s(watched.models[0]);
  EXPECT_GE(slow_s, 8);
  EXPECT_LE(slow_s, 9);
  watched.pass(40s);  // and none since
  EXPECT_EQ(watched.health.retry_after_s(watched.models[0]), 60);
}

}  // namespace
}  // namespace ridge::server::health_test
