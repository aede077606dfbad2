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

struct BusyWatched : Watched {
  BusyWatched() { engine->figures.running = 1; }
  int retry_after_s(const std::string& group = "a") {
    return health.retry_after_s(models[0], group, clock.now());
  }
};

TEST(Health, TellsWhenToComeBackFromTheMeasuredRate) {
  BusyWatched watched;
  for (int i = 0; i < 20; ++i) {  // one request in eight seconds
    ++watched.engine->figures.finished_total;
    watched.pass(8s);
  }
  const int slow_s = watched.retry_after_s();
  EXPECT_GE(slow_s, 8);
  EXPECT_LE(slow_s, 9);
  watched.pass(40s);  // and none since
  EXPECT_EQ(watched.retry_after_s(), 60);
}

TEST(Health, GuessesWhenToComeBackWhereNothingHasEndedYet) {
  BusyWatched watched;
  EXPECT_EQ(watched.retry_after_s("a"), 10) << "as long as an answer may take";
  for (int i = 0; i < 20; ++i) watched.pass(1s);
  EXPECT_EQ(watched.retry_after_s("a"), 60)
      << "the second of two, where the first may take as long again as nothing has ended";
  BusyWatched wide;
  wide.engine->figures.running = 16;
  EXPECT_EQ(wide.retry_after_s("a"), 1);
}

TEST(Health, EachWhoIsRefusedIsToldOfAnEndingOfItsOwn) {
  BusyWatched watched;
  for (int i = 0; i < 50; ++i) {  // one a second
    ++watched.engine->figures.finished_total;
    watched.pass(1s);
  }
  for (int i = 1; i <= 5; ++i) EXPECT_EQ(watched.retry_after_s("a"), i);
  for (int i = 0; i < 3; ++i) {
    ++watched.engine->figures.finished_total;
    watched.pass(1s);
  }
  EXPECT_EQ(watched.retry_after_s("a"), 3) << "two of those before still wait for theirs";
}

TEST(Health, GroupsThatAreRefusedShareTheEndings) {
  BusyWatched watched;
  for (int i = 0; i < 50; ++i) {
    ++watched.engine->figures.finished_total;
    watched.pass(1s);
  }
  for (int i = 0; i < 20; ++i) watched.retry_after_s("greedy");
  EXPECT_EQ(watched.retry_after_s("other"), 2) << "every second ending is its group's";
}

TEST(Health, GroupsWithoutEndTakeNoMemoryWithoutEnd) {
  BusyWatched watched;
  for (int i = 0; i < 50; ++i) {
    watched.engine->figures.finished_total += 100;
    watched.pass(1s);
  }
  for (int i = 0; i < 5000; ++i) watched.retry_after_s(std::to_string(i));
  EXPECT_EQ(watched.retry_after_s("one more"), 60) << "there are more than can be told apart";
  EXPECT_LT(watched.retry_after_s("7"), 60) << "those that were told keep their place";
  watched.engine->figures.running = 0;
  watched.pass(1s);
  watched.engine->figures.running = 1;
  watched.pass(1s);
  EXPECT_LT(watched.retry_after_s("one more"), 60) << "whom nobody is before";
}

TEST(Health, AModelThatComesAgainUnderItsNameCountsAnew) {
  BusyWatched watched;
  watched.engine->figures.finished_total = 1000;
  watched.pass(1s);
  const auto gone = std::exchange(watched.models, {});
  watched.pass(1s);
  watched.models = gone;
  watched.engine->figures.finished_total = 0;
  watched.pass(1s);
  EXPECT_EQ(watched.retry_after_s(), 10) << "nothing has ended yet";
}

TEST(Health, WhatEndedBeforeAnIdleHourSaysNothingOfNow) {
  BusyWatched watched;
  for (int i = 0; i < 50; ++i) {
    ++watched.engine->figures.finished_total;
    watched.pass(1s);
  }
  watched.engine->figures.running = 0;
  watched.pass(1h);
  watched.engine->figures.running = 1;
  watched.pass(1s);
  EXPECT_EQ(watched.retry_after_s(), 10);
  ++watched.engine->figures.finished_total;
  watched.pass(1s);
  EXPECT_EQ(watched.retry_after_s(), 2) << "one has ended in two seconds";
}

}  // namespace
}  // namespace ridge::server::health_test
