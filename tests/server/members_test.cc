// What members of a project may do in it and in no other, and that what runs for somebody ends with
// the right to it.
#include <soci/soci.h>

#include "tenants_fixture.h"

namespace ridge::server::tenants_test {
namespace {

// What is tried on each route could be meant for it: bodies have the fields that one or another
// wants.
TEST_F(Tenants, MembersDoNothingInAProjectThatIsNotTheirs) {
  const auto key = identity_.create_key(
      {.name = "secret key", .project = "ours", .user = "ours-member-developer"}, "test");
  const std::vector<std::string> ids = {"ours", project_id("ours"), key.key.id,
                                        "ours-member-developer",
                                        identity_.find_user("ours-member-developer")->id};
  const std::string body =
      R"({"name":"x","project":"ours","user":"theirs-member-admin","role":"admin","weight":2,)"
      R"("scopes":["inference"],"disabled":true,"grace_ms":0,"text":"x","model":"m"})";
  const auto members_before = identity_.members("ours");
  const auto keys_before = identity_.keys({.project = "ours"});
  int refused = 0, lost = 0;
  for (const RoutePath& route : route_paths()) {
    for (const std::string& method : methods_of(route)) {
      if (access_of(match_route(route.path), method).is_open || ends_session(route, method))
        continue;
      for (const Holder& member : their_members_) {
        // Who names a project that is another's is told that there is none, whatever the route.
        Holder stranger = member;
        stranger.project = "ours";
        const RawResponse named =
            ask(method, path_with(route, "any"), stranger.headers().front(), body);
        EXPECT_EQ(named.status, 404) << method << " " << route.path << " " << member.who;
        ++lost;
        if (route.path.find("{id}") == std::string_view::npos) continue;
        for (const std::string& id : ids) {
          const RawResponse answer =
              ask(method, path_with(route, id), member.headers().front(), body);
          const std::string what = fmt::format("{} {} for {}: {} {}", method, route.path,
                                               member.who, answer.status, answer.body);
          EXPECT_THAT(answer.status, testing::AnyOf(400, 403, 404)) << what;
          EXPECT_THAT(answer.body, testing::Not(testing::HasSubstr("secret"))) << what;
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(lost, 150);
  const auto members = identity_.members("ours");
  ASSERT_EQ(members.size(), members_before.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    EXPECT_EQ(members[i].user, members_before[i].user);
    EXPECT_EQ(members[i].role, members_before[i].role);
    EXPECT_FALSE(members[i].disabled_at_ms);
  }
  const auto keys = identity_.keys({.project = "ours"});
  ASSERT_EQ(keys.size(), keys_before.size());
  for (const platform::ApiKey& each : keys) EXPECT_FALSE(each.revoked_at_ms) << each.name;
  // While its own admin may.
  const std::string own = our_members_.front().headers().front();
  EXPECT_EQ(ask("PUT", "/api/v1/projects/ours/members", own,
                R"({"user":"theirs-viewer","role":"viewer"})")
                .status,
            200);
  EXPECT_EQ(ask("DELETE", "/api/v1/keys/" + key.key.id, own).status, 200);
}

TEST_F(Tenants, AProjectsAdminSeesItsKeysMembersAndUsageAndNoOther) {
  const std::string body = R"({"model":"m","input":"a"})";
  ASSERT_EQ(ask("POST", "/v1/responses", bearer(ours_[2].key), body).status, 200);
  ASSERT_EQ(ask("POST", "/v1/responses", bearer(theirs_[2].key), body).status, 200);
  const std::string admin = our_members_.front().headers().front();
  const auto get = [&](const std::string& path) {
    const RawResponse answer = ask("GET", path, admin);
    EXPECT_EQ(answer.status, 200) << path << answer.body;
    EXPECT_THAT(answer.body, testing::Not(testing::HasSubstr("theirs"))) << path;
    return nlohmann::json::parse(answer.body);
  };
  EXPECT_EQ(get("/api/v1/projects").at("data").size(), 1u);
  EXPECT_EQ(get("/api/v1/projects/ours/members").at("data").size(), 7u);
  EXPECT_EQ(get("/api/v1/keys").at("data").size(), ours_.size());
  EXPECT_EQ(get("/api/v1/keys?project=ours").at("data").size(), ours_.size());
  EXPECT_EQ(get("/api/v1/keys?project=default").at("data").size(), 0u);
  const auto rows = get("/api/v1/usage?by=project").at("rows");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].at("project"), "ours");
  EXPECT_EQ(ask("GET", "/api/v1/usage?project=theirs", admin).status, 404);
  EXPECT_EQ(ask("GET", "/api/v1/keys?project=theirs", admin).body,
            R"({"data":[],"has_more":false})");
}

// A key whose answer streams, and the client to which it does.
class Revoking : public Tenants {
 protected:
  Revoking() {
    client_.send(post("/v1/completions",
                      R"({"model":"m","prompt":"a","min_tokens":1,"max_tokens":9,"stream":true})",
                      bearer(key_.text.text())));
    EXPECT_TRUE(client_.wait_for("200 OK"));
  }
  int status_of_key() const { return ask("GET", "/v1/models", bearer(key_.text.text())).status; }

  const platform::CreatedKey key_ =
      identity_.create_key({.name = "leaked", .project = "ours", .user = "ours-developer"}, "test");
  RawClient client_{under_.port()};
};

TEST_F(Revoking, EndsAKeyAndItsAnswersAtOnceOnThisServer) {
  EXPECT_EQ(status_of_key(), 200);
  const std::string admin = bearer(ours_[1].key);
  ASSERT_EQ(ask("DELETE", "/api/v1/keys/" + key_.key.id, admin).status, 200);
  EXPECT_EQ(status_of_key(), 401);
  EXPECT_THAT(client_.read().body, testing::HasSubstr("the API key was revoked, so"));
  EXPECT_EQ(under_.engine->cancelled(), 1);
}

TEST_F(Revoking, EndsTheAnswersOfAUserWhoIsDisabled) {
  const std::string admin = bearer(ours_[1].key);
  ASSERT_EQ(ask("PATCH", "/api/v1/users/ours-developer", admin, R"({"disabled":true})").status,
            200);
  EXPECT_EQ(status_of_key(), 401);
  EXPECT_THAT(client_.read().body,
              testing::HasSubstr("the user of the API key may not ask models any more"));
}

TEST_F(Revoking, EndsTheAnswersOfAMemberWhoIsRemoved) {
  const std::string lead = our_members_.front().headers().front();
  ASSERT_EQ(
      ask("PUT", "/api/v1/projects/ours/members", lead, R"({"user":"ours-developer","role":null})")
          .status,
      200);
  EXPECT_EQ(status_of_key(), 401);
  EXPECT_THAT(client_.read().body, testing::HasSubstr("the API key was revoked"));
}

TEST_F(Revoking, EndsTheAnswersOfAMemberWhoMayOnlyLookNow) {
  const std::string lead = our_members_.front().headers().front();
  ASSERT_EQ(ask("PUT", "/api/v1/projects/ours/members", lead,
                R"({"user":"ours-developer","role":"viewer"})")
                .status,
            200);
  EXPECT_EQ(status_of_key(), 403);
  EXPECT_THAT(client_.read().body,
              testing::HasSubstr("the user of the API key may not ask models any more"));
}

TEST_F(Revoking, EndsTheAnswersOfAUserAndOfAProjectThatAreRemoved) {
  const std::string admin = bearer(ours_[1].key), person = our_members_[1].headers().front();
  ASSERT_EQ(ask("DELETE", "/api/v1/users/ours-developer", admin).status, 200);
  EXPECT_EQ(status_of_key(), 401);
  EXPECT_THAT(client_.read().body, testing::HasSubstr("the API key was revoked"));
  RawClient session(under_.port());
  const std::string body =
      R"({"model":"m","prompt":"a","min_tokens":1,"max_tokens":9,"stream":true})";
  session.send(fmt::format(  // to the host that the page is of
      "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Content-Length: {}\r\n\r\n{}", person,
      body.size(), body));
  ASSERT_TRUE(session.wait_for("200 OK"));
  const std::string elsewhere = bearer(theirs_[1].key);
  ASSERT_EQ(ask("DELETE", "/api/v1/projects/ours", elsewhere).status, 200);
  EXPECT_THAT(session.read().body, testing::HasSubstr("you may not ask models any more"));
  EXPECT_EQ(ask("GET", "/v1/models", person).status, 404);  // of the project that is named
  EXPECT_EQ(ask("GET", "/v1/models", cookie(our_members_[1].key)).status, 401);
  EXPECT_EQ(ask("GET", "/v1/models", admin).status, 401);  // whose key was the project's
}

TEST_F(Revoking, SaysWhereAKeyHasExpired) {
  database_.write([&](soci::session& session) {
    session << "UPDATE api_keys SET expires_at_ms = 1 WHERE id = :id", soci::use(key_.key.id);
    session << "UPDATE identity_revision SET revision = revision + 1";
  });
  EXPECT_THAT(client_.read().body,
              testing::AllOf(testing::HasSubstr("the API key has expired, so that the answer ends"),
                             testing::Not(testing::HasSubstr("revoked"))));
}

TEST_F(Revoking, EndsAnswersOfAKeyThatIsRevokedElsewhere) {
  identity_.revoke_keys({key_.key.id}, "test");  // as another server does it
  EXPECT_THAT(client_.read().body, testing::HasSubstr("the API key was revoked"));
}

TEST_F(Revoking, LeavesTheAnswersOfOthers) {
  const std::string admin = bearer(ours_[1].key);
  const platform::CreatedKey other = identity_.create_key({.name = "other"}, "test");
  ASSERT_EQ(ask("DELETE", "/api/v1/keys/" + other.key.id, admin).status, 200);
  under_.engine->go();
  EXPECT_THAT(client_.read().body, testing::AllOf(testing::HasSubstr("secret answer"),
                                                  testing::Not(testing::HasSubstr("revoked"))));
}

}  // namespace
}  // namespace ridge::server::tenants_test
