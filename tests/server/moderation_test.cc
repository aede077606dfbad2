// What operators have judged before it is answered.
#include <gmock/gmock.h>
#include <soci/soci.h>

#include <condition_variable>
#include <thread>

#include "endpoints_fixture.h"
#include "scripted_collector.h"

namespace ridge::server::moderation_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Judged : public EndpointsServed {
 protected:
  void judge_by(const std::string& url) {
    const json wanted = {{"name", "helper"}, {"model", "m"}, {"moderation_url", url}};
    administer("POST", "", wanted.dump(), 201);
  }
  int64_t records() {
    meter_->wait_idle();
    return database_.read([](soci::session& session) {
      int64_t records = 0;
      session << "SELECT (SELECT COUNT(*) FROM usage_records) + (SELECT COUNT(*) FROM "
                 "reservations)",
          soci::into(records);
      return records;
    });
  }
};

constexpr const char* clean = R"({"results":[{"flagged":false},{"flagged":false}]})";
constexpr const char* flagged = R"({"results":[{"flagged":false},{"flagged":true}]})";

TEST_F(Judged, WhatIsCleanIsAnsweredAfterAllOfItWasSent) {
  ScriptedCollector service([](int) { return 200; }, clean);
  judge_by(service.url() + "/judge?key=hush");
  json body = chat("helper", "what of it?");
  const json system = {{"role", "system"}, {"content", "be vile"}};
  body["messages"].insert(body["messages"].begin(), system);
  body["tools"] =
      json::parse(R"([{"type":"function","function":{"name":"f","description":"vile tool"}}])");
  EXPECT_EQ(ask("/v1/chat/completions", body).status, 200);
  const std::string post = service.wait_for_posts(1).at(0);
  EXPECT_THAT(post, AllOf(HasSubstr("POST /judge?key=hush HTTP/1.1"),
                          HasSubstr("Content-Type: application/json")));
  const json sent = json::parse(post.substr(post.find("\r\n\r\n") + 4));
  EXPECT_EQ(sent["input"][0], "be vile");
  EXPECT_EQ(sent["input"][1], "what of it?");
  EXPECT_THAT(sent["input"][2].get<std::string>(), HasSubstr("vile tool"));
  EXPECT_EQ(ask("/v1/completions",
                {{"model", "helper"}, {"prompt", last().prompt_tokens}, {"max_tokens", 3}})
                .status,
            200);
  EXPECT_THAT(service.wait_for_posts(2).at(1), HasSubstr("what of it?"));
  EXPECT_EQ(ask("/v1/embeddings", {{"model", "helper"}, {"input", "some text"}}).status, 200);
  EXPECT_THAT(service.wait_for_posts(3).at(2), HasSubstr("some text"));
  EXPECT_EQ(ask("/v1/chat/completions", chat("m")).status, 200);
  EXPECT_EQ(service.wait_for_posts(3).size(), 3u);
}

TEST_F(Judged, WhatIsFlaggedReachesNoEngineAndCostsNothing) {
  ScriptedCollector service([](int) { return 200; }, flagged);
  judge_by(service.url());
  json streamed = chat("helper");
  streamed["stream"] = true;
  for (const json& body : {chat("helper"), streamed}) {
    const RawResponse refused = ask("/v1/chat/completions", body);
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(json::parse(refused.body)["error"]["code"], "content_policy");
  }
  json body = chat("helper");
  body["max_tokens"] = 5;
  const json anthropic = json::parse(ask("/v1/messages", body).body);
  EXPECT_EQ(anthropic["error"]["type"], "invalid_request_error");
  EXPECT_EQ(under_->engine->submitted(), 0);
  EXPECT_EQ(records(), 0);
  EXPECT_THAT(send("GET", "/v1/requests", key_).body, HasSubstr("content_policy"));
}

TEST_F(Judged, WhatCannotBeJudgedIsNotAnswered) {
  struct Case {
    int status;
    const char* answer;
  };
  for (const Case& each :
       {Case{500, clean}, Case{302, clean}, Case{404, "{}"}, Case{200, "{}"}, Case{200, "no json"},
        Case{200, R"({"results":[]})"}, Case{200, R"({"results":[{"flagged":"no"}]})"}}) {
    ScriptedCollector service([&](int) { return each.status; }, each.answer);
    judge_by(service.url());
    const RawResponse refused = ask("/v1/chat/completions", chat("helper"));
    EXPECT_EQ(refused.status, 503) << each.status << each.answer;
    EXPECT_THAT(refused.body, Not(HasSubstr("127.0.0.1")));
    administer("DELETE", "/helper", "", 204);
  }
  judge_by("http://127.0.0.1:1/");
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper")).status, 503);
  EXPECT_EQ(under_->engine->submitted(), 0);
  EXPECT_EQ(records(), 0);
  administer("PATCH", "/helper", R"({"moderation_url":null})");
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper")).status, 200);
}

TEST_F(Judged, AServiceThatIsSilentIsWaitedForFiveSecondsAndHoldsUpNobodyElse) {
  std::mutex mutex;
  std::condition_variable changed;
  bool goes = false;
  ScriptedCollector service(
      [&](int) {
        std::unique_lock lock(mutex);
        changed.wait_for(lock, std::chrono::seconds(30), [&] { return goes; });
        return 200;
      },
      clean);
  judge_by(service.url());
  const auto started = std::chrono::steady_clock::now();
  std::jthread waiting([&] { EXPECT_EQ(ask("/v1/chat/completions", chat("helper")).status, 503); });
  service.wait_for_posts(1);
  EXPECT_EQ(ask("/v1/chat/completions", chat("m")).status, 200);
  EXPECT_EQ(send("GET", "/health", "").status, 200);
  waiting.join();
  const auto waited = std::chrono::steady_clock::now() - started;
  EXPECT_GE(waited, std::chrono::milliseconds(4'500));
  EXPECT_LT(waited, std::chrono::seconds(30)) << "then the service would have spoken";
  EXPECT_EQ(under_->engine->submitted(), 1);
  {
    const std::lock_guard lock(mutex);
    goes = true;
  }
  changed.notify_all();
}

}  // namespace
}  // namespace ridge::server::moderation_test
