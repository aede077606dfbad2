// What nothing limits goes a shorter way on PostgreSQL, and the ledger is the same.
#include "platform/metering/unlimited.h"

#include <gmock/gmock.h>

#include <chrono>
#include <future>
#include <random>
#include <string>
#include <vector>

#include "platform/metering/ledger_fixture.h"

namespace ridge::platform::unlimited_test {
namespace {

using UnlimitedTest = LedgerFixture;
INSTANTIATE_ON_BOTH_DATABASES(UnlimitedTest);

// Every column of records and sums.
std::vector<std::string> all_of(soci::session& session) {
  std::vector<std::string> rows;
  const auto take = [&](const std::string& query) {
    std::string row;
    soci::statement select = (session.prepare << query, soci::into(row));
    select.execute();
    while (select.fetch()) rows.push_back(row);
  };
  const auto text = [](const char* column) {
    return " || '|' || CAST(" + std::string(column) + " AS TEXT)";
  };
  std::string records = "SELECT id";
  for (const char* column :
       {"at_ms", "organisation_id", "project_id", "key_id", "request_id", "model", "endpoint",
        "prompt_tokens", "cached_tokens", "reasoning_tokens", "completion_tokens", "finish_reason",
        "micros", "custom_endpoint", "endpoint_version", "free_tokens",
        "CAST(ttft_ms * 8 AS BIGINT)", "CAST(duration_ms * 8 AS BIGINT)"}) {
    records += text(column);
  }
  take(records + " FROM usage_records ORDER BY id");
  std::string sums = "SELECT subject";
  for (const char* column : {"model", "period", "requests", "tokens", "micros", "free_tokens"}) {
    sums += text(column);
  }
  take(sums + " FROM usage_sums ORDER BY subject, model, period");
  return rows;
}

TEST_P(UnlimitedTest, TheLedgerSaysTheSameAsOfWhatIsLimited) {
  limits_->set_price("", Price{1'000'003, 500'001, 2'000'007}, "test");
  limits_->set_price("m", Price{Limits::largest_price_micros, 1, 3}, "test");
  limits_->set_price("helper", Price{7, 5, 11}, "test");
  std::vector<std::vector<std::string>> ledgers;
  for (const bool is_limited : {false, true}) {
    if (is_limited) limit(LimitKind::concurrent_requests, 1'000'000);
    now_us_ = noon_us;
    std::mt19937 random(7);
    const auto below = [&](int64_t most) {
      return static_cast<int64_t>(random() % static_cast<uint64_t>(most));
    };
    for (int round = 0; round < 20; ++round) {
      std::vector<Reservation> asked;
      std::vector<Settlement> ended;
      for (int64_t i = below(6); i >= 0; --i) {
        Reservation next = wish("r" + std::to_string(round) + "." + std::to_string(i),
                                below(2'000'000), below(2'000));
        next.request_id = "quoted \" ' \\ {} \xE4\xBD\xA0";
        next.model = below(2) == 0 ? "m" : "o'ther \"model\"";
        if (below(3) == 0) next.custom_endpoint = below(2) == 0 ? "helper" : "without a price";
        next.endpoint_version = below(3);
        if (below(2) == 0) next.user_id = "user_1";
        if (below(4) == 0) next.key_id = next.allowance_id = "user_1";  // who has signed in
        if (below(5) == 0) next.key_id = second_key_;  // rotated
        Settlement end = used(next.id, next.prompt_tokens, below(next.most_completion_tokens + 1));
        end.cached_tokens = below(end.prompt_tokens + 1);
        end.reasoning_tokens = below(end.completion_tokens + 1);
        end.ttft_ms = static_cast<double>(below(1000)) / 8;
        end.duration_ms = static_cast<double>(below(100'000)) / 8;
        if (below(9) == 0) end.is_void = true;
        asked.push_back(next);
        ended.push_back(end);
      }
      for (const Admission& each : ledger_->commit({}, asked)) EXPECT_FALSE(each.refusal);
      EXPECT_EQ(open(), static_cast<int64_t>(asked.size()));
      now_us_ += below(100'000) * second_us;
      ledger_->commit(ended, {});
      ledger_->commit(ended, {});  // once only
      EXPECT_EQ(open(), 0);
    }
    const auto raw = raw_session();
    ledgers.push_back(all_of(*raw));
    *raw << "DELETE FROM usage_records";
    *raw << "DELETE FROM usage_sums";
  }
  ASSERT_GT(ledgers[0].size(), 60u);
  EXPECT_EQ(ledgers[0], ledgers[1]);
}

TEST_P(UnlimitedTest, AReservationIsTheSameToo) {
  limits_->set_price("m", Price{3'000'000, 1, 5'000'000}, "test");
  std::vector<int64_t> seen;
  for (const bool is_limited : {false, true}) {
    if (is_limited) limit(LimitKind::concurrent_requests, 5);
    ask("a", 10, 100);
    seen.push_back(number("SELECT tokens * 1000000 + micros FROM reservations WHERE rates = '[]'"));
    end({.id = "a", .is_void = true});
  }
  EXPECT_EQ(seen[0], 110'000'000 + 530);
  EXPECT_EQ(seen[1], seen[0]);
}

TEST_P(UnlimitedTest, BeginsAndEndsWhileAnotherWrites) {
  if (is_sqlite()) GTEST_SKIP() << "SQLite has one writer";
  std::promise<void> has_lock, may_end;
  auto writer = std::async(std::launch::async, [&] {
    database_->write([&](soci::session&) {
      has_lock.set_value();
      may_end.get_future().wait_for(std::chrono::seconds(60));
    });
  });
  has_lock.get_future().wait();
  auto work = std::async(std::launch::async, [&] {
    ask("a", 1, 1);
    end(used("a", 1, 1));
  });
  EXPECT_EQ(work.wait_for(std::chrono::seconds(30)), std::future_status::ready);
  may_end.set_value();
  writer.get();
  work.get();
  EXPECT_EQ(records(), 1);
}

TEST_P(UnlimitedTest, ALimitThatIsSetCountsWhatRunsAndALimitThatIsGoneHoldsNobody) {
  ask("a", 10, 10);
  limit(LimitKind::concurrent_requests, 1);
  EXPECT_EQ(kind(ask("b", 1, 1)), Kind::rate);
  limit(LimitKind::concurrent_requests, std::nullopt);
  limit(LimitKind::tokens_per_day, 50);
  EXPECT_EQ(kind(ask("c", 15, 16)), Kind::spent);
  end(used("a", 10, 0));
  EXPECT_FALSE(ask("d", 20, 20).refusal);
  limit(LimitKind::tokens_per_day, std::nullopt);
  EXPECT_FALSE(ask("e", 1000, 1000).refusal);
  EXPECT_FALSE(ask("f", 1000, 1000).refusal);
  for (const char* id : {"d", "e", "f"}) end(used(id, 1, 1));
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(records(), 4);
}

TEST_P(UnlimitedTest, AServerThatWasTakenForDeadCorrectsWhatWasRecordedForIt) {
  ask("a", 10, 100);
  const RequestProgress progress{"a", 10, 3};
  ledger_->renew(std::span(&progress, 1));
  const auto other = make("server-2");
  now_us_ += 100 * second_us;
  EXPECT_EQ(other->settle_abandoned(), 1);
  end(used("a", 10, 40));
  end(used("a", 10, 40));
  EXPECT_EQ(number("SELECT SUM(prompt_tokens + completion_tokens) FROM usage_records"), 50);
  EXPECT_EQ(number("SELECT requests * 1000 + tokens FROM usage_sums WHERE subject = 'org' AND model "
                   "= '' AND period = '2026-11'"),
            1050);
  EXPECT_EQ(open(), 0);
}

// The server ends idle connections as it is restarted; the next request is not to notice.
TEST_P(UnlimitedTest, AConnectionThatWasEndedIsOpenedAnew) {
  if (is_sqlite()) GTEST_SKIP() << "a file ends no connection";
  ask("a", 1, 1);
  end_connections();
  EXPECT_FALSE(ask("b", 1, 1).refusal);
  end(used("a", 1, 1));
  EXPECT_EQ(records(), 1);
}

}  // namespace
}  // namespace ridge::platform::unlimited_test
