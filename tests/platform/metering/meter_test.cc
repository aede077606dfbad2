#include "platform/metering/meter.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include <fstream>
#include <future>
#include <memory>

#include "platform/database/failing_disk.h"
#include "platform/metering/meter_fixture.h"
#include "platform/metering/server_slot.h"
#include "platform/metering/usage.h"
#include "platform/throws.h"

namespace ridge::platform::meter_test {
namespace {

using MeterTest = MeterFixture;
INSTANTIATE_ON_BOTH_DATABASES(MeterTest);

TEST_P(MeterTest, WhatWasSettledIsInTheDatabaseWhenItIsSaid) {
  EXPECT_FALSE(reserve("a").refusal);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 1);
  EXPECT_FALSE(settle("a"));
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE request_id = 'req_a'"), 5);
}

TEST_P(MeterTest, ManyAtOnceAreEachDoneOnce) {
  constexpr int many = 300;
  std::atomic<int> admitted{0}, settled{0};
  for (int i = 0; i < many; ++i) {
    const std::string id = "r" + std::to_string(i);
    meter_->reserve({.id = id, .project_id = project_, .key_id = key_, .model = "m"},
                    [&, id](const Admission& admission) {
                      admitted += !admission.refusal;
                      meter_->settle({.id = id, .completion_tokens = 1, .finish_reason = "stop"},
                                     [&](const std::optional<Error>& error) { settled += !error; });
                    });
  }
  EXPECT_TRUE(comes_true([&] { return settled == many; }));
  EXPECT_EQ(admitted, many);
  EXPECT_EQ(records(), many);
}

TEST_P(MeterTest, WithoutADatabaseNothingBeginsAndWhatEndsWaitsInTheSpool) {
  reserve("a");
  lose_database();
  const Admission refused = reserve("b");
  ASSERT_TRUE(refused.refusal);
  EXPECT_EQ(refused.refusal->kind, Refusal::Kind::unavailable);
  EXPECT_FALSE(settle("a"));
  EXPECT_EQ(records(), 0);
  find_database();
  EXPECT_TRUE(comes_true([&] { return records() == 1; }));
  EXPECT_TRUE(comes_true([&] { return std::filesystem::file_size(folder_ / "spool") == 0; }));
  EXPECT_FALSE(reserve("c").refusal);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 1);
}

TEST_P(MeterTest, TheSpoolOutlivesTheProgramAndIsReplayedOnce) {
  reserve("a");
  reserve("b");
  lose_database();
  EXPECT_FALSE(settle("a", 7));
  meter_.reset();
  find_database();
  std::ofstream(folder_ / "spool", std::ios::app) << "{\"id\": \"cut o";
  meter_ = make();
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE request_id = 'req_a'"), 7);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'failed'"), 1);  // b
  meter_.reset();
  meter_ = make();
  EXPECT_EQ(records(), 2);
}

TEST_P(MeterTest, WhereNeitherTakesItTheCallerLearnsThat) {
  meter_.reset();
  meter_ = make(/*most_spool_bytes=*/10);
  reserve("a");
  lose_database();
  const auto error = settle("a");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::unavailable);
  meter_.reset();
  find_database();
  meter_ = make();  // the reservation is still there
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'failed'"), 1);
}

TEST_P(MeterTest, WhatNeitherTookIsAFailureOnceTheDatabaseIsBack) {
  meter_.reset();
  meter_ = make(/*most_spool_bytes=*/10);
  reserve("a");
  lose_database();
  EXPECT_TRUE(settle("a"));
  find_database();
  EXPECT_TRUE(comes_true([&] { return records() == 1; }));
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE finish_reason = 'failed'"),
            5);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
}

// Its server ends as it does where its log finds no room, and comes back by itself.
TEST_P(MeterTest, NothingIsLostWithAServerThatEndsAndComesBack) {
  if (is_sqlite()) GTEST_SKIP() << "has no server";
  for (int round = 0; round < 5; ++round) {
    const std::string id = "r" + std::to_string(round);
    ASSERT_FALSE(reserve(id).refusal);
    const auto session = raw_session();
    int pid = 0;
    *session << "SELECT pg_backend_pid()", soci::into(pid);
    crash_server(pid);
    EXPECT_FALSE(settle(id, 7));
    EXPECT_TRUE(comes_true([&] {
      try {
        return records() == round + 1 && !reserve("w" + id).refusal;
      } catch (const soci::soci_error&) {
        return false;  // it is not back yet
      }
    }));
  }
}

class MeterOnAFailingDisk : public MeterTest {
 protected:
  FailingDisk disk_;
};
INSTANTIATE_TEST_SUITE_P(On, MeterOnAFailingDisk, testing::Values("SQLite"));

TEST_P(MeterOnAFailingDisk, WhatItDidNotTakeIsInTheSpoolUntilItHas) {
  reserve("a");
  disk_.fail_syncs_of_logs(1);
  EXPECT_FALSE(settle("a", 7));
  EXPECT_TRUE(disk_.has_failed_all());
  EXPECT_TRUE(comes_true([&] { return std::filesystem::file_size(folder_ / "spool") == 0; }));
  disk_.lose_power(location(), folder_ / "left.db");
  Database left((folder_ / "left.db").string());
  left.read([](soci::session& session) {
    int64_t tokens = 0;
    session << "SELECT SUM(completion_tokens) FROM usage_records", soci::into(tokens);
    EXPECT_EQ(tokens, 7);
  });
}

TEST_P(MeterTest, WhoeverAsksWithoutADatabaseFillsNoSpool) {
  lose_database();
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(reserve("r" + std::to_string(i)).refusal);
  EXPECT_EQ(std::filesystem::file_size(folder_ / "spool"), 0);
}

// After a time without the database each server's lease has run out.
TEST_P(MeterTest, AServerSettlesOthersOnlyAfterALeaseWithTheDatabase) {
  reserve("a");
  lose_database();
  EXPECT_FALSE(settle("a", 7));
  meter_.reset();
  find_database();
  change("UPDATE meter_servers SET lease_ends_at_ms = 1");
  MeterOptions wanted = options("spool-2");
  auto other = std::make_unique<Meter>(Ledger(*database_, "server-2"), wanted);
  const std::string renewed =
      "SELECT COUNT(*) FROM meter_servers WHERE id = 'server-2' AND lease_ends_at_ms > ";
  const auto now_ms = [&] {
    return database_->read([&](soci::session& s) { return database_->now_us(s) / 1000; });
  };
  const auto renews = [&] {
    const std::string later = renewed + std::to_string(now_ms() + Ledger::lease.count());
    return comes_true([&] { return number(later) == 1; });
  };
  EXPECT_TRUE(renews() && renews());
  EXPECT_EQ(records(), 0);
  meter_ = make();  // has its say
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE finish_reason = 'stop'"), 7);

  reserve("b");
  meter_.reset();
  change("UPDATE meter_servers SET lease_ends_at_ms = 1 WHERE id = 'server-1'");
  EXPECT_TRUE(renews() && renews());
  EXPECT_EQ(records(), 1);
  other.reset();
  wanted.settles_others_after = {};
  other = std::make_unique<Meter>(Ledger(*database_, "server-2"), wanted);
  EXPECT_TRUE(comes_true([&] { return records() == 2; }));
}

TEST_P(MeterTest, NotesOfWhatRunsAreKeptForACrash) {
  reserve("a");
  meter_->note({"a", 10, 33});
  const auto noted = [&] {
    return number("SELECT used_completion_tokens FROM reservations WHERE id = 'a'") == 33;
  };
  EXPECT_TRUE(comes_true(noted));
}

TEST_P(MeterTest, WhatStillWaitsAtTheEndIsSettled) {
  reserve("a");
  meter_->settle({.id = "a", .completion_tokens = 3, .finish_reason = "stop"});
  meter_.reset();
  EXPECT_EQ(records(), 1);
}

TEST_P(MeterTest, UsageIsAddedUpByWhatIsAskedFor) {
  const std::string other = identity_->create_key({.name = "other"}, "test").key.id;
  for (const char* id : {"a", "b", "c"}) {
    reserve(id);
    settle(id);
  }
  change("UPDATE usage_records SET key_id = '" + other +
         "', at_ms = 86400000, finish_reason = 'cancelled', micros = 9 WHERE id = 'c'");
  const auto by_key = usage(*database_, {.by = {UsageBy::key}});
  ASSERT_EQ(by_key.size(), 2);
  EXPECT_EQ(by_key[0].key, "k");
  EXPECT_EQ(by_key[0].requests, 2);
  EXPECT_EQ(by_key[0].prompt_tokens, 20);
  EXPECT_EQ(by_key[0].completion_tokens, 10);
  EXPECT_EQ(by_key[1].failures, 1);
  EXPECT_EQ(by_key[1].micros, 9);
  const auto by_day =
      usage(*database_, {.until_ms = 86'400'001, .by = {UsageBy::day, UsageBy::project}});
  ASSERT_EQ(by_day.size(), 1);
  EXPECT_EQ(by_day[0].day, "1970-01-02");
  EXPECT_EQ(by_day[0].project, "default");
  const auto all = usage(*database_, {});
  ASSERT_EQ(all.size(), 1);
  EXPECT_EQ(all[0].requests, 3);
  EXPECT_EQ(forget_usage(*database_, 86'400'001, "test"), 1);
  EXPECT_EQ(records(), 2);
  EXPECT_EQ(identity_->audit_events(1).front().action, "usage.forget");
}

TEST(ServerSlotTest, PlacesAreHeldByOneAndKeepTheirName) {
  const TemporaryFolder folder;
  auto first = std::make_unique<ServerSlot>(folder / "metering");
  const ServerSlot second(folder / "metering");
  EXPECT_NE(first->server_id(), second.server_id());
  EXPECT_NE(first->spool_path(), second.spool_path());
  const std::string id = first->server_id();
  first.reset();
  EXPECT_EQ(ServerSlot(folder / "metering").server_id(), id);
}

TEST(ServerSlotTest, FindsPlacesThatTheDeadHaveLeft) {
  const TemporaryFolder folder;
  const ServerSlot first(folder / "metering");
  auto second = std::make_unique<ServerSlot>(folder / "metering");
  const std::string id = second->server_id();
  EXPECT_TRUE(ServerSlot::left_behind(folder / "metering").empty());
  second.reset();
  const std::vector<ServerSlot> left = ServerSlot::left_behind(folder / "metering");
  ASSERT_EQ(left.size(), 1);
  EXPECT_EQ(left.front().server_id(), id);
  EXPECT_NE(ServerSlot(folder / "metering").server_id(), id);  // held while it is looked after
}

}  // namespace
}  // namespace ridge::platform::meter_test
