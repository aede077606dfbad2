#include "platform/metering/retention.h"

#include <gtest/gtest.h>
#include <soci/soci.h>

#include <chrono>
#include <latch>
#include <set>
#include <string>
#include <thread>

#include "base/comes_true.h"
#include "platform/identity/identity_fixture.h"
#include "platform/metering/usage.h"

namespace ridge::platform::retention_test {
namespace {

constexpr int64_t day_ms = 86'400'000;

class RetentionTest : public IdentityFixture {
 protected:
  // As many records, some milliseconds apart, from `at_ms` on.
  void record(int64_t at_ms, int many = 1) {
    const std::string period = "2026-11";
    database_->write([&](soci::session& session) {
      session
          << "INSERT INTO usage_records (id, at_ms, organisation_id, project_id, key_id, "
             "request_id, model, endpoint, prompt_tokens, cached_tokens, reasoning_tokens, "
             "completion_tokens, ttft_ms, duration_ms, finish_reason, micros) "
             "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE "
             "n + 1 < "
          << many << ") SELECT '" << next_++ << "-' || CAST(n AS TEXT), " << at_ms
          << " + n, 'org', 'p', 'k', 'r', 'm', '/v1/completions', 1, 0, 0, 1, 1, 1, 'stop', 0 "
             "FROM numbers";
      session << "INSERT INTO usage_sums (subject, model, period, requests, tokens, micros) VALUES "
                 "('org', 'm', :period, 1, 2, 0) ON CONFLICT (subject, model, period) DO UPDATE "
                 "SET tokens = usage_sums.tokens + 2",
          soci::use(period);
    });
  }

  int next_ = 0;
};
INSTANTIATE_ON_BOTH_DATABASES(RetentionTest);

TEST_P(RetentionTest, RemovesWholeDaysThatAreOlderAndNoLimit) {
  const int64_t today_ms = Identity::wall_clock_ms() / day_ms * day_ms;
  record(today_ms - 7 * day_ms);      // the first that stays
  record(today_ms - 7 * day_ms - 1);  // the last that goes
  record(today_ms - 90 * day_ms);
  const int64_t tokens = number("SELECT CAST(SUM(tokens) AS BIGINT) FROM usage_sums");
  const UsageRetention retention(*database_, 7);
  EXPECT_TRUE(comes_true([&] { return records() == 1; }));
  EXPECT_EQ(number("SELECT at_ms FROM usage_records"), today_ms - 7 * day_ms);
  EXPECT_EQ(number("SELECT CAST(SUM(tokens) AS BIGINT) FROM usage_sums"), tokens);
  EXPECT_TRUE(comes_true([&] {
    return number(
               "SELECT COUNT(*) FROM audit_events WHERE action = 'usage.forget' AND actor = "
               "'retention'") == 1;
  }));
}

TEST_P(RetentionTest, LooksAgain) {
  const UsageRetention retention(*database_, 1, std::chrono::milliseconds(10));
  for (int i = 0; i < 2; ++i) {
    record(1000);
    EXPECT_TRUE(comes_true([&] { return records() == 0; }));
  }
}

TEST_P(RetentionTest, IsRecordedWhereSomebodyAsksAndNotWhereTheServerLooksInVain) {
  const auto events = [&] {
    return number("SELECT COUNT(*) FROM audit_events WHERE action = 'usage.forget'");
  };
  record(1000);
  {
    const UsageRetention retention(*database_, 1, std::chrono::milliseconds(1));
    EXPECT_TRUE(comes_true([&] { return events() == 1; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // for many looks
  }
  EXPECT_EQ(events(), 1);
  EXPECT_EQ(forget_usage(*database_, 1'000'000, "user:ann"), 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM audit_events WHERE action = 'usage.forget' AND actor = "
                   "'user:ann' AND details LIKE '%\"records\":0%'"),
            1);
}

TEST_P(RetentionTest, OthersWriteBetweenItsTransactions) {
  constexpr int many = 5500;
  std::set<int64_t> left_at_a_write;
  // Where the other stands still meanwhile, it writes when all is done: that says nothing.
  for (int round = 0; round < 20 && left_at_a_write.size() < 2; ++round) {
    record(1000, many);
    std::latch has_written(1);
    std::thread other([&] {
      int64_t left = many;
      while (left > 0) {
        left = database_->write([](soci::session& session) {
          int64_t count = 0;
          session << "SELECT COUNT(*) FROM usage_records", soci::into(count);
          return count;
        });
        if (left < many) left_at_a_write.insert(left);
        if (!has_written.try_wait()) has_written.count_down();
      }
    });
    has_written.wait();
    EXPECT_EQ(forget_usage(*database_, 1'000'000, "test"), many);
    other.join();
  }
  EXPECT_GT(left_at_a_write.size(), 1U) << "some, and none";
}

TEST_P(RetentionTest, StopsWithItsServer) {
  record(1000, 3000);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(forget_usage(*database_, 1'000'000, "test", stop.get_token()), 0);
  EXPECT_EQ(records(), 3000);
  { const UsageRetention retention(*database_, 1); }  // returns, whatever it was at
}

}  // namespace
}  // namespace ridge::platform::retention_test
