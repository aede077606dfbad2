#include "server/access_rules.h"

#include <gtest/gtest.h>

#include "server/route.h"

namespace ridge::server::access_rules_test {
namespace {

TEST(AccessRules, ALoopbackServerAnswersToItsOwnNamesOnly) {
  const AccessRules rules("127.0.0.1", true, {"Dev.Example"}, {});
  for (const char* host : {"localhost", "localhost:8080", "LOCALHOST", "127.0.0.1", "127.0.0.1:1",
                           "[::1]", "[::1]:8080", "dev.example:80"}) {
    EXPECT_TRUE(rules.allows_host(host)) << host;
  }
  for (const char* host : {"", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
                           "192.168.0.1", "[2001:db8::1]", "127.evil"}) {
    EXPECT_FALSE(rules.allows_host(host)) << host;
  }
}

TEST(AccessRules, AnOpenServerAnswersToAddressesButNotToStrangeNames) {
  const AccessRules rules("0.0.0.0", false, {}, {});
  EXPECT_TRUE(rules.allows_host("192.168.0.1:8080"));
  EXPECT_TRUE(rules.allows_host("[2001:db8::1]:80"));
  EXPECT_TRUE(rules.allows_host("localhost"));
  EXPECT_FALSE(rules.allows_host("evil.example"));
  EXPECT_TRUE(AccessRules("0.0.0.0", false, {"*"}, {}).allows_host("any.example"));
}

TEST(AccessRules, PagesOfOthersMayNotCall) {
  const AccessRules closed("127.0.0.1", true, {}, {});
  EXPECT_TRUE(closed.allows_origin("", "localhost:8080"));
  EXPECT_TRUE(closed.allows_origin("http://localhost:8080", "localhost:8080"));
  EXPECT_FALSE(closed.allows_origin("http://localhost:3000", "localhost:8080"));
  EXPECT_FALSE(closed.allows_origin("https://evil.example", "localhost:8080"));
  EXPECT_FALSE(closed.allows_origin("null", "localhost:8080"));
  const AccessRules named("127.0.0.1", true, {}, {"https://chat.example"});
  EXPECT_TRUE(named.allows_origin("https://chat.example", "localhost:8080"));
  EXPECT_FALSE(named.allows_origin("https://chat.example.evil", "localhost:8080"));
}

TEST(Route, FindsWhatThereIs) {
  EXPECT_EQ(match_route("/v1/chat/completions?x=1").route, Route::chat_completions);
  EXPECT_EQ(match_route("/v1/models").route, Route::models);
  const RouteMatch answer_now = match_route("/v1/requests/a%20b/answer_now");
  EXPECT_EQ(answer_now.route, Route::answer_now);
  EXPECT_EQ(answer_now.argument, "a b");
  EXPECT_EQ(match_route("/v1/requests//answer_now").route, Route::unknown);
  EXPECT_EQ(match_route("/v1/requests/a/b/answer_now").route, Route::unknown);
  EXPECT_EQ(match_route("/v1/models/hf:org/repo:Q8_0").argument, "hf:org/repo:Q8_0");
  EXPECT_EQ(match_route("/v1/models/smollm2%3A135m").argument, "smollm2:135m");
  EXPECT_EQ(match_route("/v1/messages").route, Route::messages);
  EXPECT_EQ(match_route("/v1/messages/count_tokens").route, Route::count_tokens);
  EXPECT_EQ(match_route("/v1/responses").route, Route::responses);
  EXPECT_EQ(match_route("/v1/responses/resp_1").route, Route::response);
  const RouteMatch items = match_route("/v1/responses/resp_1/input_items?limit=2");
  EXPECT_EQ(items.route, Route::response_items);
  EXPECT_EQ(items.argument, "resp_1");
  const RouteMatch response = match_route("/v1/responses/resp_1");
  EXPECT_TRUE(allows_method(*response.path, "DELETE"));
  EXPECT_FALSE(allows_method(*items.path, "DELETE"));
  EXPECT_FALSE(allows_method(*response.path, "POST"));
  EXPECT_EQ(name(match_route("/v1/tokenize")), "/tokenize");
  for (const RoutePath& known : route_paths()) {
    EXPECT_NE(name(match_route(known.path)), "(unknown)");
    EXPECT_EQ(match_route(known.path).route, known.route) << known.path;
  }
  for (const char* target :
       {"", "*", "/v1", "/v1/chat/completions/", "/v1/models/", "/v1/models/%zz", "/V1/models"}) {
    EXPECT_EQ(match_route(target).route, Route::unknown) << target;
  }
}

}  // namespace
}  // namespace ridge::server::access_rules_test
