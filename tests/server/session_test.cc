// People who sign in: cookies, and what other pages and guessers may not do.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/sessions.h"
#include "server/refusal_budget.h"
#include "server/session_cookie.h"
#include "server/sign_in_throttle.h"
#include "server_under_test.h"

namespace ridge::server::session_test {
namespace {

using nlohmann::json;
using platform::Role;
using testing::HasSubstr;
using testing::Not;

const std::string password = "correct horse";

class SigningIn : public testing::Test {
 protected:
  SigningIn() {
    for (const Role role : {Role::owner, Role::admin, Role::developer, Role::viewer}) {
      const std::string name(platform::name(role));
      identity_.create_user(name, platform::UserKind::person, role, "", "test");
      sessions_->set_password(name, password, "", "test");
    }
  }

  std::unique_ptr<ServerUnderTest> serve(ServerOptions options = {}) {
    return std::make_unique<ServerUnderTest>(
        [](ScriptedEngine::Part& part) { part.say("yes"); }, std::move(options),
        std::make_shared<platform::Authenticator>(identity_, clock_, patient), nullptr,
        PlatformAccess{.database = {std::shared_ptr<void>(), &database_},
                       .identity = {std::shared_ptr<void>(), &identity_},
                       .sessions = sessions_});
  }

  static RawResponse ask(const ServerUnderTest& under, std::string_view method,
                         std::string_view path, const std::string& headers,
                         std::string_view body = "") {
    RawClient client(under.port());
    client.send(
        fmt::format("{} {} HTTP/1.1\r\nHost: console.example\r\n{}Content-Length: {}\r\n\r\n{}",
                    method, path, headers, body.size(), body));
    return client.read(method != "HEAD");
  }
  RawResponse sign_in(const std::string& name, const std::string& with = password,
                      const std::string& headers = "") {
    return ask(*under_, "POST", "/api/v1/session", headers,
               json({{"name", name}, {"password", with}}).dump());
  }
  // "Cookie: ridge_session=...".
  static std::string cookie_of(const RawResponse& signed_in) {
    const std::string set = signed_in.headers.at("set-cookie");
    return "Cookie: " + set.substr(0, set.find(';')) + "\r\n";
  }
  static std::string csrf_of(const RawResponse& signed_in) {
    return "x-ridge-csrf: " + json::parse(signed_in.body).at("csrf_token").get<std::string>() +
           "\r\n";
  }

  const std::string origin_ = "Origin: http://console.example\r\n";
  const std::string new_password_ =
      json({{"password", "another horse"}, {"old_password", password}}).dump();
  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  std::shared_ptr<platform::Sessions> sessions_ = std::make_shared<platform::Sessions>(database_);
  SteadyClock clock_;
  std::unique_ptr<ServerUnderTest> under_ = serve({.allowed_hosts = {"console.example"}});
};

TEST_F(SigningIn, SetsACookieThatNoScriptAndNoOtherSiteHas) {
  const RawResponse answer = sign_in("developer");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_THAT(answer.headers.at("set-cookie"),
              testing::MatchesRegex("ridge_session=[0-9A-Za-z]{43}; Path=/; Max-Age=604800; "
                                    "HttpOnly; SameSite=Strict"));
  EXPECT_TRUE(answer.has("cache-control", "no-store"));
  const json body = json::parse(answer.body);
  EXPECT_EQ(body.at("user"), json({{"name", "developer"},
                                   {"role", "developer"},
                                   {"project", "default"},
                                   {"projects", {"default"}},
                                   {"roles", {{"default", "developer"}}},
                                   {"keeping", json::object()}}));
  EXPECT_EQ(body.at("authentication"), "keys");
  EXPECT_EQ(body.at("set_up_needed"), false);
  EXPECT_EQ(json::parse(ask(*under_, "GET", "/api/v1/session", cookie_of(answer)).body), body);
  EXPECT_THAT(ask(*under_, "GET", "/api/v1/session", "").body, HasSubstr(R"("user":null)"));
}

TEST_F(SigningIn, RecordsWhoIsRefusedAndNotEachOfMany) {
  EXPECT_EQ(sign_in("developer", "wrong horse").status, 401);
  const auto newest = identity_.audit_events(1);
  EXPECT_EQ(newest.at(0).action, "session.refuse");
  EXPECT_EQ(newest.at(0).subject, identity_.find_user("developer")->id);
  EXPECT_THAT(newest.at(0).details, HasSubstr(R"("address":"127.0.0.1")"));
  const RawResponse in = sign_in("viewer");
  EXPECT_THAT(identity_.audit_events(1).at(0).details, HasSubstr(R"("address":"127.0.0.1")"));
  EXPECT_EQ(ask(*under_, "DELETE", "/api/v1/session", cookie_of(in) + csrf_of(in) + origin_).status,
            204);
  EXPECT_EQ(identity_.audit_events(1).at(0).action, "session.end");
}

TEST(RefusalBudget, LetsSomeAtOnceAndThenOneAMinute) {
  FakeClock clock;
  RefusalBudget budget(clock);
  for (int i = 0; i < RefusalBudget::most_at_once; ++i) EXPECT_EQ(budget.take(), 0) << i;
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(budget.take(), std::nullopt) << i;
  clock.advance(std::chrono::minutes(1));
  EXPECT_EQ(budget.take(), 1000);
  EXPECT_EQ(budget.take(), std::nullopt);
  clock.advance(std::chrono::hours(24));
  EXPECT_EQ(budget.take(), 1);
  for (int i = 1; i < RefusalBudget::most_at_once; ++i) EXPECT_EQ(budget.take(), 0) << i;
  EXPECT_EQ(budget.take(), std::nullopt);
}

TEST_F(SigningIn, IsOverTlsAloneWhereAProxySpeaksIt) {
  under_ = serve({.allowed_hosts = {"console.example"}, .trusted_proxies = {"127.0.0.0/8"}});
  const RawResponse answer = sign_in("developer");
  EXPECT_THAT(answer.headers.at("set-cookie"), testing::StartsWith("__Host-ridge_session="));
  EXPECT_THAT(answer.headers.at("set-cookie"), testing::EndsWith("; SameSite=Strict; Secure"));
  const auto status = [&](const std::string& headers) {
    return ask(*under_, "GET", "/v1/models", headers).status;
  };
  std::string cookie = cookie_of(answer);
  EXPECT_EQ(status(cookie), 200);
  EXPECT_EQ(status(cookie + "X-Forwarded-Proto: http\r\n"), 401);
  // Another host, or a page without TLS, can set a cookie of this name.
  cookie.replace(cookie.find("__Host-"), 7, "");
  EXPECT_EQ(status(cookie), 401);
  const std::string csrf = csrf_of(answer), path = "/api/v1/users/developer/password";
  EXPECT_EQ(ask(*under_, "PUT", path, cookie_of(answer) + csrf + origin_, new_password_).status,
            403);
  EXPECT_EQ(ask(*under_, "PUT", path,
                cookie_of(answer) + csrf + "Origin: https://console.example\r\n", new_password_)
                .status,
            204);
}

TEST_F(SigningIn, LetsPeopleUseTheModels) {
  const RawResponse developer = sign_in("developer"), viewer = sign_in("viewer");
  const std::string body = R"({"model":"m","prompt":"a"})";
  const auto status = [&](const RawResponse& who) {
    return ask(*under_, "POST", "/v1/completions", cookie_of(who) + csrf_of(who) + origin_, body)
        .status;
  };
  EXPECT_EQ(status(developer), 200);
  EXPECT_EQ(status(viewer), 403);
  EXPECT_EQ(ask(*under_, "GET", "/metrics", cookie_of(viewer)).status, 200);
  EXPECT_EQ(
      ask(*under_, "GET", "/v1/models", cookie_of(developer) + "x-ridge-project: none\r\n").status,
      404);
}

TEST_F(SigningIn, ChangesNothingForOtherPages) {
  const RawResponse in = sign_in("developer");
  const std::string cookie = cookie_of(in), csrf = csrf_of(in);
  const std::string path = "/api/v1/users/developer/password";
  const std::string evil = "Origin: http://evil.example\r\n";
  for (const std::string& headers :
       {cookie, cookie + origin_, cookie + csrf, cookie + csrf + evil, cookie + evil,
        cookie + csrf + "Origin: null\r\n", cookie + origin_ + "x-ridge-csrf: \r\n",
        cookie + origin_ + "x-ridge-csrf: " + std::string(64, '0') + "\r\n",
        cookie + origin_ + csrf_of(sign_in("viewer")), cookie + origin_ + "Referer: x\r\n"}) {
    EXPECT_EQ(ask(*under_, "PUT", path, headers, new_password_).status, 403) << headers;
    EXPECT_EQ(
        ask(*under_, "POST", "/v1/completions", headers, R"({"model":"m","prompt":"a"})").status,
        403)
        << headers;
    EXPECT_EQ(ask(*under_, "DELETE", "/api/v1/session", headers).status, 403) << headers;
  }
  EXPECT_EQ(ask(*under_, "PUT", path, cookie + csrf + origin_, new_password_).status, 204);
}

TEST_F(SigningIn, ChangesNothingForPagesThatAStarAllows) {
  under_ = serve({.cors_origins = {"*"}, .allowed_hosts = {"console.example"}});
  const RawResponse in = sign_in("developer");
  EXPECT_EQ(ask(*under_, "DELETE", "/api/v1/session",
                cookie_of(in) + csrf_of(in) + "Origin: http://evil.example\r\n")
                .status,
            403);
  under_ = serve({.cors_origins = {"http://dev.example"}, .allowed_hosts = {"console.example"}});
  EXPECT_EQ(ask(*under_, "DELETE", "/api/v1/session",
                cookie_of(in) + csrf_of(in) + "Origin: http://dev.example\r\n")
                .status,
            204);
}

TEST_F(SigningIn, DoesNotKeepATokenThatSomebodyElseChose) {
  const std::string chosen(43, 'a');
  const RawResponse answer =
      sign_in("developer", password, "Cookie: ridge_session=" + chosen + "\r\n");
  EXPECT_THAT(answer.headers.at("set-cookie"), Not(HasSubstr(chosen)));
  EXPECT_EQ(ask(*under_, "GET", "/v1/models", "Cookie: ridge_session=" + chosen + "\r\n").status,
            401);
  // Nor one that is somebody's: it ends.
  const RawResponse theirs = sign_in("viewer");
  const RawResponse mine = sign_in("developer", password, cookie_of(theirs));
  EXPECT_NE(cookie_of(mine), cookie_of(theirs));
  EXPECT_EQ(ask(*under_, "GET", "/metrics", cookie_of(theirs)).status, 401);
}

TEST_F(SigningIn, EndsWhenOneSignsOut) {
  const RawResponse in = sign_in("developer");
  const RawResponse out =
      ask(*under_, "DELETE", "/api/v1/session", cookie_of(in) + csrf_of(in) + origin_);
  EXPECT_EQ(out.status, 204);
  EXPECT_THAT(out.headers.at("set-cookie"), HasSubstr("ridge_session=; Path=/; Max-Age=0;"));
  EXPECT_EQ(ask(*under_, "GET", "/v1/models", cookie_of(in)).status, 401);
}

TEST_F(SigningIn, SaysTheSameOfAnUnknownNameAndAWrongPassword) {
  const RawResponse unknown = sign_in("nobody", "some password"),
                    wrong = sign_in("developer", "some password");
  EXPECT_EQ(unknown.status, 401);
  EXPECT_EQ(wrong.status, 401);
  EXPECT_EQ(json::parse(unknown.body), json::parse(wrong.body));
  EXPECT_EQ(unknown.headers.count("set-cookie"), 0u);
}

TEST_F(SigningIn, IsSlowerTheMoreOftenAPasswordIsGuessed) {
  // Longer than this test takes wherever it runs; Throttle tells of the lengths.
  under_ = serve({.sign_ins = {.first_wait = std::chrono::minutes(5)},
                  .allowed_hosts = {"console.example"}});
  for (const char* name : {"developer", "nobody"}) {  // also where there is none to guess
    for (int i = 0; i < 10; ++i) {
      const RawResponse answer = sign_in(name, "guess number " + std::to_string(i));
      ASSERT_EQ(answer.status, i < 5 ? 401 : 429) << name << i;
      if (i >= 5) {
        EXPECT_GE(std::stoi(answer.headers.at("retry-after")), 1);
      }
    }
  }
  EXPECT_EQ(sign_in("developer").status, 429);  // also with the right one
  EXPECT_EQ(sign_in("viewer").status, 200);     // others are not kept out
}

TEST_F(SigningIn, AsksForTheOldPasswordToSetANewOne) {
  const RawResponse in = sign_in("developer");
  const std::string headers = cookie_of(in) + csrf_of(in) + origin_;
  const std::string path = "/api/v1/users/developer/password";
  EXPECT_EQ(ask(*under_, "PUT", path, headers, R"({"password":"another horse"})").status, 400);
  EXPECT_EQ(ask(*under_, "PUT", path, headers,
                R"({"password":"another horse","old_password":"not the old one"})")
                .status,
            403);
  EXPECT_EQ(ask(*under_, "PUT", path, headers,
                json({{"password", "short"}, {"old_password", password}}).dump())
                .status,
            400);
  const RawResponse elsewhere = sign_in("developer");
  EXPECT_EQ(ask(*under_, "PUT", path, headers, new_password_).status, 204);
  EXPECT_EQ(ask(*under_, "GET", "/v1/models", cookie_of(in)).status, 200);
  EXPECT_EQ(ask(*under_, "GET", "/v1/models", cookie_of(elsewhere)).status, 401);
  EXPECT_EQ(sign_in("developer").status, 401);
  EXPECT_EQ(sign_in("developer", "another horse").status, 200);
}

TEST_F(SigningIn, LetsAdminsSetOthersPasswordsButOwners) {
  const std::string body = R"({"password":"another horse"})";
  const auto set = [&](const std::string& by, const std::string& of) {
    const RawResponse in = sign_in(by);
    return ask(*under_, "PUT", "/api/v1/users/" + of + "/password",
               cookie_of(in) + csrf_of(in) + origin_, body)
        .status;
  };
  EXPECT_EQ(set("viewer", "developer"), 403);
  EXPECT_EQ(set("developer", "viewer"), 403);
  EXPECT_EQ(set("admin", "owner"), 403);
  EXPECT_EQ(set("admin", "nobody"), 404);
  EXPECT_EQ(set("admin", "developer"), 204);
  EXPECT_EQ(set("owner", "admin"), 204);
  const platform::NewKey wanted{.name = "k", .rights = {.scopes = {platform::Scope::admin}}};
  const std::string key = "x-api-key: " + identity_.create_key(wanted, "test").text.text() + "\r\n";
  EXPECT_EQ(ask(*under_, "PUT", "/api/v1/users/viewer/password", key, body).status, 204);
  EXPECT_EQ(ask(*under_, "PUT", "/api/v1/users/owner/password", key, body).status, 403);
}

TEST_F(SigningIn, IsSetUpOnceByALink) {
  identity_.create_user("other", platform::UserKind::person, Role::owner, "", "test");
  identity_.change_user("owner", {.is_disabled = true}, "test");  // and the other has no password
  EXPECT_THAT(ask(*under_, "GET", "/api/v1/session", "").body,
              HasSubstr(R"("set_up_needed":true)"));
  const std::string link = *sessions_->new_set_up_link();
  const auto set_up = [&](const std::string& token) {
    return ask(*under_, "POST", "/api/v1/set-up", "",
               json({{"token", token}, {"name", "boss"}, {"password", password}}).dump());
  };
  EXPECT_EQ(set_up("guess").status, 401);
  const RawResponse done = set_up(link);
  EXPECT_EQ(done.status, 200) << done.body;
  EXPECT_EQ(json::parse(done.body).at("user").at("role"), "owner");
  EXPECT_EQ(ask(*under_, "GET", "/metrics", cookie_of(done)).status, 200);
  EXPECT_EQ(set_up(link).status, 401);
}

TEST_F(SigningIn, NeedsADatabaseAndKeys) {
  const ServerUnderTest open([](ScriptedEngine::Part& part) { part.say("yes"); },
                             {.allowed_hosts = {"console.example"}});
  EXPECT_EQ(json::parse(ask(open, "GET", "/api/v1/session", "").body).at("user").at("role"),
            "owner");
  EXPECT_EQ(ask(open, "POST", "/api/v1/session", "", R"({"name":"a","password":"b"})").status, 400);
  EXPECT_EQ(ask(open, "PUT", "/api/v1/users/a/password", "", R"({"password":"b"})").status, 503);
}

TEST(SessionCookie, IsReadByItsWholeName) {
  EXPECT_EQ(session_token("a=1; ridge_session=tok; b=2", false), "tok");
  EXPECT_EQ(session_token("ridge_session=tok", false), "tok");
  EXPECT_EQ(session_token("ridge_session=tok", true), "");
  EXPECT_EQ(session_token("__Host-ridge_session=tok", true), "tok");
  EXPECT_EQ(session_token("__Host-ridge_session=tok", false), "");
  EXPECT_EQ(session_token("xridge_session=tok; ridge_sessions=b", false), "");
  EXPECT_EQ(session_token("ridge_session", false), "");
  EXPECT_EQ(session_token("ridge_session=" + std::string(10'000, 'x'), false), "");
}

class Throttle : public testing::Test {
 protected:
  FakeClock clock_;
  SignInThrottle throttle_{clock_, {.most_entries = 100}};
};

TEST_F(Throttle, DoublesTheWaitUpToItsLongest) {
  const auto begin = [&] { return throttle_.begin("192.0.2.1", "ann"); };
  for (int i = 0; i < 5; ++i) EXPECT_EQ(begin(), std::nullopt) << i;
  for (const int wait_s : {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}) {
    EXPECT_EQ(begin(), std::chrono::seconds(wait_s));
    clock_.advance(std::chrono::seconds(wait_s));
    EXPECT_EQ(begin(), std::nullopt) << wait_s;
  }
  clock_.advance(std::chrono::minutes(16));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(begin(), std::nullopt) << i;
}

TEST_F(Throttle, KeepsNobodyElsewhereFromTheName) {
  for (int i = 0; i < 10; ++i) (void)throttle_.begin("192.0.2.1", "ann");
  EXPECT_TRUE(throttle_.begin("192.0.2.1", "ann"));
  EXPECT_FALSE(throttle_.begin("192.0.2.2", "ann"));
  EXPECT_FALSE(throttle_.begin("192.0.2.1", "bob"));
}

TEST_F(Throttle, BoundsAnAddressThatTriesManyNames) {
  int admitted = 0;
  for (int i = 0; i < 200; ++i) {
    if (!throttle_.begin("2001:db8::" + std::to_string(i), std::to_string(i))) ++admitted;
  }
  EXPECT_EQ(admitted, 30);
}

TEST_F(Throttle, ForgetsWhatWasRight) {
  for (int round = 0; round < 100; ++round) {
    EXPECT_FALSE(throttle_.begin("192.0.2.1", "ann"));
    throttle_.succeeded("192.0.2.1", "ann");
  }
}

TEST_F(Throttle, KeepsABoundedNumber) {
  for (int i = 0; i < 1000; ++i)
    (void)throttle_.begin(fmt::format("10.0.{}.{}", i / 250, i % 250), "a");
  EXPECT_EQ(throttle_.entries(), 100u);
}

}  // namespace
}  // namespace ridge::server::session_test
