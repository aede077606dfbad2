// Work begins before its reservation is written, and whoever asked is told the truth afterwards.
#include <gmock/gmock.h>

#include <atomic>

#include "platform/metering/meter_fixture.h"

namespace ridge::platform::beginning_test {
namespace {

// Nobody else writes reservations as long as it lives.
class WriterBefore {
 public:
  WriterBefore(std::unique_ptr<soci::session> session, bool is_sqlite)
      : session_(std::move(session)) {
    *session_ << (is_sqlite ? "BEGIN IMMEDIATE" : "BEGIN; LOCK TABLE reservations IN SHARE MODE");
  }
  ~WriterBefore() { *session_ << "COMMIT"; }

 private:
  const std::unique_ptr<soci::session> session_;
};

class BeginningTest : public MeterFixture {
 protected:
  // What a caller is told, as it comes.
  struct Told {
    std::atomic<bool> may_begin = false;
    std::atomic<int> times = 0;  // that the following was
    Admission admission;
    std::future<void> done;
  };
  std::shared_ptr<Told> begin(const std::string& id) {
    const auto told = std::make_shared<Told>();
    const auto promise = std::make_shared<std::promise<void>>();
    told->done = promise->get_future();
    meter_->reserve(
        wish(id),
        [told, promise](Admission admission) {
          told->admission = std::move(admission);
          if (++told->times == 1) promise->set_value();
        },
        [told] {
          EXPECT_FALSE(told->may_begin) << "twice";
          EXPECT_EQ(told->times, 0) << "behind what it is ahead of";
          told->may_begin = true;
        });
    return told;
  }
};
INSTANTIATE_ON_BOTH_DATABASES(BeginningTest);

TEST_P(BeginningTest, WhatNothingLimitsBeginsBeforeItIsReserved) {
  EXPECT_FALSE(begin("a")->may_begin) << "nobody knows yet that nothing limits it";
  meter_->wait_idle();
  std::shared_ptr<Told> told;
  {
    const WriterBefore writer(raw_session(), is_sqlite());
    told = begin("b");
    EXPECT_TRUE(told->may_begin);
    EXPECT_EQ(told->times, 0);
    EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 1);
  }
  told->done.wait();
  EXPECT_FALSE(told->admission.refusal);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations WHERE id = 'b'"), 1);
}

// Both wait for the thread, in whatever order they came.
TEST_P(BeginningTest, AnEndThatComesWithItsReservationIsSettledAfterIt) {
  reserve("a");
  std::promise<void> is_held, goes_on;
  meter_->reserve(wish("b"), [&](const Admission&) {
    is_held.set_value();
    goes_on.get_future().wait();
  });
  is_held.get_future().wait();
  const auto told = begin("c");
  EXPECT_TRUE(told->may_begin);
  std::promise<std::optional<Error>> settled;
  meter_->settle({.id = "c", .completion_tokens = 3, .finish_reason = "cancelled"},
                 [&](std::optional<Error> error) { settled.set_value(std::move(error)); });
  const auto none = begin("d");
  meter_->settle({.id = "d", .is_void = true});
  goes_on.set_value();
  EXPECT_FALSE(settled.get_future().get());
  meter_->wait_idle();
  EXPECT_EQ(told->times, 1);
  EXPECT_FALSE(none->admission.refusal);
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE id = 'c'"), 3);
  EXPECT_EQ(records(), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 2) << "a and b, which run";
}

TEST_P(BeginningTest, ALimitThatWasSetRefusesWhatBeganAndLetsNoMoreBegin) {
  reserve("a");
  change("INSERT INTO limits (subject, model, kind, most) VALUES ('org', '', 'tokens_per_day', 150)");
  const auto first = begin("b");
  EXPECT_TRUE(first->may_begin);
  first->done.wait();
  ASSERT_TRUE(first->admission.refusal);
  EXPECT_EQ(first->admission.refusal->kind, Refusal::Kind::spent);
  const auto second = begin("c");
  second->done.wait();
  EXPECT_FALSE(second->may_begin);
  EXPECT_TRUE(second->admission.refusal);
  meter_->settle({.id = "b", .completion_tokens = 3, .finish_reason = "stop"});  // as by mistake
  meter_->wait_idle();
  EXPECT_EQ(records(), 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 1);
}

TEST_P(BeginningTest, WithoutADatabaseNoMoreBeginsThanWhatFoundItOut) {
  meter_.reset();
  MeterOptions wanted = options();
  wanted.retries_after = std::chrono::hours(1);
  meter_ = std::make_unique<Meter>(Ledger(*database_, "server-1"), wanted);
  reserve("a");
  lose_database();
  const auto first = begin("b");
  first->done.wait();
  EXPECT_TRUE(first->admission.refusal);
  EXPECT_EQ(first->admission.refusal->kind, Refusal::Kind::unavailable);
  const auto second = begin("c");
  second->done.wait();
  EXPECT_FALSE(second->may_begin);
  EXPECT_TRUE(second->admission.refusal);
  find_database();
}

// Commits of reservations on PostgreSQL that come to their end as a test says.
class BeginningWithSlowCommits : public BeginningTest {
 protected:
  void SetUp() override {
    BeginningTest::SetUp();
    if (!identity_) return;
    // Something limits it, so that only the database decides.
    change("INSERT INTO limits (subject, model, kind, most) VALUES ('org', '', "
           "'concurrent_requests', 2)");
    change("INSERT INTO limits (subject, model, kind, most) VALUES ('org', '', "
           "'tokens_per_minute', 1000000)");
    change("CREATE FUNCTION wait_for_test() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN PERFORM "
           "pg_advisory_xact_lock_shared(42); RETURN NULL; END'");
    change("CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON reservations DEFERRABLE INITIALLY "
           "DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_test()");
  }
  void hold() {
    holder_ = raw_session();
    int nothing = 0;
    *holder_ << "SELECT 1 FROM (SELECT pg_advisory_lock(42)) l", soci::into(nothing);
  }
  void let_go() { holder_.reset(); }
  // Until it waits in its COMMIT; which process of PostgreSQL that is.
  int committing() {
    int pid = 0;
    EXPECT_TRUE(comes_true([&] {
      const auto session = raw_session();
      *session << "SELECT COALESCE(MAX(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
                  "AND objid = 42",
          soci::into(pid);
      return pid != 0;
    }));
    return pid;
  }

  std::unique_ptr<soci::session> holder_;
};
INSTANTIATE_TEST_SUITE_P(On, BeginningWithSlowCommits, testing::Values("PostgreSQL"));

TEST_P(BeginningWithSlowCommits, WhatLimitsAllowBeginsBeforeItsCommit) {
  hold();
  const auto told = begin("a");
  committing();
  EXPECT_TRUE(told->may_begin);
  EXPECT_EQ(told->times, 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0) << "others would see it";
  let_go();
  told->done.wait();
  EXPECT_FALSE(told->admission.refusal);
  EXPECT_EQ(told->admission.tokens->most, 1'000'000) << "known to those who write headers";
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 1);
}

TEST_P(BeginningWithSlowCommits, WhatLimitsRefuseDoesNot) {
  EXPECT_FALSE(reserve("a").refusal);
  EXPECT_FALSE(reserve("b").refusal);
  const auto told = begin("c");
  told->done.wait();
  EXPECT_FALSE(told->may_begin);
  EXPECT_EQ(told->admission.refusal->kind, Refusal::Kind::rate);
}

TEST_P(BeginningWithSlowCommits, AnEndBeforeTheCommitIsSettledAfterIt) {
  hold();
  const auto told = begin("a");
  committing();
  std::promise<std::optional<Error>> settled;
  meter_->settle({.id = "a", .completion_tokens = 3, .finish_reason = "cancelled"},
                 [&](std::optional<Error> error) { settled.set_value(std::move(error)); });
  let_go();
  EXPECT_FALSE(settled.get_future().get());
  EXPECT_EQ(told->times, 1);
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE id = 'a'"), 3);
  EXPECT_EQ(records(), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
}

// What began is told so, and leaves neither a reservation nor anything of a minute's limit taken.
TEST_P(BeginningWithSlowCommits, ACommitThatFailsRefusesWhatBeganAndLeavesNothing) {
  hold();
  const auto told = begin("a");
  const int pid = committing();
  EXPECT_TRUE(told->may_begin);
  int nothing = 0;
  *raw_session() << "SELECT 1 FROM (SELECT pg_terminate_backend(" + std::to_string(pid) + ")) l",
      soci::into(nothing);
  told->done.wait();
  ASSERT_TRUE(told->admission.refusal);
  EXPECT_EQ(told->admission.refusal->kind, Refusal::Kind::unavailable);
  let_go();
  EXPECT_TRUE(comes_true([&] { return !meter_->waits_for_database(); }));
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM rate_levels"), 0);
  EXPECT_EQ(records(), 0);
  EXPECT_FALSE(reserve("b").refusal);
}

// All of PostgreSQL ends while one commit is under way, and comes back by itself: of what was told
// before, all is there, once.
TEST_P(BeginningWithSlowCommits, AServerThatEndsInACommitLosesNothingThatWasTold) {
  for (int round = 0; round < 3; ++round) {
    const std::string runs = "r" + std::to_string(round), next = "n" + std::to_string(round);
    ASSERT_FALSE(reserve(runs).refusal);
    hold();
    const auto told = begin(next);
    const int pid = committing();
    EXPECT_TRUE(told->may_begin);
    std::promise<std::optional<Error>> settled;
    meter_->settle({.id = runs, .completion_tokens = 7, .finish_reason = "stop"},
                   [&](std::optional<Error> error) { settled.set_value(std::move(error)); });
    // Whoever asked for the other has left meanwhile.
    meter_->settle({.id = next, .completion_tokens = 1, .finish_reason = "cancelled"});
    crash_server(pid);
    told->done.wait();
    EXPECT_TRUE(told->admission.refusal);
    EXPECT_FALSE(settled.get_future().get());
    let_go();
    EXPECT_TRUE(comes_true([&] {
      try {
        return !meter_->waits_for_database() && records() == round + 1;
      } catch (const soci::soci_error&) {
        return false;  // it is not back yet
      }
    }));
    EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE id = '" + runs + "'"), 7);
    EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
  }
}

}  // namespace
}  // namespace ridge::platform::beginning_test
