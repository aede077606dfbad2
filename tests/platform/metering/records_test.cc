// The ledger's records one by one.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "platform/metering/ledger_fixture.h"
#include "platform/metering/usage.h"
#include "platform/throws.h"

namespace ridge::platform::records_test {
namespace {

class RecordsTest : public LedgerFixture {
 protected:
  std::vector<std::string> ids(const UsageRecordQuery& query) {
    std::vector<std::string> ids;
    for (const UsageRecord& record : usage_records(*database_, query)) ids.push_back(record.id);
    return ids;
  }
  void use(const Reservation& reservation) {
    ask(reservation);
    end(used(reservation.id, reservation.prompt_tokens, reservation.most_completion_tokens));
  }
};
INSTANTIATE_ON_BOTH_DATABASES(RecordsTest);

TEST_P(RecordsTest, HaveAllThatIsKnownOfARequest) {
  limits_->set_price("m", Price{1'000'000, 500'000, 2'000'000, 3}, "test");
  Reservation asked = wish("a", 10, 100);
  asked.request_id = "req-1";
  asked.custom_endpoint = "helper";
  asked.endpoint_version = 2;
  ask(asked);
  end({.id = "a",
       .prompt_tokens = 10,
       .cached_tokens = 4,
       .completion_tokens = 7,
       .reasoning_tokens = 2,
       .ttft_ms = 12.5,
       .duration_ms = 99.25,
       .finish_reason = "length"});
  const auto records = usage_records(*database_, {});
  ASSERT_EQ(records.size(), 1u);
  const UsageRecord& record = records[0];
  EXPECT_EQ(record.id, "a");
  EXPECT_EQ(record.request_id, "req-1");
  EXPECT_EQ(record.at_ms, noon_us / 1000);
  EXPECT_EQ(record.project, "default");
  EXPECT_EQ(record.key, "k");
  EXPECT_EQ(record.model, "m");
  EXPECT_EQ(record.endpoint, "/v1/chat/completions");
  EXPECT_EQ(record.custom_endpoint, "helper");
  EXPECT_EQ(record.endpoint_version, 2);
  EXPECT_THAT((std::vector{record.prompt_tokens, record.cached_tokens, record.completion_tokens,
                           record.reasoning_tokens, record.free_tokens, record.micros}),
              testing::ElementsAre(10, 4, 7, 2, 3, 1 + 6 + 14));  // half a micro is a whole one
  EXPECT_EQ(record.ttft_ms, 12.5);
  EXPECT_EQ(record.duration_ms, 99.25);
  EXPECT_EQ(record.finish_reason, "length");
}

TEST_P(RecordsTest, ComeInPagesInOrderOfTimeWithoutHolesOrDoubles) {
  std::vector<std::string> all;
  for (int i = 0; i < 25; ++i) {
    const std::string id = fmt::format("r{:02}", i);
    use(wish(id, 1, 1));
    all.push_back(id);
    if (i % 4 == 3) now_us_ += second_us;  // four have the same time each
  }
  for (const int most : {1, 3, 4, 24, 25, 26}) {
    std::vector<std::string> seen;
    UsageRecordQuery query{.most = most};
    while (true) {
      const auto page = ids(query);
      if (page.empty()) break;
      ASSERT_LE(page.size(), static_cast<std::size_t>(most));
      seen.insert(seen.end(), page.begin(), page.end());
      query.after = page.back();
    }
    EXPECT_EQ(seen, all) << most;
  }
}

TEST_P(RecordsTest, AreThoseThatAreAskedFor) {
  const Project other = identity_->create_project("other", 1, "test");
  const User ann = identity_->create_user("ann", UserKind::person, Role::developer, "", "test");
  use(wish("a", 1, 1));
  Reservation next = wish("b", 1, 1);
  next.key_id = next.allowance_id = second_key_;
  next.model = "large";
  use(next);
  next = wish("c", 1, 1);
  next.project_id = other.id;
  use(next);
  next = wish("d", 1, 1);
  next.key_id = next.allowance_id = next.user_id = ann.id;  // who has signed in
  use(next);
  now_us_ += 24 * 3600 * second_us;
  use(wish("e", 1, 1));
  using testing::ElementsAre;
  EXPECT_THAT(ids({}), ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_THAT(ids({.from_ms = noon_us / 1000 + 1}), ElementsAre("e"));
  EXPECT_THAT(ids({.until_ms = noon_us / 1000}), ElementsAre());
  EXPECT_THAT(ids({.until_ms = noon_us / 1000 + 1}), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(ids({.project = "other"}), ElementsAre("c"));
  EXPECT_THAT(ids({.key = "second"}), ElementsAre("b"));
  EXPECT_THAT(ids({.key = second_key_}), ElementsAre("b"));
  EXPECT_THAT(ids({.key = "ann"}), ElementsAre("d"));
  EXPECT_THAT(ids({.model = "large"}), ElementsAre("b"));
  EXPECT_THAT(ids({.project = "default", .model = "m", .after = "a"}), ElementsAre("d", "e"));
}

TEST_P(RecordsTest, GoOnBehindARecordOfTheirOwnAlone) {
  const Project other = identity_->create_project("other", 1, "test");
  use(wish("a", 1, 1));
  for (const auto& query : {UsageRecordQuery{.after = "none"},
                            UsageRecordQuery{.project = "other", .after = "a"}}) {
    EXPECT_ERROR(usage_records(*database_, query), invalid_argument, "'after'");
  }
}

}  // namespace
}  // namespace ridge::platform::records_test
