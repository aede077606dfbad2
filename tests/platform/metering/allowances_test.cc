// What limits count of keys that are rotated, and of limits that change while requests run.
#include <gmock/gmock.h>

#include "platform/metering/ledger_fixture.h"

namespace ridge::platform::allowances_test {
namespace {

using AllowancesTest = LedgerFixture;
INSTANTIATE_ON_BOTH_DATABASES(AllowancesTest);

TEST_P(AllowancesTest, ALimitThatWasSetMeanwhileGetsNothingBack) {
  ask("a", 0, 100);  // nothing is limited yet
  limit(LimitKind::tokens_per_minute, 60);
  EXPECT_FALSE(ask("b", 0, 50).refusal);
  end(used("a", 0, 1));  // 99 of its tokens were in vain, and not taken from this limit
  EXPECT_EQ(kind(ask("c", 0, 11)), Kind::rate);
  EXPECT_FALSE(ask("d", 0, 10).refusal);
}

TEST_P(AllowancesTest, ALimitThatWasChangedMeanwhileGetsBackWhatWasTaken) {
  limit(LimitKind::tokens_per_minute, 60);
  ask("a", 0, 60);  // a minute's
  limit(LimitKind::tokens_per_minute, 6);
  end(used("a", 0, 30));  // half a minute comes back, and not ten
  EXPECT_FALSE(ask("b", 0, 3).refusal);
  EXPECT_EQ(kind(ask("c", 0, 1)), Kind::rate);
}

TEST_P(AllowancesTest, AKeyThatIsRotatedGoesOnWithItsAllowances) {
  limit(LimitKind::tokens_per_day, 100, {"default", "k"});
  limit(LimitKind::requests_per_minute, 4, {"default", "k"});
  const auto now_is = [&](const std::string& id, const CreatedKey& key) {
    Reservation wanted = wish(id, 0, 30);
    const auto principal = identity_->principal_of(key.key.id);
    EXPECT_TRUE(principal);
    wanted.key_id = principal->key_id;
    wanted.allowance_id = principal->allowance_id;
    return wanted;
  };
  ask("before", 0, 30);
  end(used("before", 0, 30));
  ask("meanwhile", 0, 30);  // has not ended
  const CreatedKey next = identity_->rotate_key({"k"}, /*grace_ms=*/1'000'000, "test");
  EXPECT_NE(next.key.id, key_);
  const Reservation wanted = now_is("next", next);
  EXPECT_EQ(wanted.key_id, next.key.id);
  EXPECT_FALSE(ask(wanted).refusal);
  EXPECT_EQ(kind(ask("old", 0, 30)), Kind::spent) << "the old one, which still works, counts too";
  end(used("meanwhile", 0, 10));
  EXPECT_FALSE(ask("old again", 0, 20).refusal);
  const CreatedKey third = identity_->rotate_key({"k"}, /*grace_ms=*/0, "test");
  EXPECT_EQ(kind(ask(now_is("third", third))), Kind::spent);
  now_us_ += 86'400 * second_us;
  for (const char* id : {"x", "y"}) {
    EXPECT_FALSE(ask(now_is(id, third)).refusal);
    end(used(id, 0, 0));
  }
  limit(LimitKind::tokens_per_day, 0, {"default", "k"});  // by its name, as ever
  EXPECT_EQ(kind(ask(now_is("none", third))), Kind::spent);
  const auto listed = limits_->list();
  ASSERT_EQ(listed.size(), 2u);
  EXPECT_EQ(listed[0].key, "k");
  // The ledger tells them apart.
  end(used("next", 0, 5));
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE key_id = '" + next.key.id + "'"), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE key_id = '" + key_ + "'"), 2);
}

// Servers of before the step of allowances go on beside newer ones.
TEST_P(AllowancesTest, AKeyThatAnOlderServerMadeCountsForItself) {
  database_->write(
      [](soci::session& session) { session << "UPDATE api_keys SET allowance_id = ''"; });
  EXPECT_EQ(identity_->principal_of(key_)->allowance_id, key_);
  limit(LimitKind::tokens_per_day, 10, {"default", "k"});
  EXPECT_EQ(limits_->list().at(0).key, "k");
  EXPECT_THAT(ask("a", 11, 0).refusal->message, testing::HasSubstr("of this API key"));
  Reservation other = wish("b", 11, 0);
  other.key_id = other.allowance_id = second_key_;
  EXPECT_FALSE(ask(other).refusal);
}

}  // namespace
}  // namespace ridge::platform::allowances_test
