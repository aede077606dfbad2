#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "server/caller.h"
#include "server_under_test.h"

namespace ridge::server::authentication_test {
namespace {

using platform::Scope;

// A database with keys, and a server that asks for them.
class Authentication : public testing::Test {
 protected:
  std::string create(const std::string& name, platform::KeyRights rights,
                     std::optional<int64_t> lifetime_ms = {}) {
    return identity_
        .create_key({.name = name, .rights = std::move(rights), .lifetime_ms = lifetime_ms}, "test")
        .text.text();
  }

  std::unique_ptr<ServerUnderTest> serve(ServerOptions options = {}) {
    return std::make_unique<ServerUnderTest>([](ScriptedEngine::Part& part) { part.say("yes"); },
                                             std::move(options), authenticator_);
  }

  static int status(const ServerUnderTest& under, std::string_view method, std::string_view path,
                    const std::string& headers, std::string_view body = "") {
    RawClient client(under.port());
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Content-Length: {}\r\n\r\n{}",
                            method, path, headers, body.size(), body));
    return client.read(method != "HEAD").status;
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  int64_t now_ms_ = 1'800'000'000'000;
  platform::Identity identity_{database_, [this] { return now_ms_; }};
  FakeClock clock_;
  std::shared_ptr<platform::Authenticator> authenticator_ =
      std::make_shared<platform::Authenticator>(identity_, clock_, patient,
                                                [this] { return now_ms_; });
};

std::string bearer(const std::string& key) { return "Authorization: Bearer " + key + "\r\n"; }

// A path of the route, whose {id} is something.
std::string path_of(const RoutePath& route) {
  std::string path(route.path);
  const std::size_t at = path.find("{id}");
  if (at != std::string::npos) path.replace(at, 4, "x");
  return path;
}

// What is answered to anyone, by design.
bool is_open(const RoutePath& route, std::string_view method) {
  constexpr std::string_view open[] = {"GET /api/v1/session",       "HEAD /api/v1/session",
                                       "POST /api/v1/session",      "POST /api/v1/set-up",
                                       "GET /api/v1/oidc/start",    "HEAD /api/v1/oidc/start",
                                       "GET /api/v1/oidc/callback", "HEAD /api/v1/oidc/callback",
                                       "GET /assets/{id}",          "HEAD /assets/{id}"};
  if (route.route == Route::health || route.route == Route::live || route.route == Route::ready) {
    return true;
  }
  return std::ranges::find(open, fmt::format("{} {}", method, route.path)) != std::end(open);
}

constexpr std::string_view methods[] = {"GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS", "PATCH"};

TEST_F(Authentication, AsksForAKeyOnEveryRouteMethodAndHeader) {
  const std::string revoked = create("revoked", {}), expired = create("expired", {}, 1000);
  const std::string elsewhere =
      create("elsewhere", {.addresses = {platform::AddressRange::parse_or_throw("10.0.0.0/8")}});
  const std::string good = create("good", {});
  identity_.revoke_keys({"revoked"}, "test");
  now_ms_ += 1000;
  const std::string unknown = platform::ApiKeyText::generate().text();
  const std::vector<std::pair<std::string, int>> refused = {
      {"", 401},
      {"Authorization: \r\n", 401},
      {"Authorization: Bearer\r\n", 401},
      {"Authorization: Bearer \r\n", 401},
      {bearer("none"), 401},
      {bearer(unknown), 401},
      {bearer(revoked), 401},
      {bearer(expired), 401},
      {bearer(elsewhere), 403},
      {bearer(good.substr(0, good.size() - 1)), 401},
      {bearer(good + " "
                     "x"),
       401},
      {"Authorization: Basic " + good + "\r\n", 401},
      {"x-api-key: " + unknown + "\r\n", 401},
      {"api-key: " + good + "\r\n", 401},
      {"Cookie: key=" + good + "\r\n", 401},
      {"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-User: admin\r\n", 401},
      {bearer(elsewhere) + "X-Forwarded-For: 10.0.0.1\r\n", 403},
      {bearer(unknown) + "x-api-key: " + good + "\r\n", 401},
      {"Origin: http://127.0.0.1\r\n", 401},
  };
  const auto under = serve();
  for (const RoutePath& route : route_paths()) {
    for (const std::string_view method : methods) {
      if (is_open(route, method)) continue;
      for (const auto& [headers, expected] : refused) {
        EXPECT_EQ(status(*under, method, path_of(route), headers), expected)
            << method << " " << route.path << " " << headers;
      }
    }
    if (is_open(route, "GET")) continue;
    EXPECT_EQ(status(*under, "GET", path_of(route) + "?api_key=" + good, ""), 401) << route.path;
    EXPECT_EQ(status(*under, "GET", "http://127.0.0.1" + path_of(route), ""), 401) << route.path;
  }
  for (const char* path : {"/none", "/v1/", "//v1/models", "/V1/MODELS", "/health/", "/docs",
                           "/slots", "/v1/health/live/../../models"}) {
    EXPECT_EQ(status(*under, "GET", path, ""), 401) << path;
    EXPECT_EQ(status(*under, "GET", path, bearer(good)), 404) << path;
  }
}

TEST_F(Authentication, LeavesHealthOpen) {
  const auto under = serve();
  for (const char* path : {"/health", "/v1/health/live", "/v1/health/ready"}) {
    EXPECT_EQ(status(*under, "GET", path, ""), 200) << path;
    EXPECT_EQ(status(*under, "POST", path, ""), 405) << path;
  }
}

TEST_F(Authentication, TellsStrangersOfHealthAlone) {
  ServerOptions options;
  options.trusted_proxies = {"127.0.0.0/8"};
  const auto behind = serve(options);
  for (const char* path : {"/health", "/v1/health/live", "/v1/health/ready"}) {
    RawClient far(behind->port()), near(behind->port());
    EXPECT_EQ(far.ask(get(path, "X-Forwarded-For: 198.51.100.1\r\n")).body, R"({"status":"ok"})");
    EXPECT_THAT(near.ask(get(path, "")).body, testing::HasSubstr(R"("name":"m")"));
  }
}

TEST_F(Authentication, LetsAdministratorsAloneUnloadAndKeepModels) {
  const std::string user = create("user", {}),
                    admin = create("admin", {.scopes = {Scope::inference, Scope::admin}});
  const auto under = serve();
  const auto ask = [&](const std::string& key, const std::string& body) {
    return status(*under, "POST", "/api/generate", bearer(key), body);
  };
  constexpr auto unload = R"({"model":"m","keep_alive":0})";
  EXPECT_EQ(ask(user, unload), 403);
  EXPECT_EQ(under->engine->kept_for(), std::nullopt);
  for (const char* stream : {"true", "false"}) {
    const std::string wish =
        fmt::format(R"({{"model":"m","prompt":"a","keep_alive":-1,"stream":{}}})", stream);
    EXPECT_EQ(ask(user, wish), 200);
    EXPECT_EQ(under->engine->kept_by(), engine::WhoAsks::caller);
    EXPECT_EQ(ask(admin, wish), 200);
    EXPECT_EQ(under->engine->kept_by(), engine::WhoAsks::administrator);
  }
  EXPECT_EQ(ask(admin, unload), 200);
  EXPECT_EQ(under->engine->kept_for(), Clock::Duration::zero());
}

TEST_F(Authentication, ReadsNoLargeBodyWhereNoneIsNeeded) {
  ServerOptions options;
  options.cors_origins = {"https://pages.example"};
  const auto under = serve(options);
  const std::string large(2000, 'x'), small(1000, 'x');
  for (const char* path : {"/health", "/v1/health/live", "/v1/health/ready"}) {
    EXPECT_EQ(status(*under, "GET", path, "", large), 413) << path;
    EXPECT_EQ(status(*under, "GET", path, "", small), 200) << path;
    EXPECT_EQ(status(*under, "POST", path, "", large), 413) << path;
  }
  const std::string origin = "Origin: https://pages.example\r\n";
  EXPECT_EQ(status(*under, "OPTIONS", "/v1/completions", origin, large), 413);
  EXPECT_EQ(status(*under, "OPTIONS", "/v1/completions", origin, small), 204);
}

TEST_F(Authentication, KeepsStoredResponsesOfAModelFromKeysOfOthers) {
  const std::string other = create("other", {.models = {"other"}}), own = create("own", {});
  const auto under = serve();
  RawClient client(under->port());
  const std::string asked = R"({"model":"m","input":"a"})";
  client.send(fmt::format(
      "POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Content-Length: {}\r\n\r\n{}",
      bearer(own), asked.size(), asked));
  const std::string path =
      "/v1/responses/" + nlohmann::json::parse(client.read().body).at("id").get<std::string>();
  for (const std::string& at : {path, path + "/input_items"}) {
    EXPECT_EQ(status(*under, "GET", at, bearer(other)), 404) << at;
    EXPECT_EQ(status(*under, "GET", at, bearer(own)), 200) << at;
  }
  EXPECT_EQ(status(*under, "DELETE", path, bearer(other)), 404);
  EXPECT_EQ(status(*under, "DELETE", path, bearer(own)), 200);
}

TEST_F(Authentication, TakesAKeyInBothHeaders) {
  const std::string key = create("k", {});
  const auto under = serve();
  for (const std::string& headers : {bearer(key), "authorization: bearer " + key + "\r\n",
                                     "x-api-key: " + key + "\r\n", "X-API-KEY: " + key + "\r\n"}) {
    EXPECT_EQ(status(*under, "GET", "/v1/models", headers), 200) << headers;
    EXPECT_EQ(status(*under, "POST", "/v1/messages", headers, "{}"), 400) << headers;
  }
}

TEST_F(Authentication, AsksForTheScopeOfARoute) {
  const std::string infers = create("a", {.scopes = {Scope::inference}});
  const std::string watches = create("b", {.scopes = {Scope::metrics}});
  const auto under = serve();
  EXPECT_EQ(status(*under, "GET", "/metrics", bearer(infers)), 403);
  EXPECT_EQ(status(*under, "GET", "/metrics", bearer(watches)), 200);
  EXPECT_EQ(status(*under, "GET", "/v1/models", bearer(infers)), 200);
  EXPECT_EQ(status(*under, "GET", "/v1/models", bearer(watches)), 403);
}

TEST_F(Authentication, ShowsAndGivesAKeyItsModelsAlone) {
  const std::string other = create("other", {.models = {"other"}}),
                    own = create("own", {.models = {"m"}});
  const auto under = serve();
  EXPECT_EQ(status(*under, "GET", "/v1/models/m", bearer(own)), 200);
  EXPECT_EQ(status(*under, "GET", "/v1/models/m", bearer(other)), 404);
  const std::pair<const char*, const char*> asks[] = {
      {"/v1/chat/completions", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
      {"/v1/completions", R"({"model":"m","prompt":"a"})"},
      {"/v1/responses", R"({"model":"m","input":"a"})"},
      {"/v1/messages",
       R"({"model":"m","max_tokens":3,"messages":[{"role":"user","content":"a"}]})"},
      {"/v1/messages/count_tokens", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
      {"/v1/embeddings", R"({"model":"m","input":"a"})"},
      {"/v1/rerank", R"({"model":"m","query":"a","documents":["b"]})"},
      {"/v1/score", R"({"model":"m","text_1":"a","text_2":"b"})"},
      {"/tokenize", R"({"model":"m","prompt":"a"})"},
      {"/detokenize", R"({"model":"m","tokens":[1]})"},
      {"/api/chat", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
      {"/api/generate", R"({"model":"m","prompt":"a"})"},
      {"/api/show", R"({"model":"m"})"}};
  for (const auto& [path, body] : asks) {
    const int refused = status(*under, "POST", path, bearer(other), body);
    EXPECT_EQ(refused, 404) << path;
    EXPECT_NE(status(*under, "POST", path, bearer(own), body), 404) << path;
  }
}

TEST_F(Authentication, TellsAKeyOfItsProjectsRequestsAlone) {
  identity_.create_project("theirs", /*weight=*/1, "test");
  const std::string own = create("own", {}), same = create("same", {}),
                    other_model = create("narrow", {.models = {"other"}});
  const std::string theirs =
      identity_.create_key({.name = "k", .project = "theirs"}, "test").text.text();
  const auto under = serve();
  EXPECT_EQ(status(*under, "POST", "/v1/completions", bearer(own) + "x-request-id: mine\r\n",
                   R"({"model":"m","prompt":"a"})"),
            200);
  const std::pair<std::string, bool> askers[] = {
      {own, true}, {same, true}, {theirs, false}, {other_model, false}};
  for (const auto& [key, is_told] : askers) {
    EXPECT_EQ(status(*under, "GET", "/v1/requests/mine", bearer(key)), is_told ? 200 : 404);
    RawClient client(under->port());
    const RawResponse list = client.ask(get("/v1/requests", bearer(key)));
    EXPECT_EQ(list.body.find(R"("id":"mine")") != std::string::npos, is_told) << list.body;
  }
}

TEST_F(Authentication, RefusesBeforeTheBodyCame) {
  const auto under = serve();
  RawClient client(under->port());
  client.send(
      "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n");
  const RawResponse response = client.read();
  EXPECT_EQ(response.status, 401);
  EXPECT_TRUE(response.has("www-authenticate", "Bearer")) << response.head;
  EXPECT_TRUE(response.has("connection", "close")) << response.head;
}

TEST_F(Authentication, SpeaksEachFormatsErrors) {
  const auto under = serve();
  const auto body = [&](std::string_view path) {
    RawClient client(under->port());
    client.send(
        fmt::format("POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", path));
    return client.read().body;
  };
  EXPECT_THAT(body("/v1/messages"), testing::HasSubstr(R"("type":"authentication_error")"));
  EXPECT_THAT(body("/v1/completions"), testing::HasSubstr(R"("error":{"message":"no API key)"));
  EXPECT_THAT(body("/api/chat"), testing::HasSubstr(R"({"error":"no API key)"));
}

TEST_F(Authentication, LetsABrowserAskFirst) {
  ServerOptions options;
  options.cors_origins = {"https://a.example"};
  const auto under = serve(options);
  const std::string preflight = "Access-Control-Request-Method: POST\r\n";
  EXPECT_EQ(
      status(*under, "OPTIONS", "/v1/completions", "Origin: https://a.example\r\n" + preflight),
      204);
  EXPECT_EQ(
      status(*under, "OPTIONS", "/v1/completions", "Origin: https://b.example\r\n" + preflight),
      403);  // of a page that may not ask at all
  EXPECT_EQ(status(*under, "GET", "/v1/models", "Origin: https://a.example\r\n"), 401);
}

TEST_F(Authentication, EndsWithTheKeyOnAConnectionThatStays) {
  const std::string key = create("k", {});
  const auto under = serve();
  RawClient client(under->port());
  const std::string request =
      "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n" + bearer(key) + "\r\n";
  EXPECT_EQ(client.send(request).read().status, 200);
  identity_.revoke_keys({"k"}, "test");
  clock_.advance(platform::AuthenticatorOptions{}.revocation_delay);
  EXPECT_EQ(client.send(request).read().status, 401);
}

TEST_F(Authentication, IsEitherOnOrOff) {
  ServerOptions options;
  options.port = 0;
  EXPECT_THROW(Server(options, {}), Error);
  options.no_auth = true;
  EXPECT_NO_THROW(Server(options, {}));
  EXPECT_THROW(Server(options, {}, authenticator_), Error);
}

TEST_F(Authentication, NeedsAProxyOrAWordForOtherMachines) {
  ServerOptions options;
  options.port = 0;
  options.host = "0.0.0.0";
  options.no_auth = true;
  EXPECT_THROW(Server(options, {}), Error);
  options.insecure_http = true;
  EXPECT_THROW(Server(options, {}), Error);
  options.no_auth = options.insecure_http = false;
  EXPECT_THROW(Server(options, {}, authenticator_), Error);
  options.insecure_http = true;
  EXPECT_NO_THROW(Server(options, {}, authenticator_));
  options.insecure_http = false;
  options.trusted_proxies = {"10.0.0.0/8"};
  EXPECT_NO_THROW(Server(options, {}, authenticator_));
  options.trusted_proxies = {"proxy.example"};
  EXPECT_THROW(Server(options, {}, authenticator_), Error);
}

TEST_F(Authentication, BelievesATrustedProxyOnly) {
  const std::string key =
      create("k", {.addresses = {platform::AddressRange::parse_or_throw("203.0.113.0/24")}});
  const std::string forwarded = "X-Forwarded-For: 203.0.113.7\r\n";
  EXPECT_EQ(status(*serve(), "GET", "/v1/models", bearer(key) + forwarded), 403);
  ServerOptions options;
  options.trusted_proxies = {"127.0.0.0/8"};
  const auto behind = serve(options);
  EXPECT_EQ(status(*behind, "GET", "/v1/models", bearer(key) + forwarded), 200);
  EXPECT_EQ(status(*behind, "GET", "/v1/models", bearer(key)), 403);
  EXPECT_EQ(status(*behind, "GET", "/v1/models",
                   bearer(key) + "X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n"),
            403);
  // What the client claims, and the line that the proxy adds.
  EXPECT_EQ(status(*behind, "GET", "/v1/models",
                   bearer(key) + forwarded + "X-Forwarded-For: 198.51.100.1\r\n"),
            403);
}

TEST(TrustedProxies, ReadTheChainFromItsEnd) {
  const TrustedProxies proxies({"10.0.0.0/8", "::1"});
  EXPECT_EQ(proxies.client_of("192.0.2.1", "203.0.113.7"), "192.0.2.1");  // not ours
  EXPECT_EQ(proxies.client_of("10.0.0.1", "203.0.113.7"), "203.0.113.7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "1.2.3.4, 203.0.113.7 , 10.0.0.2"), "203.0.113.7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", ""), "10.0.0.1");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "10.0.0.3,10.0.0.2"), "10.0.0.3");
  for (const char* rubbish : {"rubbish", "", "1.2.3.4:", "1.2.3.4:80x", "1.2.3.4:123456", "[::2",
                              "[::2]x", "[::2]:", "::2]:80", "unknown", "_hidden:80"}) {
    EXPECT_EQ(proxies.client_of("10.0.0.1", std::string("1.2.3.4, ") + rubbish), "10.0.0.1")
        << rubbish;
  }
  // Whoever guesses passwords gets no more tries by another port or spelling.
  EXPECT_EQ(proxies.client_of("10.0.0.1", "203.0.113.7:51234"), "203.0.113.7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "[2001:db8::7]:51234"), "2001:db8::7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "[2001:DB8:0::7]"), "2001:db8::7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "2001:db8::7"), "2001:db8::7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "::ffff:203.0.113.7"), "203.0.113.7");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "203.0.113.7, 10.0.0.2:443"), "203.0.113.7");
  EXPECT_EQ(proxies.client_of("::1", "203.0.113.7"), "203.0.113.7");
  EXPECT_EQ(TrustedProxies({}).client_of("10.0.0.1", "203.0.113.7"), "10.0.0.1");
}

TEST(RouteScopes, AreForAdministratorsUnlessSaid) {
  const Access unknown = access_of({static_cast<Route>(1000)}, "GET");
  EXPECT_EQ(unknown.scope, Scope::admin);
  EXPECT_FALSE(unknown.is_open);
  for (const RoutePath& route : route_paths()) {
    for (const std::string_view method : methods) {
      EXPECT_EQ(access_of(match_route(path_of(route)), method).is_open, is_open(route, method))
          << method << " " << route.path;
    }
  }
}

TEST_F(Authentication, OnlyAdministratorsGoBeforeOthers) {
  const std::string plain = create("plain", {}),
                    admin = create("admin", {.scopes = {Scope::inference, Scope::admin}});
  std::vector<int> priorities;
  ServerUnderTest under(
      [&](ScriptedEngine::Part& part) {
        priorities.push_back(part.request().priority);
        part.say("yes");
      },
      {}, authenticator_);
  const auto ask = [&](const std::string& key, int priority) {
    return status(under, "POST", "/v1/completions", bearer(key),
                  fmt::format(R"({{"model":"m","prompt":"a","priority":{}}})", priority));
  };
  EXPECT_EQ(ask(plain, 0), 200);
  EXPECT_EQ(ask(plain, 5), 200) << "who may wait may say so";
  EXPECT_EQ(ask(plain, -1), 403);
  EXPECT_EQ(ask(admin, -1), 200);
  EXPECT_EQ(priorities, (std::vector{0, -5, 1})) << "for the engine, larger ones come first";
}

}  // namespace
}  // namespace ridge::server::authentication_test
