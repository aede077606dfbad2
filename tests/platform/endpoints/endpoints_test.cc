#include "platform/endpoints/endpoints.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <soci/soci.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/comes_true.h"
#include "platform/endpoints/endpoint_directory.h"
#include "platform/endpoints/moderation_url.h"
#include "platform/identity/identity_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::endpoints_test {
namespace {

using Shares = std::vector<EndpointShare>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class EndpointsTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!identity_) return;
    endpoints_ = std::make_unique<Endpoints>(*database_, [this] { return ++now_ms_; });
  }

  Endpoint create(const std::string& name = "helper") {
    return endpoints_->create(name, {.model = "m"}, "", "test");
  }
  std::vector<std::string> actions() {
    std::vector<std::string> actions;
    for (const AuditEvent& event : identity_->audit_events(100)) {
      if (event.action.starts_with("endpoint.")) actions.push_back(event.action);
    }
    return actions;
  }

  std::unique_ptr<Endpoints> endpoints_;
};
INSTANTIATE_ON_BOTH_DATABASES(EndpointsTest);

TEST_P(EndpointsTest, KeepsAllThatAVersionSays) {
  const EndpointVersion first{.model = "m",
                              .system_prompt = "Be brief. ' \" 你好",
                              .temperature = 0.25,
                              .top_p = 0.5,
                              .top_k = 40,
                              .min_p = 0,
                              .max_tokens = 100};
  endpoints_->create("helper", first, "https://example.org/judge?token=hush", "user:ann");
  endpoints_->add_version("helper", {.model = "other"}, "user:ann");
  const Endpoint endpoint = endpoints_->get("helper");
  EXPECT_TRUE(endpoint.is_enabled);
  EXPECT_EQ(endpoint.moderation_url, "https://example.org/judge?token=hush");
  EXPECT_GT(endpoint.updated_at_ms, endpoint.created_at_ms);
  ASSERT_EQ(endpoint.versions.size(), 2u);
  const EndpointVersion& kept = endpoint.versions.front();
  EXPECT_EQ(kept.number, 1);
  EXPECT_EQ(kept.model, "m");
  EXPECT_EQ(kept.system_prompt, first.system_prompt);
  EXPECT_EQ(kept.temperature, 0.25);
  EXPECT_EQ(kept.top_p, 0.5);
  EXPECT_EQ(kept.top_k, 40);
  EXPECT_EQ(kept.min_p, 0.0);
  EXPECT_EQ(kept.max_tokens, 100);
  const EndpointVersion& second = endpoint.versions.back();
  EXPECT_EQ(second.number, 2);
  EXPECT_EQ(second.model, "other");
  EXPECT_FALSE(second.temperature || second.top_p || second.top_k || second.min_p ||
               second.max_tokens);
  EXPECT_EQ(endpoint.shares, (Shares{{1, 100}}));
  EXPECT_THAT(identity_->audit_events(9).front().details,
              testing::AllOf(HasSubstr("\"other\""), HasSubstr("\"helper\"")));
  EXPECT_THAT(identity_->audit_events(9)[1].details,
              testing::AllOf(HasSubstr("example.org"), Not(HasSubstr("hush")),
                             Not(HasSubstr("Be brief")), HasSubstr("system_prompt_sha256")));
}

TEST_P(EndpointsTest, GoBackToTheSharesBeforeEachChange) {
  create();
  endpoints_->add_version("helper", {.model = "m"}, "test");
  endpoints_->add_version("helper", {.model = "m"}, "test");
  EXPECT_EQ(endpoints_->set_shares("helper", {{2, 10}, {1, 90}}, "test").shares,
            (Shares{{1, 90}, {2, 10}}));
  EXPECT_EQ(endpoints_->set_shares("helper", {{1, 0}, {2, 100}}, "test").shares,
            (Shares{{2, 100}}));
  endpoints_->set_shares("helper", {{2, 100}}, "test");  // which changes nothing
  EXPECT_EQ(endpoints_->set_shares("helper", {{2, 50}, {3, 50}}, "test").shares,
            (Shares{{2, 50}, {3, 50}}));
  EXPECT_EQ(endpoints_->roll_back("helper", "test").shares, (Shares{{2, 100}}));
  EXPECT_EQ(endpoints_->roll_back("helper", "test").shares, (Shares{{1, 90}, {2, 10}}));
  EXPECT_EQ(endpoints_->roll_back("helper", "test").shares, (Shares{{1, 100}}));
  EXPECT_ERROR(endpoints_->roll_back("helper", "test"), invalid_argument, "no earlier shares");
  EXPECT_EQ(endpoints_->set_shares("helper", {{3, 100}}, "test").shares, (Shares{{3, 100}}));
  EXPECT_EQ(endpoints_->roll_back("helper", "test").shares, (Shares{{1, 100}}));
  const auto done = actions();
  EXPECT_EQ(std::ranges::count(done, "endpoint.rollback"), 4);
  EXPECT_EQ(std::ranges::count(done, "endpoint.shares"), 4);
}

TEST_P(EndpointsTest, RefuseSharesThatAreNone) {
  create();
  endpoints_->add_version("helper", {.model = "m"}, "test");
  endpoints_->add_version("helper", {.model = "m"}, "test");
  const Shares wrong[] = {{},
                          {{1, 99}},
                          {{1, 101}},
                          {{1, 50}, {1, 50}},
                          {{1, 30}, {2, 30}, {3, 40}},
                          {{4, 100}},
                          {{1, 110}, {2, -10}},
                          {{1, 0}, {2, 0}}};
  for (const Shares& shares : wrong) {
    EXPECT_ERROR(endpoints_->set_shares("helper", shares, "test"), invalid_argument, "");
  }
  EXPECT_EQ(endpoints_->get("helper").shares, (Shares{{1, 100}}));
}

TEST_P(EndpointsTest, RefuseBadNamesAndValues) {
  create();
  EXPECT_ERROR(create(), already_exists, "'helper' already");
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a:b"), std::string("a/b"),
        std::string("-a"), std::string("ä"), std::string(65, 'a')}) {
    EXPECT_ERROR(create(name), invalid_argument, "");
  }
  const EndpointVersion wrong[] = {{.model = ""},
                                   {.model = "m", .temperature = 2.1},
                                   {.model = "m", .temperature = NAN},
                                   {.model = "m", .top_p = 0},
                                   {.model = "m", .top_k = -1},
                                   {.model = "m", .min_p = 1.5},
                                   {.model = "m", .max_tokens = 0},
                                   {.model = "m", .system_prompt = "\xff"},
                                   {.model = "m", .system_prompt = std::string("a\0b", 3)},
                                   {.model = "m", .system_prompt = std::string(65537, 'a')}};
  for (const EndpointVersion& version : wrong) {
    EXPECT_ERROR(endpoints_->add_version("helper", version, "test"), invalid_argument, "");
  }
  for (const std::string name : {"none", "", "Helper"}) {
    EXPECT_ERROR(endpoints_->get(name), not_found, "");
    EXPECT_ERROR(endpoints_->roll_back(name, "test"), not_found, "");
    EXPECT_ERROR(endpoints_->remove(name, "test"), not_found, "");
  }
  EXPECT_EQ(endpoints_->get("helper").versions.size(), 1u);
  EXPECT_THAT(actions(), ElementsAre("endpoint.create"));
}

TEST_P(EndpointsTest, KeepTheNewestVersionsAndThoseOfReleases) {
  create();
  endpoints_->add_version("helper", {.model = "m"}, "test");
  endpoints_->set_shares("helper", {{1, 60}, {2, 40}}, "test");
  for (int i = 3; i <= 105; ++i) endpoints_->add_version("helper", {.model = "m"}, "test");
  const Endpoint endpoint = endpoints_->get("helper");
  EXPECT_EQ(endpoint.versions.size(), 100u);
  EXPECT_EQ(endpoint.versions.front().number, 1);
  EXPECT_EQ(endpoint.versions[1].number, 2);
  EXPECT_EQ(endpoint.versions[2].number, 8);
  EXPECT_EQ(endpoint.versions.back().number, 105);
}

TEST_P(EndpointsTest, AChangeThatFailsLeavesNoRecordAndOneThatSucceedsOne) {
  create();
  endpoints_->change("helper", {.is_enabled = false}, "user:ann");
  endpoints_->change("helper", {.moderation_url = "http://127.0.0.1:1/x"}, "user:ann");
  endpoints_->change("helper", {}, "user:ann");  // changes nothing
  const Endpoint endpoint = endpoints_->get("helper");
  EXPECT_FALSE(endpoint.is_enabled);
  EXPECT_EQ(endpoint.moderation_url, "http://127.0.0.1:1/x");
  EXPECT_ERROR(endpoints_->change("helper", {.moderation_url = "http://a.example/"}, "test"),
               invalid_argument, "must be https");
  EXPECT_EQ(endpoints_->change("helper", {.moderation_url = ""}, "test").moderation_url, "");
  endpoints_->remove("helper", "user:ann");
  EXPECT_THAT(actions(), ElementsAre("endpoint.delete", "endpoint.change", "endpoint.change",
                                     "endpoint.change", "endpoint.create"));
  const AuditEvent last = identity_->audit_events(1).front();
  EXPECT_EQ(last.actor, "user:ann");
  EXPECT_EQ(last.subject, endpoint.id);
  EXPECT_NE(create().id, endpoint.id);
  EXPECT_EQ(endpoints_->get("helper").versions.size(), 1u);
}

TEST_P(EndpointsTest, AnotherServerSeesAChangeWithinASecond) {
  Database elsewhere(location());
  Endpoints theirs(elsewhere);
  EndpointDirectory directory(theirs);
  EXPECT_TRUE(directory.table()->endpoints.empty());
  create("b");
  create("a");
  const auto before = directory.table();
  ASSERT_TRUE(comes_true([&] { return directory.table()->find("a") != nullptr; }));
  EXPECT_NE(directory.table()->find("b"), nullptr);
  EXPECT_EQ(directory.table()->find("c"), nullptr);
  EXPECT_EQ(before->find("a"), nullptr);  // what somebody holds does not change
  endpoints_->change("a", {.is_enabled = false}, "test");
  directory.refresh();
  EXPECT_FALSE(directory.table()->find("a")->is_enabled);
  endpoints_->remove("a", "test");
  directory.refresh();
  EXPECT_EQ(directory.table()->find("a"), nullptr);
}

Endpoint released(Shares shares) {
  Endpoint endpoint{.id = "end_x", .name = "helper", .shares = std::move(shares)};
  for (int64_t number = 1; number <= 3; ++number) {
    endpoint.versions.push_back({.number = number, .model = "m"});
  }
  return endpoint;
}

// How many of 20,000 conversations of one caller get the newer version.
int newer_of(const Endpoint& endpoint, std::string_view caller = "key_a") {
  int newer = 0;
  for (int i = 0; i < 20'000; ++i) {
    const auto& version = choose_version(endpoint, caller, fmt::format("user: question {}", i));
    newer += version.number == endpoint.shares.back().version;
  }
  return newer;
}

TEST(ChooseVersion, GivesEachVersionItsShareOfTheConversations) {
  for (const int percent : {1, 10, 50, 90}) {
    const int newer = newer_of(released({{1, 100 - percent}, {2, percent}}));
    const double p = percent / 100.0, deviation = std::sqrt(20'000 * p * (1 - p));
    EXPECT_NEAR(newer, 20'000 * p, 4 * deviation) << percent;
  }
  EXPECT_EQ(newer_of(released({{2, 100}})), 20'000);
}

TEST(ChooseVersion, GivesEachVersionItsShareOfTheCallersToo) {
  const Endpoint endpoint = released({{1, 75}, {2, 25}});
  int newer = 0;
  for (int i = 0; i < 20'000; ++i) {
    newer += choose_version(endpoint, fmt::format("key_{}", i), "").number == 2;
  }
  EXPECT_NEAR(newer, 5'000, 4 * std::sqrt(20'000 * 0.25 * 0.75));
}

TEST(ChooseVersion, StaysTheSameForAConversationAndOnlyGrowsWithTheShare) {
  const Endpoint small = released({{1, 90}, {2, 10}}), large = released({{1, 40}, {2, 60}});
  for (int i = 0; i < 2'000; ++i) {
    const std::string beginning = fmt::format("user: question {}", i);
    const int64_t first = choose_version(small, "key_a", beginning).number;
    EXPECT_EQ(choose_version(small, "key_a", beginning).number, first);
    if (first == 2) {
      EXPECT_EQ(choose_version(large, "key_a", beginning).number, 2);
    }
  }
}

TEST(ChooseVersion, DrawsAnewForEachNewerVersion) {
  const Endpoint second = released({{1, 50}, {2, 50}}), third = released({{2, 50}, {3, 50}});
  int both = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string beginning = std::to_string(i);
    both += choose_version(second, "key_a", beginning).number == 2 &&
            choose_version(third, "key_a", beginning).number == 3;
  }
  EXPECT_NEAR(both, 5'000, 4 * std::sqrt(20'000 * 0.25 * 0.75));
}

TEST(ModerationUrl, IsHttpsOrThisMachineAndNeverLinkLocal) {
  for (const char* good : {"https://judge.example.org/v1/moderations", "http://127.0.0.1:8080/x",
                           "http://localhost:8080/", "http://[::1]:8080/", "https://10.0.0.1/"}) {
    EXPECT_NO_THROW(check_moderation_url(good)) << good;
  }
  for (const char* bad :
       {"", "judge", "http://judge.example.org/", "ftp://127.0.0.1/", "https://169.254.169.254/",
        "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/", "https://u:p@example.org/",
        "http://127.0.0.1@example.org/", "https://2852039166/"}) {
    EXPECT_ERROR(check_moderation_url(bad), invalid_argument, "");
  }
}

}  // namespace
}  // namespace ridge::platform::endpoints_test
