#include "platform/metering/ledger.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include <memory>
#include <thread>

#include "platform/metering/ledger_fixture.h"
#include "platform/metering/usage.h"
#include "platform/throws.h"

namespace ridge::platform::ledger_test {
namespace {

using LedgerTest = LedgerFixture;
INSTANTIATE_ON_BOTH_DATABASES(LedgerTest);

TEST_P(LedgerTest, WithoutLimitsAdmitsAndKeepsARecordOfWhatWasUsed) {
  EXPECT_FALSE(ask("a", 10, 100).refusal);
  EXPECT_EQ(open(), 1);
  end({.id = "a",
       .prompt_tokens = 10,
       .cached_tokens = 4,
       .completion_tokens = 7,
       .reasoning_tokens = 3,
       .ttft_ms = 12.5,
       .duration_ms = 99,
       .finish_reason = "length"});
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(records(), 1);
  int64_t at_ms = 0, prompt = 0, cached = 0, reasoning = 0, completion = 0;
  double ttft_ms = 0, duration_ms = 0;
  std::string key, endpoint, reason;
  *raw_session() << "SELECT at_ms, key_id, endpoint, prompt_tokens, cached_tokens, "
                    "reasoning_tokens, completion_tokens, ttft_ms, duration_ms, finish_reason FROM "
                    "usage_records WHERE id = 'a'",
      soci::into(at_ms), soci::into(key), soci::into(endpoint), soci::into(prompt),
      soci::into(cached), soci::into(reasoning), soci::into(completion), soci::into(ttft_ms),
      soci::into(duration_ms), soci::into(reason);
  EXPECT_EQ(at_ms, noon_us / 1000);
  EXPECT_EQ(key, key_);
  EXPECT_EQ(endpoint, "/v1/chat/completions");
  EXPECT_THAT((std::vector<int64_t>{prompt, cached, reasoning, completion}),
              testing::ElementsAre(10, 4, 3, 7));
  EXPECT_EQ(ttft_ms, 12.5);
  EXPECT_EQ(duration_ms, 99);
  EXPECT_EQ(reason, "length");
}

TEST_P(LedgerTest, ASecondSettlementDoesNothing) {
  ask("a", 10, 100);
  end(used("a", 10, 5));
  end(used("a", 10, 5));
  end(used("never reserved", 10, 5));
  EXPECT_EQ(records(), 1);
  EXPECT_EQ(number("SELECT tokens FROM usage_sums WHERE model = '' AND period = '2026-11' AND "
                   "subject = 'org'"),
            15);
}

TEST_P(LedgerTest, ReservesTheLongestAnswerAgainstADaysTokensAndGivesBackWhatIsLeft) {
  limit(LimitKind::tokens_per_day, 1000);
  EXPECT_FALSE(ask("a", 100, 500).refusal);
  const Admission second = ask("b", 100, 301);
  EXPECT_EQ(kind(second), Kind::spent);
  EXPECT_THAT(second.refusal->message, testing::HasSubstr("400 are left"));
  EXPECT_THAT(second.refusal->message, testing::HasSubstr("of this project"));
  EXPECT_FALSE(ask("c", 100, 300).refusal);
  EXPECT_EQ(kind(ask("d", 1, 0)), Kind::spent);
  end(used("a", 100, 50));
  EXPECT_FALSE(ask("e", 50, 400).refusal);
  EXPECT_EQ(kind(ask("f", 1, 0)), Kind::spent);
}

TEST_P(LedgerTest, AllowancesBeginAnewWithTheDayAndTheMonthInUtc) {
  limit(LimitKind::tokens_per_day, 100);
  limit(LimitKind::tokens_per_month, 250);
  ask("a", 100, 0);
  end(used("a", 100, 0));
  EXPECT_EQ(kind(ask("b", 1, 0)), Kind::spent);
  now_us_ += 12 * 3600 * second_us - 1;
  EXPECT_EQ(kind(ask("c", 1, 0)), Kind::spent);
  now_us_ += 1;
  EXPECT_FALSE(ask("d", 100, 0).refusal);
  now_us_ += 24 * 3600 * second_us;
  EXPECT_FALSE(ask("e", 50, 0).refusal);  // the month's rest
  const Admission spent = ask("f", 1, 0);
  EXPECT_EQ(kind(spent), Kind::spent);
  EXPECT_THAT(spent.refusal->message, testing::HasSubstr("next month"));
  // "d" has not ended yet: it counts where it was admitted.
  now_us_ += 30 * 24 * 3600 * second_us;
  EXPECT_FALSE(ask("g", 100, 0).refusal);
  end(used("d", 100, 0));
  EXPECT_EQ(kind(ask("h", 1, 0)), Kind::spent);
  EXPECT_EQ(number("SELECT tokens FROM usage_sums WHERE subject = 'org' AND model = '' AND "
                   "period = '2026-11'"),
            200);
}

TEST_P(LedgerTest, ARateAdmitsABurstAndThenWhatFlowsBack) {
  limit(LimitKind::requests_per_minute, 3);
  for (const char* id : {"a", "b", "c"}) EXPECT_FALSE(ask(id, 1, 0).refusal) << id;
  const Admission fourth = ask("d", 1, 0);
  EXPECT_EQ(kind(fourth), Kind::rate);
  EXPECT_EQ(fourth.refusal->retry_after_ms, 20'000);
  ASSERT_TRUE(fourth.requests);
  EXPECT_EQ(fourth.requests->most, 3);
  EXPECT_EQ(fourth.requests->remaining, 0);
  EXPECT_EQ(fourth.requests->reset_ms, 60'000);
  now_us_ += 20 * second_us - 1;
  EXPECT_EQ(kind(ask("e", 1, 0)), Kind::rate);
  now_us_ += 1;  // waiting as long as was said is enough
  EXPECT_FALSE(ask("f", 1, 0).refusal);
  EXPECT_EQ(kind(ask("g", 1, 0)), Kind::rate);
  now_us_ += 3600 * second_us;  // no more than a minute's worth is saved up
  for (const char* id : {"h", "i", "j"}) EXPECT_FALSE(ask(id, 1, 0).refusal) << id;
  EXPECT_EQ(kind(ask("k", 1, 0)), Kind::rate);
}

TEST_P(LedgerTest, TokensAMinuteThatWereReservedInVainComeBack) {
  limit(LimitKind::tokens_per_minute, 600);
  const Admission first = ask("a", 100, 400);
  ASSERT_TRUE(first.tokens);
  EXPECT_EQ(first.tokens->remaining, 100);
  const Admission second = ask("b", 100, 100);
  EXPECT_EQ(kind(second), Kind::rate);
  EXPECT_EQ(second.refusal->retry_after_ms, 10'000);  // 100 of 600
  end(used("a", 100, 10));
  EXPECT_EQ(ask("c", 90, 400).tokens->remaining, 0);
  EXPECT_EQ(kind(ask("d", 1, 0)), Kind::rate);
}

TEST_P(LedgerTest, InputAndOutputTokensAMinuteAreCountedApart) {
  limit(LimitKind::input_tokens_per_minute, 60);
  limit(LimitKind::output_tokens_per_minute, 600);
  const Admission first = ask("a", 50, 500);
  EXPECT_FALSE(first.tokens);
  ASSERT_TRUE(first.input_tokens && first.output_tokens);
  EXPECT_EQ(first.input_tokens->remaining, 10);
  EXPECT_EQ(first.output_tokens->remaining, 100);
  const Admission too_much_input = ask("b", 20, 1);
  EXPECT_EQ(kind(too_much_input), Kind::rate);
  EXPECT_EQ(too_much_input.refusal->retry_after_ms, 10'000);  // 10 of 60
  EXPECT_THAT(too_much_input.refusal->message, testing::HasSubstr("60 input tokens a minute"));
  EXPECT_EQ(kind(ask("c", 1, 101)), Kind::rate);
  end(used("a", 50, 100));  // 400 of the answer's come back, and none of the prompt's
  const Admission next = ask("d", 10, 500);
  EXPECT_FALSE(next.refusal);
  EXPECT_EQ(next.input_tokens->remaining, 0);
  EXPECT_EQ(next.output_tokens->remaining, 0);
  end({.id = "d", .is_void = true});
  EXPECT_FALSE(ask("e", 10, 500).refusal);
  EXPECT_THAT(ask("f", 61, 0).refusal->message, testing::HasSubstr("shorten it"));
  EXPECT_THAT(ask("g", 0, 601).refusal->message, testing::HasSubstr("lower max_tokens"));
  EXPECT_EQ(kind(ask("h", 61, 0)), Kind::too_large);
}

TEST_P(LedgerTest, WhatCouldNeverPassIsToldFromWhatHasToWait) {
  limit(LimitKind::tokens_per_minute, 100);
  const Admission never = ask("a", 51, 50);
  EXPECT_EQ(kind(never), Kind::too_large);
  EXPECT_THAT(never.refusal->message, testing::HasSubstr("max_tokens"));
  EXPECT_FALSE(ask("b", 50, 50).refusal);
}

TEST_P(LedgerTest, ALimitOfNothingIsNoRateToWaitFor) {
  for (const LimitKind each : limit_kinds) {
    limit(each, 0);
    const Admission admission = ask("a", 1, 1);
    if (each == LimitKind::micros_per_month) {
      EXPECT_FALSE(admission.refusal);  // there is no price
    } else {
      EXPECT_EQ(kind(admission), Kind::spent) << name(each);
    }
    limit(each, std::nullopt);
  }
}

TEST_P(LedgerTest, RequestsAtOnceAreThoseThatHaveNotEnded) {
  limit(LimitKind::concurrent_requests, 2);
  ask("a", 1, 1);
  ask("b", 1, 1);
  const Admission third = ask("c", 1, 1);
  EXPECT_EQ(kind(third), Kind::rate);
  EXPECT_GT(third.refusal->retry_after_ms, 0);
  end(used("a", 1, 1));
  EXPECT_FALSE(ask("d", 1, 1).refusal);
}

TEST_P(LedgerTest, MoneyIsReservedAtTheHighestAndSettledAtTheRealPrice) {
  limits_->set_price("m", Price{2'000'000, 500'000, 8'000'000}, "test");
  limits_->set_price("", Price{1, 1, 1}, "test");
  limit(LimitKind::micros_per_month, 1000);
  // 100 · 2 + 100 · 8 = 1000 micros.
  EXPECT_FALSE(ask("a", 100, 100).refusal);
  EXPECT_EQ(kind(ask("b", 1, 0)), Kind::spent);
  limits_->set_price("m", Price{9'000'000, 0, 9'000'000}, "test");  // not for what was admitted
  end({.id = "a",
       .prompt_tokens = 100,
       .cached_tokens = 40,
       .completion_tokens = 10,
       .finish_reason = "stop"});
  EXPECT_EQ(number("SELECT micros FROM usage_records"), 60 * 2 + 40 / 2 + 10 * 8);
  EXPECT_FALSE(ask("c", 86, 0).refusal);  // 774 of 780
  EXPECT_EQ(kind(ask("d", 1, 0)), Kind::spent);
}

TEST_P(LedgerTest, ARefusedRequestTakesNothingOfAnyLimit) {
  limit(LimitKind::requests_per_minute, 2);
  limit(LimitKind::tokens_per_day, 10);
  EXPECT_EQ(kind(ask("a", 11, 0)), Kind::spent);
  EXPECT_EQ(kind(ask("b", 11, 0)), Kind::spent);
  EXPECT_EQ(open(), 0);
  EXPECT_FALSE(ask("c", 1, 0).refusal);
  EXPECT_FALSE(ask("d", 1, 0).refusal);
  EXPECT_EQ(kind(ask("e", 1, 0)), Kind::rate);
}

TEST_P(LedgerTest, AVoidSettlementLeavesNoTrace) {
  limit(LimitKind::requests_per_minute, 1);
  ask("a", 10, 10);
  end({.id = "a", .is_void = true});
  EXPECT_EQ(open() + records(), 0);
  EXPECT_FALSE(ask("b", 10, 10).refusal);
}

TEST_P(LedgerTest, AClockThatIsPutBackLocksNobodyOut) {
  limit(LimitKind::requests_per_minute, 1);
  ask("a", 1, 0);
  now_us_ -= 24 * 3600 * second_us;
  EXPECT_EQ(ask("b", 1, 0).refusal->retry_after_ms, 60'000);
  now_us_ += 60 * second_us;
  EXPECT_FALSE(ask("c", 1, 0).refusal);
}

TEST_P(LedgerTest, WhatAnEarlierRunLeftIsSettledAsFailedWithWhatIsKnown) {
  ask("a", 10, 100);
  ask("b", 10, 100);
  const RequestProgress progress{"a", 10, 42};
  ledger_->renew(std::span(&progress, 1));
  EXPECT_EQ(make("server-2")->settle_own(), 0);
  EXPECT_EQ(make("server-1")->settle_own(), 2);
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(number("SELECT completion_tokens FROM usage_records WHERE id = 'a'"), 42);
  EXPECT_EQ(number("SELECT prompt_tokens FROM usage_records WHERE id = 'b'"), 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'failed'"), 2);
}

TEST_P(LedgerTest, AServerThatSaysNothingForLongIsSettledByAnother) {
  ask("a", 10, 100);
  ledger_->renew({});
  const auto other = make("server-2");
  other->renew({});
  now_us_ += 80 * second_us;
  EXPECT_EQ(other->settle_abandoned(), 0);
  now_us_ += 20 * second_us;
  EXPECT_EQ(other->settle_abandoned(), 1);
  EXPECT_EQ(other->settle_abandoned(), 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'failed'"), 1);
}

TEST_P(LedgerTest, AServerThatWasTakenForDeadCorrectsWhatWasRecordedForIt) {
  limit(LimitKind::concurrent_requests, 1);
  limit(LimitKind::tokens_per_day, 1000);
  limits_->set_price("m", Price{1'000'000, 1'000'000, 2'000'000}, "test");
  ask("a", 10, 990);
  const RequestProgress progress{"a", 10, 3};
  ledger_->renew(std::span(&progress, 1));
  const auto other = make("server-2");
  now_us_ += 100 * second_us;
  EXPECT_EQ(other->settle_abandoned(), 1);
  EXPECT_EQ(number("SELECT micros FROM usage_records"), 10 + 2 * 3);
  EXPECT_FALSE(ask("b", 10, 977).refusal);  // it holds nothing any more
  end({.id = "b", .is_void = true});
  end(used("a", 10, 40));
  end(used("a", 10, 40));
  EXPECT_EQ(records(), 1);
  EXPECT_EQ(number("SELECT micros FROM usage_records WHERE finish_reason = 'stop'"), 10 + 2 * 40);
  EXPECT_EQ(number("SELECT SUM(requests * 100000 + tokens * 1000 + micros) FROM usage_sums WHERE "
                   "subject = 'org' AND model = '' AND LENGTH(period) = 7"),
            100'000 + 50'000 + 90);
  EXPECT_EQ(open(), 0);
  // Another that never comes back is forgotten in the end.
  ask("c", 10, 1);
  ledger_->renew({});
  now_us_ += 100 * second_us;
  EXPECT_EQ(other->settle_abandoned(), 1);
  EXPECT_EQ(open(), 1);
  now_us_ += int64_t{31} * 24 * 3600 * second_us;
  other->settle_abandoned();
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(records(), 2);
}

// The sums say what the records say, however it came to them.
TEST_P(LedgerTest, SumsAreTheRecordsAddedUp) {
  for (int i = 0; i < 40; ++i) {
    Reservation reservation = wish("r" + std::to_string(i), 10 + i, 100);
    if (i % 3 == 0) reservation.model = "other";
    if (i % 4 == 0) reservation.key_id = reservation.allowance_id = second_key_;
    ask(reservation);
    if (i % 5 != 0) end(used(reservation.id, 10 + i, i));
    now_us_ += 3600 * second_us * 25;  // each on a day of its own
  }
  EXPECT_EQ(make("server-1")->settle_own(), 8);
  const std::string day = is_sqlite() ? "strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')"
                                      : "to_char(to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC', "
                                        "'YYYY-MM-DD')";
  const std::string rebuilt =
      "SELECT key_id AS subject, model, " + day +
      " AS period, COUNT(*) AS requests, SUM(prompt_tokens + completion_tokens) AS tokens FROM "
      "usage_records GROUP BY key_id, model, 3";
  EXPECT_EQ(number("SELECT COUNT(*) FROM (" + rebuilt + ") r"), 40);
  EXPECT_EQ(number("SELECT COUNT(*) FROM (" + rebuilt +
                   ") r JOIN usage_sums s ON s.subject = r.subject AND s.model = r.model AND "
                   "s.period = r.period WHERE s.requests = r.requests AND s.tokens = r.tokens"),
            40);
  EXPECT_EQ(number("SELECT SUM(tokens) FROM usage_sums WHERE subject = 'org' AND model = '' AND "
                   "LENGTH(period) = 7"),
            number("SELECT SUM(prompt_tokens + completion_tokens) FROM usage_records"));
}

// Two servers of one database, 64 clients: not one token more than the limit.
TEST_P(LedgerTest, ManyClientsOfTwoServersNeverOvershoot) {
  limit(LimitKind::tokens_per_day, 1000);
  Database second_database(location());
  Ledger second(second_database, "server-2", [this](soci::session&) { return now_us_; });
  std::atomic<int> admitted{0};
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < 64; ++i) {
      clients.emplace_back([&, i] {
        const Reservation reservation = wish("r" + std::to_string(i), 7, 23);
        Ledger& ledger = i % 2 == 0 ? *ledger_ : second;
        admitted += !ledger.commit({}, std::span(&reservation, 1)).front().refusal;
      });
    }
  }
  EXPECT_EQ(admitted, 33);  // of 30 tokens each
  EXPECT_EQ(open(), 33);
}

}  // namespace
}  // namespace ridge::platform::ledger_test
