#include "administration/records_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ridge::administration::records_json_test {
namespace {

using platform::UsageBy;

TEST(RecordsJson, ShowsAKeyWithoutItsText) {
  platform::ApiKey key{
      .id = "key_1",
      .name = "ci",
      .hint = "rgk_Ab3d",
      .project = "search",
      .rights = {.scopes = {platform::Scope::inference, platform::Scope::metrics},
                 .models = {"m"},
                 .addresses = {platform::AddressRange::parse_or_throw("10.0.0.0/8")}},
      .created_at_ms = 5,
      .expires_at_ms = 100};
  EXPECT_EQ(json_of(key, 99).dump(),
            R"({"id":"key_1","name":"ci","hint":"rgk_Ab3d","project":"search","user":null,)"
            R"("scopes":["inference","metrics"],"models":["m"],"addresses":["10.0.0.0/8"],)"
            R"("state":"active","created_at_ms":5,"expires_at_ms":100,"revoked_at_ms":null,)"
            R"("rotated_to":null})");
  EXPECT_EQ(json_of(key, 100)["state"], "expired");
  key.rotated_to = "key_2";
  EXPECT_EQ(json_of(key, 99)["state"], "ending");
  key.revoked_at_ms = 50;
  EXPECT_EQ(json_of(key, 100)["state"], "revoked");
}

TEST(RecordsJson, ShowsUsersLimitsAndPrices) {
  EXPECT_EQ(json_of(platform::User{.id = "user_1",
                                   .name = "ann",
                                   .role = platform::Role::admin,
                                   .created_at_ms = 5,
                                   .disabled_at_ms = 7,
                                   .memberships = {{"search", platform::ProjectRole::viewer}}})
                .dump(),
            R"({"id":"user_1","name":"ann","kind":"person","role":"admin","project":null,)"
            R"("projects":[{"project":"search","role":"viewer"}],)"
            R"("created_at_ms":5,"disabled_at_ms":7,"oidc":null})");
  EXPECT_EQ(
      json_of(platform::User{.oidc_issuer = "https://a.example", .oidc_subject = "7"})["oidc"],
      Json::parse(R"({"issuer":"https://a.example","subject":"7"})"));
  EXPECT_EQ(json_of(platform::Member{.user_id = "user_1",
                                     .user = "ann",
                                     .role = platform::ProjectRole::admin,
                                     .user_role = platform::Role::developer,
                                     .added_at_ms = 5})
                .dump(),
            R"({"user":"ann","role":"admin","user_role":"developer","added_at_ms":5,)"
            R"("disabled_at_ms":null})");
  platform::NamedLimit limit{.project = "search"};
  limit.limit = {
      .model = "m", .kind = platform::LimitKind::tokens_per_day, .most = 1'000'000'000'000};
  EXPECT_EQ(json_of(limit).dump(),
            R"({"project":"search","key":null,"user":null,"model":"m","kind":"tokens_per_day",)"
            R"("most":1000000000000})");
  EXPECT_EQ(json_of(platform::ModelPrice{"", {200'000, 50'000, 1, 7}}).dump(),
            R"({"model":"*","prompt":0.2,"cached":0.05,"completion":1e-06,)"
            R"("free_tokens_per_month":7})");
}

TEST(RecordsJson, TakesDetailsOfTheAuditLogForAnObject) {
  platform::AuditEvent event{.number = 3, .details = R"({"name":"a"})"};
  EXPECT_EQ(json_of(event)["details"]["name"], "a");
  event.details = "damaged";
  EXPECT_EQ(json_of(event)["details"], Json::object());
}

TEST(UsageCsv, HasTheColumnsThatTheJsonHas) {
  const std::vector<UsageBy> by = {UsageBy::key, UsageBy::day};
  const platform::UsageRow row{.day = "2026-11-28",
                               .key = "a \"b\", c",
                               .requests = 3,
                               .prompt_tokens = 20,
                               .completion_tokens = 10,
                               .free_tokens = 4,
                               .micros = 1'500'000,
                               .ttft_ms = 2.5};
  EXPECT_EQ(usage_csv({row}, by),
            "key,day,requests,failures,prompt_tokens,cached_tokens,completion_tokens,"
            "reasoning_tokens,total_tokens,free_tokens,cost,mean_ttft_ms\n"
            "\"a \"\"b\"\", c\",\"2026-11-28\",3,0,20,0,10,0,30,4,1.5,2.5\n");
  EXPECT_EQ(json_of(row, by)["total_tokens"], 30);
}

TEST(UsageCsv, HoldsNothingThatASpreadsheetRuns) {
  for (const char* name : {"=1+1", "+1", "-1", "@SUM(A1)"}) {
    const std::string csv = usage_csv({{.key = name}}, {UsageBy::key});
    EXPECT_NE(csv.find(std::string("\n\"'") + name + "\""), std::string::npos) << csv;
  }
}

}  // namespace
}  // namespace ridge::administration::records_json_test
