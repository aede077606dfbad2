// Tokens of a month that cost nothing before a price begins.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>
#include <vector>

#include "platform/metering/ledger_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::free_tokens_test {
namespace {

class FreeTokensTest : public LedgerFixture {
 protected:
  // In micros a token: 2 of the prompt, 1 of what was cached of it, 4 of the answer.
  void price(int64_t free_tokens, const std::string& model = "m") {
    limits_->set_price(model, Price{2'000'000, 1'000'000, 4'000'000, free_tokens}, "test");
  }
  int64_t micros(const std::string& id) {
    return number("SELECT micros FROM usage_records WHERE id = '" + id + "'");
  }
  int64_t free_tokens(const std::string& id) {
    return number("SELECT free_tokens FROM usage_records WHERE id = '" + id + "'");
  }
  void use(const std::string& id, int64_t prompt, int64_t completion) {
    EXPECT_FALSE(ask(id, prompt, completion).refusal) << id;
    end(used(id, prompt, completion));
  }
};
INSTANTIATE_ON_BOTH_DATABASES(FreeTokensTest);

TEST_P(FreeTokensTest, TheFirstOfAMonthCostNothingAndThenThePriceBegins) {
  price(100);
  use("a", 60, 10);
  EXPECT_EQ(micros("a"), 0);
  EXPECT_EQ(free_tokens("a"), 70);
  use("b", 20, 20);  // 30 are left: the prompt's, and then the answer's first
  EXPECT_EQ(micros("b"), 10 * 4);
  EXPECT_EQ(free_tokens("b"), 30);
  use("c", 1, 1);
  EXPECT_EQ(micros("c"), 2 + 4);
  EXPECT_EQ(free_tokens("c"), 0);
  now_us_ += 30 * 24 * 3600 * second_us;  // the next month's
  use("d", 50, 50);
  EXPECT_EQ(micros("d"), 0);
}

TEST_P(FreeTokensTest, WhatIsCachedComesFirst) {
  price(10);
  ask("a", 30, 10);
  Settlement settlement = used("a", 30, 5);
  settlement.cached_tokens = 16;
  end(settlement);
  EXPECT_EQ(micros("a"), 6 * 1 + 14 * 2 + 5 * 4);
}

TEST_P(FreeTokensTest, ARequestThatRunsHoldsWhatItMayUseAndGivesBackTheRest) {
  price(100);
  ask("a", 10, 90);
  use("b", 10, 0);  // nothing is left meanwhile
  EXPECT_EQ(micros("b"), 20);
  end(used("a", 10, 20));
  EXPECT_EQ(micros("a"), 0);
  use("c", 70, 1);
  EXPECT_EQ(micros("c"), 4);
}

TEST_P(FreeTokensTest, ARequestThatNeverBeganUsesNone) {
  price(100);
  ask("a", 50, 50);
  end({.id = "a", .is_void = true});
  use("b", 50, 50);
  EXPECT_EQ(micros("b"), 0);
}

TEST_P(FreeTokensTest, EachProjectHasThemForItself) {
  price(100);
  use("a", 100, 0);
  const Project other = identity_->create_project("other", 1, "test");
  Reservation theirs = wish("b", 100, 0);
  theirs.project_id = other.id;
  ask(theirs);
  end(used("b", 100, 0));
  EXPECT_EQ(micros("b"), 0);
  Reservation by_another_key = wish("c", 1, 0);
  by_another_key.key_id = by_another_key.allowance_id = second_key_;
  ask(by_another_key);
  end(used("c", 1, 0));
  EXPECT_EQ(micros("c"), 2);
}

TEST_P(FreeTokensTest, ThePriceOfAllModelsHasThemForEach) {
  price(100, "");
  use("a", 100, 0);
  Reservation large = wish("b", 100, 0);
  large.model = "large";
  ask(large);
  end(used("b", 100, 0));
  EXPECT_EQ(micros("b"), 0);
  large.id = "c";
  large.prompt_tokens = 1;
  large.custom_endpoint = "helper";  // which has no price of its own: the model's tokens are spent
  ask(large);
  end(used("c", 1, 0));
  EXPECT_EQ(micros("c"), 2);
  price(100);  // from now on the model's own, of which all are used
  use("d", 1, 0);
  EXPECT_EQ(micros("d"), 2);
}

TEST_P(FreeTokensTest, ThePriceOfAnEndpointHasItsOwn) {
  price(10, "m");
  price(20, "helper");
  Reservation by_endpoint = wish("a", 20, 0);
  by_endpoint.custom_endpoint = "helper";
  ask(by_endpoint);
  end(used("a", 20, 0));
  EXPECT_EQ(micros("a"), 0);
  use("b", 10, 0);
  EXPECT_EQ(micros("b"), 0);
  by_endpoint.id = "c";
  ask(by_endpoint);
  end(used("c", 20, 0));
  EXPECT_EQ(micros("c"), 40);
}

// So a model may be free up to a point, and not be had beyond it.
TEST_P(FreeTokensTest, ABudgetOfNothingEndsWithThem) {
  price(100);
  limit(LimitKind::micros_per_month, 0);
  use("a", 60, 30);
  const Admission refused = ask("b", 10, 1);
  EXPECT_EQ(kind(refused), Kind::spent);
  EXPECT_THAT(refused.refusal->message, testing::HasSubstr("0.000004 may be needed"));
  EXPECT_EQ(open(), 0);
  use("c", 10, 0);
  EXPECT_EQ(micros("c"), 0);
}

TEST_P(FreeTokensTest, ABudgetIsNeverPassedHoweverManyAreCached) {
  price(50);
  for (int64_t cached = 0; cached <= 60; cached += 10) {
    const std::string id = "r" + std::to_string(cached);
    ask(id, 60, 10);
    Settlement settlement = used(id, 60, 10);
    settlement.cached_tokens = cached;
    const int64_t reserved = number("SELECT micros FROM reservations");
    end(settlement);
    EXPECT_LE(micros(id), reserved) << cached;
    now_us_ += 31 * 24 * 3600 * second_us;
  }
}

TEST_P(FreeTokensTest, AServerThatComesBackHasNoneThatOthersMayHaveByNow) {
  price(100);
  ask("a", 10, 90);
  const RequestProgress progress{"a", 10, 20};
  ledger_->renew(std::span(&progress, 1));
  const auto other = make("server-2");
  now_us_ += 100 * second_us;
  EXPECT_EQ(other->settle_abandoned(), 1);
  EXPECT_EQ(free_tokens("a"), 30);
  use("b", 70, 0);
  EXPECT_EQ(micros("b"), 0);
  end(used("a", 10, 40));
  EXPECT_EQ(free_tokens("a"), 30);
  EXPECT_EQ(micros("a"), 20 * 4);
  EXPECT_EQ(number("SELECT free_tokens FROM usage_sums WHERE subject = '" + project_ +
                   "' AND model = 'm' AND period = '2026-11'"),
            100);
}

// Two servers of one database, 64 clients: not one token more is free.
TEST_P(FreeTokensTest, ManyClientsOfTwoServersNeverGetMore) {
  price(1000);
  Database second_database(location());
  Ledger second(second_database, "server-2", [this](soci::session&) { return now_us_; });
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < 64; ++i) {
      clients.emplace_back([&, i] {
        const Reservation reservation = wish("r" + std::to_string(i), 7, 23);
        Ledger& ledger = i % 2 == 0 ? *ledger_ : second;
        ledger.commit({}, std::span(&reservation, 1));
        const Settlement settlement = used(reservation.id, 7, 23);
        ledger.commit(std::span(&settlement, 1), {});
      });
    }
  }
  EXPECT_EQ(records(), 64);
  EXPECT_EQ(number("SELECT CAST(SUM(free_tokens) AS BIGINT) FROM usage_records"), 1000);
}

TEST_P(FreeTokensTest, MustBeANumberThatThereIs) {
  EXPECT_ERROR(price(-1), invalid_argument, "must be from 0 to");
  EXPECT_ERROR(price(Limits::largest_limit + 1), invalid_argument, "must be from 0 to");
  price(7);
  EXPECT_EQ(limits_->prices().at(0).price.free_tokens, 7);
}

}  // namespace
}  // namespace ridge::platform::free_tokens_test
