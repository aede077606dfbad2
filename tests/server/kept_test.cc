// What a server keeps of requests for projects that have chosen it, and who reads it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <soci/soci.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/comes_true.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/sessions.h"
#include "platform/kept/request_keeper.h"
#include "platform/metering/meter.h"
#include "server_under_test.h"

namespace ridge::server::kept_test {
namespace {

using nlohmann::json;
using platform::Role;
using testing::HasSubstr;
using testing::Not;

class Kept : public testing::Test {
 protected:
  Kept() {
    identity_.create_project("search", 1, "test");
    identity_.create_user("bob", platform::UserKind::person, Role::developer, "", "test");
    program_ = key("program", "");
    admin_ =
        identity_
            .create_key({.name = "root", .rights = {.scopes = {platform::Scope::admin}}}, "test")
            .text.text();
  }

  std::string key(const std::string& name, const std::string& user) {
    return identity_.create_key({.name = name, .project = "search", .user = user}, "test")
        .text.text();
  }
  // With a key that has the scope admin.
  RawResponse administer(const std::string& method, const std::string& path,
                         const std::string& body = "") const {
    RawClient client(under_.port());
    client.send(fmt::format(
        "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nx-api-key: {}\r\nContent-Length: {}\r\n\r\n{}",
        method, path, admin_, body.size(), body));
    return client.read();
  }
  void keep(int days) {
    const std::string body = fmt::format(R"({{"keep_days":{}}})", days);
    ASSERT_EQ(administer("PATCH", "/api/v1/projects/search", body).status, 200);
  }
  RawResponse ask(const std::string& path, const std::string& body, const std::string& with) const {
    return RawClient(under_.port()).ask(post(path, body, "x-api-key: " + with + "\r\n"));
  }
  RawResponse ask(const std::string& path, const std::string& body) const {
    return ask(path, body, program_);
  }
  json kept(const std::string& query = "") {
    keeper_->wait_idle();
    const RawResponse answer = administer("GET", "/api/v1/requests/kept?content=true" + query);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return json::parse(answer.body).at("data");
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  std::shared_ptr<platform::Sessions> sessions_ = std::make_shared<platform::Sessions>(database_);
  SteadyClock clock_;
  std::shared_ptr<platform::RequestKeeper> keeper_ = std::make_shared<platform::RequestKeeper>(
      platform::KeptRequests(database_),
      platform::RequestKeeperOptions{.gathers_for = std::chrono::milliseconds(1)});
  std::string program_, admin_;
  ServerUnderTest under_{
      [](ScriptedEngine::Part& part) {
        if (part.request().embedding) return part.embed({1, 2});
        part.think("a thought");
        part.say("an answer");
        if (part.request().min_tokens > 0) part.wait_for_cancel();
        if (part.request().ignore_eos) throw Error(ErrorCode::internal, "broken");
      },
      ServerOptions{}, std::make_shared<platform::Authenticator>(identity_, clock_, patient),
      std::make_shared<platform::Meter>(platform::Ledger(database_, "server-1"),
                                        platform::MeterOptions{.spool = folder_ / "spool"}),
      PlatformAccess{.database = {std::shared_ptr<void>(), &database_},
                     .identity = {std::shared_ptr<void>(), &identity_},
                     .sessions = sessions_,
                     .keeper = keeper_}};
};

constexpr const char* chat_body =
    R"({"model":"m","messages":[{"role":"user","content":"a question"}],"temperature":0.5})";

TEST_F(Kept, NothingIsUnlessTheProjectHasChosenIt) {
  EXPECT_EQ(ask("/v1/chat/completions", chat_body).status, 200);
  EXPECT_TRUE(kept().empty());
  keep(30);
  EXPECT_EQ(ask("/v1/chat/completions", chat_body).status, 200);
  EXPECT_EQ(kept().size(), 1u);
  const std::string other = identity_.create_key({.name = "k"}, "test").text.text();
  EXPECT_EQ(ask("/v1/chat/completions", chat_body, other).status, 200) << "of another project";
  EXPECT_EQ(kept().size(), 1u);
  keep(0);
  EXPECT_TRUE(kept().empty()) << "what there was is gone";
  EXPECT_EQ(ask("/v1/chat/completions", chat_body).status, 200);
  keeper_->wait_idle();
  keep(30);
  EXPECT_TRUE(kept().empty());
}

TEST_F(Kept, RequestsAreAsTheyWereSentInEveryFormat) {
  keep(30);
  const std::pair<const char*, const char*> asks[] = {
      {"/v1/chat/completions", chat_body},
      {"/v1/completions", R"({"model":"m","prompt":["a","b"],"stream":true})"},
      {"/v1/messages",
       R"({"model":"m","max_tokens":3,"system":"s","stream":true,"messages":[{"role":"user","content":"a"}]})"},
      {"/v1/responses", R"({"model":"m","input":"a","stream":true})"},
      {"/api/chat", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
      {"/api/generate", R"({"model":"m","prompt":"a","stream":false})"},
      {"/v1/embeddings", R"({"model":"m","input":["a","b"]})"},
      {"/v1/rerank", R"({"model":"m","query":"a","documents":["b"]})"},
      {"/v1/score", R"({"model":"m","text_1":"a","text_2":"b"})"}};
  for (const auto& [path, body] : asks) {
    ASSERT_EQ(ask(path, body).status, 200) << path;
    const json all = kept("&limit=1");
    ASSERT_EQ(all.size(), 1u) << path;
    const json& request = all[0];
    EXPECT_EQ(request["endpoint"], path);
    EXPECT_EQ(request["prompt"], json::parse(body));
    EXPECT_EQ(request["project"], "search");
    EXPECT_EQ(request["key"], "program");
    EXPECT_EQ(request["model"], "m");
    EXPECT_EQ(request["finish_reason"], "stop");
    const std::string route = path;
    const bool is_vector =
        route == "/v1/embeddings" || route == "/v1/rerank" || route == "/v1/score";
    if (is_vector) {
      EXPECT_EQ(request["answer"], json::array()) << path;
      continue;
    }
    ASSERT_EQ(request["answer"].size(), route == "/v1/completions" ? 2u : 1u) << path;
    for (const json& choice : request["answer"]) {
      EXPECT_EQ(
          choice,
          (json{{"reasoning", "a thought"}, {"content", "an answer"}, {"finish_reason", "stop"}}))
          << path;
    }
  }
  EXPECT_EQ(ask("/tokenize", R"({"model":"m","prompt":"a"})").status, 200);
  EXPECT_EQ(kept().size(), std::size(asks)) << "no engine works for that";
}

TEST_F(Kept, WhatFailsOrIsLeftIsKeptAsFarAsItCame) {
  keep(30);
  EXPECT_EQ(ask("/v1/completions", R"({"model":"m","prompt":"a","ignore_eos":true})").status, 500);
  json request = kept()[0];
  EXPECT_EQ(request["finish_reason"], "failed");
  EXPECT_EQ(request["answer"][0]["content"], "an answer");
  EXPECT_EQ(request["answer"][0]["finish_reason"], nullptr);
  {
    RawClient client(under_.port());
    client.send(post("/v1/completions",
                     R"({"model":"m","prompt":"a","min_tokens":1,"max_tokens":9,"stream":true})",
                     "x-api-key: " + program_ + "\r\n"));
    ASSERT_TRUE(client.wait_for("an answer"));
  }
  EXPECT_TRUE(under_.engine->wait_until_ended(2));
  ASSERT_TRUE(comes_true([&] { return kept().size() == 2; }));
  EXPECT_EQ(kept()[0]["finish_reason"], "cancelled");
  under_.engine->refuse_requests(true);
  EXPECT_EQ(ask("/v1/completions", R"({"model":"m","prompt":"a"})").status, 429);
  EXPECT_EQ(kept().size(), 2u) << "no engine has taken it";
}

TEST_F(Kept, DevelopersReadTheirOwnAndThoseOfProgramsAndAdminsAll) {
  keep(30);
  identity_.set_member("search", "bob", platform::ProjectRole::developer, "test");
  const std::string bob = key("bob's", "bob");
  identity_.create_user("eve", platform::UserKind::person, Role::developer, "", "test");
  identity_.set_member("search", "eve", platform::ProjectRole::developer, "test");
  identity_.create_user("vera", platform::UserKind::person, Role::viewer, "", "test");
  ASSERT_EQ(ask("/v1/completions", R"({"model":"m","prompt":"by a program"})").status, 200);
  ASSERT_EQ(ask("/v1/completions", R"({"model":"m","prompt":"by bob"})", bob).status, 200);
  keeper_->wait_idle();
  const auto read = [&](const std::string& user, const std::string& path,
                        const std::string& project = "search") {
    sessions_->set_password(user, "correct horse", "", "test");
    const std::string token = sessions_->sign_in(user, "correct horse").token;
    RawClient client(under_.port());
    client.send(
        fmt::format("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: ridge_session={}\r\n"
                    "x-ridge-project: {}\r\n\r\n",
                    path, token, project));
    return client.read();
  };
  const std::string all = "/api/v1/requests/kept?content=true";
  EXPECT_THAT(read("bob", all).body,
              testing::AllOf(HasSubstr("by bob"), HasSubstr("by a program")));
  EXPECT_THAT(read("eve", all).body,
              testing::AllOf(Not(HasSubstr("by bob")), HasSubstr("by a program")));
  EXPECT_EQ(read("eve", all, "default").body, R"({"data":[],"has_more":false})");
  EXPECT_EQ(read("eve", all + "&project=search", "default").status, 404);
  EXPECT_EQ(read("vera", all, "default").status, 403);
  EXPECT_EQ(ask("/v1/completions", "{}", bob).status, 400);
  EXPECT_EQ(RawClient(under_.port()).ask(get(all, "x-api-key: " + bob + "\r\n")).status, 403)
      << "keys need the scope admin";
  const json both = kept();
  ASSERT_EQ(both.size(), 2u);
  const std::string bobs = fmt::format("/api/v1/requests/kept/{}", both[0]["number"].get<int>());
  EXPECT_EQ(both[0]["prompt"]["prompt"], "by bob");
  EXPECT_EQ(read("eve", bobs).status, 404);
  EXPECT_EQ(identity_.audit_events(1)[0].action, "session.begin") << "nothing was read";
  EXPECT_EQ(read("bob", bobs).status, 200);
  const platform::AuditEvent event = identity_.audit_events(1)[0];
  EXPECT_EQ(event.action, "kept.read");
  EXPECT_EQ(event.actor, "user:bob");
  for (const char* wrong : {"0", "-1", "1x", "9223372036854775807", "99999999999999999999", "x"}) {
    EXPECT_EQ(administer("GET", std::string("/api/v1/requests/kept/") + wrong).status, 404)
        << wrong;
  }
}

TEST_F(Kept, AdminsRemoveOneAndTheAuditLogHasIt) {
  keep(30);
  for (int i = 0; i < 3; ++i) ask("/v1/completions", R"({"model":"m","prompt":"a"})");
  const json before = kept();
  ASSERT_EQ(before.size(), 3u);
  const int64_t bytes = identity_.projects()[1].kept_bytes;
  const int64_t number = before[1]["number"];
  const std::string path = fmt::format("/api/v1/requests/kept/{}", number);
  const RawResponse removed = administer("DELETE", path);
  EXPECT_EQ(removed.status, 200) << removed.body;
  EXPECT_EQ(json::parse(removed.body), (json{{"number", number}, {"removed", true}}));
  const platform::AuditEvent event = identity_.audit_events(1)[0];
  EXPECT_EQ(event.action, "kept.remove");
  EXPECT_THAT(event.details, HasSubstr(before[1]["request_id"].get<std::string>()));
  EXPECT_EQ(administer("DELETE", path).status, 404) << "once";
  EXPECT_EQ(administer("DELETE", "/api/v1/requests/kept/x").status, 404);
  const json after = kept();
  ASSERT_EQ(after.size(), 2u);
  EXPECT_EQ(after[0]["number"], before[0]["number"]);
  EXPECT_EQ(after[1]["number"], before[2]["number"]);
  EXPECT_EQ(identity_.projects()[1].kept_bytes, bytes / 3 * 2);
}

TEST_F(Kept, PagesOfWholeRequestsFollowEachOther) {
  keep(30);
  for (int i = 0; i < 3; ++i) ask("/v1/completions", R"({"model":"m","prompt":"a"})");
  keeper_->wait_idle();
  for (const char* content : {"", "&content=true"}) {
    const auto page = [&](const std::string& query) {
      return json::parse(
          administer("GET", "/api/v1/requests/kept?limit=2" + std::string(content) + query).body);
    };
    const json first = page("");
    EXPECT_EQ(first["data"].size(), 2u);
    EXPECT_EQ(first["has_more"], true);
    EXPECT_EQ(first["data"][0].contains("prompt"), *content != 0);
    const json second = page(fmt::format("&before={}", first["data"][1]["number"].get<int>()));
    EXPECT_EQ(second["data"].size(), 1u);
    EXPECT_EQ(second["has_more"], false);
  }
  EXPECT_EQ(administer("GET", "/api/v1/requests/kept?content=true&limit=21").status, 400);
  EXPECT_EQ(administer("GET", "/api/v1/requests/kept?content=maybe").status, 400);
}

TEST_F(Kept, TheSessionTellsWhoWritesAndMetricsWhatIsKept) {
  identity_.set_keep_days("default", 7, "test");
  sessions_->set_password("bob", "correct horse", "", "test");
  const std::string token = sessions_->sign_in("bob", "correct horse").token;
  const RawResponse session =
      RawClient(under_.port())
          .ask(get("/api/v1/session", "Cookie: ridge_session=" + token + "\r\n"));
  EXPECT_EQ(json::parse(session.body)["user"]["keeping"], (json{{"default", 7}}));
  keep(30);
  ask("/v1/completions", R"({"model":"m","prompt":"a"})");
  keeper_->wait_idle();
  const std::string scraper =
      identity_
          .create_key({.name = "prometheus",
                       .rights = {.scopes = {platform::Scope::metrics, platform::Scope::admin}}},
                      "test")
          .text.text();
  const std::string metrics =
      RawClient(under_.port()).ask(get("/metrics", "x-api-key: " + scraper + "\r\n")).body;
  EXPECT_THAT(metrics, HasSubstr("ridge:kept_requests_total{result=\"kept\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("ridge:kept_requests_total{result=\"dropped\"} 0"));
}

}  // namespace
}  // namespace ridge::server::kept_test
