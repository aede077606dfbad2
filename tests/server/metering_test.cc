#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "base/comes_true.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "platform/metering/limits.h"
#include "platform/metering/meter.h"
#include "platform/metering/usage.h"
#include "server/rate_headers.h"
#include "server_under_test.h"

namespace ridge::server::metering_test {
namespace {

using platform::LimitKind;

// Judges a Retry-After whose time began at the request that followed this.
class Stopwatch {
 public:
  bool is_rest_of(int64_t whole_s, const RawResponse& response) const {
    const auto passed = std::chrono::steady_clock::now() - began_;
    const int64_t passed_s = std::chrono::ceil<std::chrono::seconds>(passed).count();
    const int64_t rest_s = std::stoll(response.headers.at("retry-after"));
    return rest_s >= 1 && rest_s <= whole_s && rest_s >= whole_s - passed_s;
  }

 private:
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

// A server that counts what a key uses, and what the tests want to know of it.
class Metering : public testing::Test {
 protected:
  std::unique_ptr<ServerUnderTest> serve(ScriptedEngine::Script script) {
    return std::make_unique<ServerUnderTest>(std::move(script), ServerOptions{}, authenticator_,
                                             meter_);
  }
  std::string request(std::string_view body, std::string_view path = "/v1/completions") const {
    return fmt::format(
        "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nx-api-key: {}\r\nContent-Length: {}\r\n\r\n{}",
        path, key_, body.size(), body);
  }
  RawResponse ask(const ServerUnderTest& under, std::string_view body,
                  std::string_view path = "/v1/completions") const {
    RawClient client(under.port());
    return client.send(request(body, path)).read();
  }
  // Nobody else writes to the database as long as it lives.
  std::unique_ptr<soci::session> hold_database() const {
    auto session = std::make_unique<soci::session>(soci::sqlite3, database_.name());
    *session << "BEGIN IMMEDIATE";
    return session;
  }
  void limit(LimitKind kind, int64_t most) {
    platform::Limits(database_).set({"default"}, "", kind, most, "test");
  }
  platform::UsageRow used() {
    const auto rows = platform::usage(database_, {});
    return rows.empty() ? platform::UsageRow{} : rows.front();
  }
  int64_t number(const std::string& query) {
    return database_.read([&](soci::session& session) {
      int64_t value = -1;
      session << query, soci::into(value);
      return value;
    });
  }
  int64_t open() { return number("SELECT COUNT(*) FROM reservations"); }
  std::string reason() {
    return database_.read([&](soci::session& session) {
      std::string reason;
      session << "SELECT finish_reason FROM usage_records", soci::into(reason);
      return reason;
    });
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  SteadyClock clock_;
  std::shared_ptr<platform::Authenticator> authenticator_ =
      std::make_shared<platform::Authenticator>(identity_, clock_, patient);
  std::shared_ptr<platform::Meter> meter_ = std::make_shared<platform::Meter>(
      platform::Ledger(database_, "server-1"), platform::MeterOptions{.spool = folder_ / "spool"});
  std::string key_ = identity_.create_key({.name = "k"}, "test").text.text();
};

void say_three(ScriptedEngine::Part& part) {
  for (int i = 0; i < 3; ++i) part.say("a");
}

constexpr std::string_view streamed = R"({"model":"m","prompt":"a","max_tokens":9,"stream":true})";
constexpr std::string_view whole = R"({"model":"m","prompt":"a","max_tokens":9})";

constexpr std::pair<std::string_view, std::string_view> asks[] = {
    {"/v1/completions", whole},
    {"/v1/completions", streamed},
    {"/v1/chat/completions", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
    {"/v1/messages",
     R"({"model":"m","max_tokens":3,"stream":true,"messages":[{"role":"user","content":"a"}]})"},
    {"/v1/responses", R"({"model":"m","input":"a","stream":true})"},
    {"/api/chat", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
    {"/api/generate", R"({"model":"m","prompt":"a","stream":false})"},
    {"/v1/embeddings", R"({"model":"m","input":["a","b"]})"}};

void say_three_or_embed(ScriptedEngine::Part& part) {
  if (part.request().embedding) return part.embed({1, 2});
  say_three(part);
}

TEST_F(Metering, EveryKindOfAnswerIsRecordedOnceBeforeItsLastByte) {
  const auto under = serve(say_three_or_embed);
  int64_t answered = 0;
  for (const auto& [path, body] : asks) {
    EXPECT_EQ(ask(*under, body, path).status, 200) << path;
    EXPECT_EQ(used().requests, ++answered) << path;
    EXPECT_EQ(open(), 0) << path;
  }
  EXPECT_EQ(used().completion_tokens, 3 * 7);
  EXPECT_EQ(used().failures, 0);
}

TEST_F(Metering, EveryKindOfAnswerIsMadeButNotShownBeforeItIsReserved) {
  const auto under = serve(say_three_or_embed);
  EXPECT_EQ(ask(*under, whole).status, 200);  // which shows that nothing limits it
  int ended = 1;
  int64_t answered = 1;
  for (const auto& [path, body] : asks) {
    auto holder = hold_database();
    RawClient client(under->port());
    client.send(request(body, path));
    ended += path == "/v1/embeddings" ? 2 : 1;  // of two prompts
    EXPECT_TRUE(under->engine->wait_until_ended(ended)) << path;
    EXPECT_FALSE(client.has_news()) << path;
    holder.reset();
    EXPECT_EQ(client.read().status, 200) << path;
    EXPECT_EQ(used().requests, ++answered) << path;
    EXPECT_EQ(open(), 0) << path;
  }
}

TEST_F(Metering, WhatBeganIsCancelledAndNotShownWhereItsReservationFails) {
  std::atomic<bool> stays = false;
  const auto under = serve([&stays](ScriptedEngine::Part& part) {
    const bool ends = !stays;
    say_three_or_embed(part);
    if (!ends) part.wait_for_cancel();
  });
  int submitted = 0, cancelled = 0;
  for (const auto& [path, body] : asks) {
    stays = false;
    EXPECT_EQ(ask(*under, whole).status, 200);  // after which the database is known to be there
    const int64_t recorded = number("SELECT COUNT(*) FROM usage_records");
    stays = true;
    auto holder = hold_database();
    RawClient client(under->port());
    client.send(request(body, path));
    const int parts = path == "/v1/embeddings" ? 2 : 1;  // of two prompts
    submitted += 1 + parts;
    EXPECT_TRUE(comes_true([&] { return under->engine->submitted() == submitted; })) << path;
    *holder << "ALTER TABLE reservations RENAME TO lost";
    *holder << "COMMIT";
    const RawResponse response = client.read();
    EXPECT_EQ(response.status, path == "/v1/messages" ? 529 : 503) << path << response.body;
    EXPECT_THAT(response.body, testing::HasSubstr("usage cannot be recorded")) << path;
    EXPECT_TRUE(under->engine->wait_until_ended(submitted)) << path;
    EXPECT_EQ(under->engine->cancelled(), cancelled += parts) << path;
    *holder << "ALTER TABLE lost RENAME TO reservations";
    EXPECT_TRUE(comes_true([&] { return !meter_->waits_for_database(); })) << path;
    EXPECT_EQ(open(), 0) << path;
    EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records"), recorded) << path;
  }
}

TEST_F(Metering, WhatBeganAsItsLimitWasSetIsRefusedAsAnyOther) {
  const auto under = serve([](ScriptedEngine::Part& part) {
    say_three(part);
    if (part.request().max_tokens != 9) part.wait_for_cancel();
  });
  EXPECT_EQ(ask(*under, whole).status, 200);
  limit(LimitKind::tokens_per_minute, 20);
  limit(LimitKind::tokens_per_day, 10);
  const std::string_view more = R"({"model":"m","prompt":"a","max_tokens":15,"stream":true})";
  const RawResponse response = ask(*under, more);
  EXPECT_EQ(response.status, 402) << response.body;
  EXPECT_TRUE(response.has("x-ratelimit-limit-tokens", "20")) << response.head;
  EXPECT_TRUE(under->engine->wait_until_ended(2));
  EXPECT_EQ(under->engine->cancelled(), 1);
  EXPECT_EQ(ask(*under, more).status, 402);
  EXPECT_EQ(under->engine->submitted(), 2);  // no work before any more
  meter_->wait_idle();
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(used().requests, 1);
}

// Its headers say how its limits stand, whatever else becomes of it.
TEST_F(Metering, WhatAnEngineRefusesHasTheHeadersOfItsLimits) {
  const auto under = serve(say_three);
  limit(LimitKind::requests_per_minute, 5);
  under->engine->refuse_requests(true);
  const RawResponse response = ask(*under, whole);
  EXPECT_EQ(response.status, 429);
  EXPECT_TRUE(response.has("x-ratelimit-limit-requests", "5")) << response.head;
}

TEST_F(Metering, AClientThatLeavesBeforeItIsReservedPaysForWhatWasMadeOnce) {
  const auto under = serve([](ScriptedEngine::Part& part) {
    say_three(part);
    if (part.request().max_tokens != 9) part.wait_for_cancel();
  });
  EXPECT_EQ(ask(*under, whole).status, 200);
  auto holder = hold_database();
  {
    RawClient client(under->port());
    client.send(request(R"({"model":"m","prompt":"a","max_tokens":5,"stream":true})"));
    EXPECT_TRUE(comes_true([&] { return under->engine->submitted() == 2; }));
  }
  EXPECT_TRUE(under->engine->wait_until_ended(2));  // it is noticed at once
  holder.reset();
  under->stop();
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(used().requests, 2);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'cancelled'"), 1);
}

TEST_F(Metering, ASpentAllowanceIs402AndAReachedRate429InEachFormat) {
  const auto under = serve(say_three);
  limit(LimitKind::tokens_per_day, 3);
  RawResponse response = ask(*under, whole);
  EXPECT_EQ(response.status, 402);
  EXPECT_THAT(response.body, testing::HasSubstr(R"("code":"insufficient_quota")"));
  EXPECT_FALSE(response.has("retry-after", "1")) << response.head;
  limit(LimitKind::tokens_per_day, 1000);
  limit(LimitKind::requests_per_minute, 1);
  const Stopwatch since;
  EXPECT_EQ(ask(*under, whole).status, 200);
  response = ask(*under, whole);
  EXPECT_EQ(response.status, 429);
  EXPECT_THAT(response.body, testing::HasSubstr(R"("code":"rate_limit_exceeded")"));
  EXPECT_TRUE(since.is_rest_of(60, response)) << response.head;
  EXPECT_TRUE(response.has("x-ratelimit-limit-requests", "1")) << response.head;
  EXPECT_TRUE(response.has("x-ratelimit-remaining-requests", "0")) << response.head;
  response =
      ask(*under, R"({"model":"m","max_tokens":3,"messages":[{"role":"user","content":"a"}]})",
          "/v1/messages");
  EXPECT_EQ(response.status, 429);
  EXPECT_THAT(response.body, testing::HasSubstr(R"("type":"rate_limit_error")"));
  EXPECT_THAT(response.head,
              testing::ContainsRegex("anthropic-ratelimit-requests-reset: 20..-..-"));
  EXPECT_EQ(used().requests, 1);
  EXPECT_EQ(under->engine->submitted(), 1);  // no work before
}

TEST_F(Metering, ALongTableOfRecordsComesInPieces) {
  ServerUnderTest under(say_three, ServerOptions{}, authenticator_, meter_,
                        PlatformAccess{.database = {std::shared_ptr<void>(), &database_},
                                       .identity = {std::shared_ptr<void>(), &identity_}});
  const std::string project = identity_.projects().front().id;
  database_.write([&](soci::session& session) {
    session << "INSERT INTO usage_records (id, at_ms, organisation_id, project_id, key_id, "
               "request_id, model, endpoint, prompt_tokens, cached_tokens, reasoning_tokens, "
               "completion_tokens, ttft_ms, duration_ms, finish_reason, micros) WITH RECURSIVE "
               "numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2999) SELECT "
               "CAST(n AS TEXT), 1793880000000 + n, 'org', :project, 'k', 'r', 'm', "
               "'/v1/completions', 1, 0, 0, 1, 1, 1, 'stop', 0 FROM numbers",
        soci::use(project);
  });
  const platform::NewKey wanted{.name = "a", .rights = {.scopes = {platform::Scope::admin}}};
  const std::string admin = identity_.create_key(wanted, "test").text.text();
  const auto get = [&](std::string_view method, std::string_view more, std::string_view version) {
    RawClient client(under.port());
    client.send(fmt::format("{} /api/v1/usage/records?format=csv{} HTTP/{}\r\nHost: 127.0.0.1\r\n"
                            "x-api-key: {}\r\n\r\n",
                            method, more, version, admin));
    return client.read(method != "HEAD");
  };
  const RawResponse answer = get("GET", "", "1.1");
  EXPECT_TRUE(answer.has("transfer-encoding", "chunked")) << answer.head;
  EXPECT_TRUE(answer.has("content-type", "text/csv; charset=utf-8")) << answer.head;
  EXPECT_TRUE(answer.is_whole);
  EXPECT_EQ(std::ranges::count(answer.body, '\n'), 3001);
  EXPECT_EQ(get("HEAD", "", "1.1").status, 200);
  EXPECT_EQ(get("GET", "", "1.0").body, answer.body);
  const RawResponse page = get("GET", "&limit=1000&after=999", "1.1");
  EXPECT_FALSE(page.has("transfer-encoding", "chunked")) << page.head;
  EXPECT_EQ(std::ranges::count(page.body, '\n'), 1001);
}

TEST_F(Metering, TellsOfInputAndOutputTokensApart) {
  const auto under = serve(say_three);
  limit(LimitKind::input_tokens_per_minute, 100);
  limit(LimitKind::output_tokens_per_minute, 10);
  const std::string_view message =
      R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"}]})";
  const Stopwatch since;
  RawResponse response = ask(*under, message, "/v1/messages");
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.has("anthropic-ratelimit-input-tokens-limit", "100")) << response.head;
  EXPECT_TRUE(response.has("anthropic-ratelimit-output-tokens-limit", "10")) << response.head;
  EXPECT_TRUE(response.has("anthropic-ratelimit-output-tokens-remaining", "1")) << response.head;
  EXPECT_FALSE(response.headers.contains("anthropic-ratelimit-tokens-limit")) << response.head;
  response = ask(*under, message, "/v1/messages");  // three were used, and six came back
  EXPECT_EQ(response.status, 429);
  EXPECT_THAT(response.body, testing::HasSubstr("10 output tokens a minute"));
  EXPECT_TRUE(since.is_rest_of(12, response)) << response.head;
  response = ask(*under, R"({"model":"m","prompt":"a","max_tokens":7})");
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.head, testing::Not(testing::HasSubstr("ratelimit")));
  EXPECT_EQ(ask(*under, R"({"model":"m","prompt":"a","max_tokens":11})").status, 400);
}

TEST_F(Metering, WithoutMaxTokensTheLongestAnswerIsReserved) {
  const auto under = serve(say_three);
  limit(LimitKind::tokens_per_day, 999);
  const std::string_view chat = R"({"model":"m","messages":[{"role":"user","content":"a"}]})";
  EXPECT_EQ(ask(*under, chat, "/v1/chat/completions").status, 402);
  limit(LimitKind::tokens_per_day, 1000);  // the context
  EXPECT_EQ(ask(*under, chat, "/v1/chat/completions").status, 200);
}

TEST_F(Metering, EachChoiceAndEachPromptIsReserved) {
  const auto under = serve([](ScriptedEngine::Part& part) {
    for (int i = 0; i < part.request().choices; ++i) part.say("a", i);
  });
  limit(LimitKind::tokens_per_day, 2 * (1 + 3 * 10) - 1);
  const std::string_view body = R"({"model":"m","prompt":["a","b"],"n":3,"max_tokens":10})";
  EXPECT_EQ(ask(*under, body).status, 402);
  limit(LimitKind::tokens_per_day, 2 * (1 + 3 * 10));
  EXPECT_EQ(ask(*under, body).status, 200);
  EXPECT_EQ(used().prompt_tokens, 2);
  EXPECT_EQ(used().completion_tokens, 6);
}

TEST_F(Metering, AClientThatLeavesPaysForWhatWasMadeOnce) {
  const auto under = serve([](ScriptedEngine::Part& part) {
    say_three(part);
    part.wait_for_cancel();
  });
  {
    RawClient client(under->port());
    client.send(request(streamed));
    EXPECT_TRUE(client.wait_for(R"("text":"a)"));
  }
  EXPECT_TRUE(under->engine->wait_until_ended(1));
  under->stop();
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(used().requests, 1);
  EXPECT_EQ(used().completion_tokens, 3);
  EXPECT_EQ(reason(), "cancelled");
}

TEST_F(Metering, AFailureIsRecordedAsOne) {
  const auto under = serve([](ScriptedEngine::Part& part) {
    part.say("a");
    throw Error(ErrorCode::internal, "broken");
  });
  EXPECT_EQ(ask(*under, whole).status, 500);
  EXPECT_EQ(reason(), "failed");
  EXPECT_EQ(used().completion_tokens, 1);
  EXPECT_EQ(open(), 0);
}

TEST_F(Metering, WhatNoEngineTookCostsNothing) {
  const auto under = serve(say_three);
  limit(LimitKind::requests_per_minute, 1);
  under->engine->refuse_requests(true);
  EXPECT_EQ(ask(*under, whole).status, 429);
  meter_->wait_idle();
  EXPECT_EQ(open(), 0);
  EXPECT_EQ(used().requests, 0);
  under->engine->refuse_requests(false);
  EXPECT_EQ(ask(*under, whole).status, 200);
}

TEST_F(Metering, RequestsAtOnceAreBoundUntilOneEnds) {
  const auto under = serve([](ScriptedEngine::Part& part) { part.wait_for_go(); });
  limit(LimitKind::concurrent_requests, 1);
  RawClient first(under->port());
  first.send(request(whole));
  ASSERT_TRUE(comes_true([&] { return open() > 0; }));
  EXPECT_EQ(ask(*under, whole).status, 429);
  under->engine->go();
  EXPECT_EQ(first.read().status, 200);
  EXPECT_EQ(ask(*under, whole).status, 200);
}

TEST_F(Metering, WithoutADatabaseNoWorkBegins) {
  meter_.reset();
  meter_ = std::make_shared<platform::Meter>(
      platform::Ledger(database_, "server-1"),
      platform::MeterOptions{.spool = folder_ / "spool", .retries_after = std::chrono::hours(1)});
  const auto under = serve(say_three);
  EXPECT_EQ(ask(*under, whole).status, 200);
  database_.write([](soci::session& session) { session << "ALTER TABLE limits RENAME TO lost"; });
  EXPECT_EQ(ask(*under, whole).status, 503);
  const int submitted = under->engine->submitted();
  EXPECT_LE(submitted, 2);  // it finds that out, and is not shown
  EXPECT_EQ(ask(*under, whole).status, 503);
  EXPECT_EQ(under->engine->submitted(), submitted);
}

TEST(RateHeaders, WriteDurationsAsOpenAiDoes) {
  EXPECT_EQ(reset_duration(0), "0ms");
  EXPECT_EQ(reset_duration(12), "12ms");
  EXPECT_EQ(reset_duration(1000), "1s");
  EXPECT_EQ(reset_duration(59'500), "59.5s");
  EXPECT_EQ(reset_duration(360'000), "6m0s");
  EXPECT_EQ(reset_duration(3'723'000), "1h2m3s");
}

TEST(RateHeaders, WriteTimesAsAnthropicDoes) {
  const platform::Admission admission{.tokens = platform::RateStanding{100, 40, 1500}};
  const auto now = std::chrono::system_clock::from_time_t(1'793'880'000);
  EXPECT_THAT(rate_headers(admission, api::ErrorStyle::anthropic, now),
              testing::ElementsAre(
                  testing::Pair("anthropic-ratelimit-tokens-limit", "100"),
                  testing::Pair("anthropic-ratelimit-tokens-remaining", "40"),
                  testing::Pair("anthropic-ratelimit-tokens-reset", "2026-11-05T12:00:02Z")));
  EXPECT_THAT(rate_headers({}, api::ErrorStyle::openai, now), testing::IsEmpty());
}

}  // namespace
}  // namespace ridge::server::metering_test
