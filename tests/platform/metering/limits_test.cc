// Whom limits are for, and how several hold together.
#include "platform/metering/limits.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "platform/metering/ledger_fixture.h"
#include "platform/metering/usage.h"
#include "platform/throws.h"

namespace ridge::platform::limits_test {
namespace {

using LimitsTest = LedgerFixture;
INSTANTIATE_ON_BOTH_DATABASES(LimitsTest);

TEST_P(LimitsTest, LimitsOfAKeyAProjectAndAModelHoldTogether) {
  limit(LimitKind::tokens_per_day, 100, {"default", "k"});
  limit(LimitKind::tokens_per_day, 150);
  limit(LimitKind::tokens_per_day, 10, {"default"}, "large");
  EXPECT_FALSE(ask("a", 100, 0).refusal);
  const Admission by_key = ask("b", 1, 0);
  EXPECT_THAT(by_key.refusal->message, testing::HasSubstr("of this API key"));
  Reservation other = wish("c", 50, 0);
  other.key_id = other.allowance_id = second_key_;
  EXPECT_FALSE(ask(other).refusal);
  other.id = "d";
  other.prompt_tokens = 1;
  EXPECT_THAT(ask(other).refusal->message, testing::HasSubstr("of this project"));
  limit(LimitKind::tokens_per_day, std::nullopt);
  other.model = "large";
  other.prompt_tokens = 11;
  EXPECT_THAT(ask(other).refusal->message, testing::HasSubstr("for the model 'large'"));
  other.prompt_tokens = 10;
  EXPECT_FALSE(ask(other).refusal);
}

TEST_P(LimitsTest, LimitsOfAUserHoldOverAllKeysAndSessions) {
  const User ann = identity_->create_user("ann", UserKind::person, Role::developer, "", "test");
  limit(LimitKind::tokens_per_day, 100, {.user = "ann"});
  const auto of_ann = [&](Reservation reservation, const std::string& key) {
    reservation.key_id = reservation.allowance_id = key;
    reservation.user_id = ann.id;
    return reservation;
  };
  EXPECT_FALSE(ask(of_ann(wish("a", 40, 0), key_)).refusal);
  EXPECT_FALSE(ask(of_ann(wish("b", 40, 0), ann.id)).refusal);  // who has signed in
  const Admission refused = ask(of_ann(wish("c", 30, 0), second_key_));
  EXPECT_EQ(kind(refused), Kind::spent);
  EXPECT_THAT(refused.refusal->message, testing::HasSubstr("of this user"));
  EXPECT_FALSE(ask("d", 1000, 0).refusal);  // somebody else's, by the same key
  end(used("a", 30, 0));
  end(used("b", 30, 0));
  EXPECT_EQ(number("SELECT tokens FROM usage_sums WHERE model = '' AND LENGTH(period) = 10 AND "
                   "subject = '" +
                   ann.id + "'"),
            60)
      << "what a session used is counted once";
  EXPECT_FALSE(ask(of_ann(wish("e", 40, 0), second_key_)).refusal);
  EXPECT_EQ(kind(ask(of_ann(wish("f", 1, 0), key_))), Kind::spent);
  limit(LimitKind::tokens_per_day, std::nullopt, {.user = "ann"});
  EXPECT_FALSE(ask(of_ann(wish("g", 1000, 0), key_)).refusal);
  limit(LimitKind::requests_per_minute, 1, {.user = "ann"});
  EXPECT_FALSE(ask(of_ann(wish("h", 1, 0), key_)).refusal);
  EXPECT_EQ(kind(ask(of_ann(wish("i", 1, 0), ann.id))), Kind::rate);
  Settlement nothing = used("h", 0, 0);
  nothing.is_void = true;
  end(nothing);  // which gives the request back
  EXPECT_FALSE(ask(of_ann(wish("j", 1, 0), ann.id)).refusal);
}

// What asks the model "m" by the operator's endpoint "helper".
Reservation by_endpoint(Reservation reservation) {
  reservation.custom_endpoint = "helper";
  reservation.endpoint_version = 3;
  return reservation;
}

TEST_P(LimitsTest, LimitsOfAnEndpointAndOfItsModelHoldTogether) {
  limit(LimitKind::tokens_per_day, 100, {"default"}, "helper");
  limit(LimitKind::tokens_per_day, 150, {"default"}, "m");
  EXPECT_FALSE(ask(by_endpoint(wish("a", 100, 0))).refusal);
  EXPECT_THAT(ask(by_endpoint(wish("b", 1, 0))).refusal->message,
              testing::HasSubstr("for the endpoint 'helper'"));
  EXPECT_FALSE(ask(wish("c", 40, 0)).refusal);  // the model by its own name
  end(used("a", 80, 0));
  end(used("c", 40, 0));
  EXPECT_FALSE(ask(by_endpoint(wish("d", 20, 0))).refusal);
  EXPECT_THAT(ask(wish("e", 11, 0)).refusal->message, testing::HasSubstr("for the model 'm'"));
  EXPECT_FALSE(ask(wish("f", 10, 0)).refusal);
  end(used("d", 20, 0));
  EXPECT_EQ(number("SELECT tokens FROM usage_sums WHERE subject = 'org' AND model = 'helper' AND "
                   "period = '2026-11'"),
            100);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE model = 'm' AND custom_endpoint = "
                   "'helper' AND endpoint_version = 3"),
            2);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE model = 'm' AND custom_endpoint = '' "
                   "AND endpoint_version = 0"),
            1);
}

TEST_P(LimitsTest, ASpeedOfAnEndpointGetsBackWhatWasNotUsed) {
  limit(LimitKind::tokens_per_minute, 100, {"default"}, "helper");
  EXPECT_FALSE(ask(by_endpoint(wish("a", 50, 50))).refusal);
  EXPECT_EQ(kind(ask(by_endpoint(wish("b", 1, 0)))), Kind::rate);
  EXPECT_FALSE(ask(wish("c", 50, 50)).refusal);
  end(used("a", 50, 10));
  EXPECT_FALSE(ask(by_endpoint(wish("d", 40, 0))).refusal);
  limit(LimitKind::concurrent_requests, 1, {"default"}, "helper");
  EXPECT_EQ(kind(ask(by_endpoint(wish("e", 0, 0)))), Kind::rate);
  EXPECT_FALSE(ask(wish("f", 0, 0)).refusal);
}

TEST_P(LimitsTest, APriceOfAnEndpointGoesBeforeItsModels) {
  limits_->set_price("", Price{1'000'000, 0, 1'000'000}, "test");
  limits_->set_price("m", Price{2'000'000, 0, 2'000'000}, "test");
  for (const char* id : {"a", "b"}) {
    ask(by_endpoint(wish(id, 10, 0)));
    end(used(id, 10, 0));
    limits_->set_price("helper", Price{3'000'000, 0, 3'000'000}, "test");
  }
  ask(wish("c", 10, 0));
  end(used("c", 10, 0));
  EXPECT_EQ(number("SELECT micros FROM usage_records WHERE id = 'a'"), 20);
  EXPECT_EQ(number("SELECT micros FROM usage_records WHERE id = 'b'"), 30);
  EXPECT_EQ(number("SELECT micros FROM usage_records WHERE id = 'c'"), 20);
  const auto rows = usage(
      *database_, {.by = {UsageBy::custom_endpoint, UsageBy::endpoint_version, UsageBy::model}});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].custom_endpoint + rows[0].endpoint_version + rows[0].model, "0m");
  EXPECT_EQ(rows[1].custom_endpoint + rows[1].endpoint_version + rows[1].model, "helper3m");
  EXPECT_EQ(rows[1].micros, 50);
}

TEST_P(LimitsTest, UsageIsAddedUpByWhyAnswersEnded) {
  for (const char* id : {"a", "b", "c"}) {
    ask(wish(id, 10, 5));
    Settlement settlement = used(id, 10, 5);
    settlement.finish_reason = id[0] == 'c' ? "length" : "stop";
    end(settlement);
  }
  const auto rows = usage(*database_, {.by = {UsageBy::finish_reason}});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].finish_reason, "length");
  EXPECT_EQ(rows[0].requests, 1);
  EXPECT_EQ(rows[1].finish_reason, "stop");
  EXPECT_EQ(rows[1].completion_tokens, 10);
}

TEST_P(LimitsTest, LimitsAreListedWithNamesAndChangesAreRecorded) {
  limit(LimitKind::tokens_per_day, 7, {"default", "k"}, "m");
  limit(LimitKind::requests_per_minute, 5);
  limit(LimitKind::requests_per_minute, 6);
  limit(LimitKind::micros_per_month, 8, {});
  identity_->create_user("ann", UserKind::person, Role::viewer, "", "test");
  limit(LimitKind::concurrent_requests, 9, {.user = "ann"});
  std::vector<std::string> lines;
  for (const NamedLimit& each : limits_->list()) {
    lines.push_back(each.project + each.user + "/" + each.key + "/" + each.limit.model + " " +
                    std::string(name(each.limit.kind)) + " " + std::to_string(each.limit.most));
  }
  EXPECT_THAT(lines, testing::UnorderedElementsAre(
                         "default/k/m tokens_per_day 7", "default// requests_per_minute 6",
                         "// micros_per_month 8", "ann// concurrent_requests 9"));
  EXPECT_EQ(identity_->audit_events(1).front().action, "limit.set");
  EXPECT_ERROR(limit(LimitKind::tokens_per_day, -1), invalid_argument, "from 0");
  EXPECT_ERROR(limit(LimitKind::tokens_per_day, 1, {"none"}), not_found, "none");
  EXPECT_ERROR(limit(LimitKind::tokens_per_day, 1, {"default", "none"}), not_found, "none");
  EXPECT_ERROR(limit(LimitKind::tokens_per_day, 1, {.user = "none"}), not_found, "none");
  EXPECT_ERROR(limit(LimitKind::tokens_per_day, 1, {.project = "default", .user = "ann"}),
               invalid_argument, "not for both");
  EXPECT_ERROR(limits_->set_price("m", Price{1, 2, 1}, "test"), invalid_argument, "cached");
  EXPECT_ERROR(limits_->set_price("m", Price{-1, -1, 1}, "test"), invalid_argument, "price");
}

}  // namespace
}  // namespace ridge::platform::limits_test
