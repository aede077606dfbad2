#include "administration/administration.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <soci/soci.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "administration/fields.h"
#include "base/error.h"
#include "base/temporary_folder.h"
#include "platform/kept/kept_requests.h"
#include "platform/throws.h"

namespace ridge::administration::administration_test {
namespace {

using platform::Role;

Caller by(Role role, const std::string& user = "", const std::string& project = "default") {
  return {.role = role, .user_name = user, .project_name = project, .actor = "user:" + user};
}

const Caller owner = by(Role::owner), admin = by(Role::admin, "adam");
const Caller developer = by(Role::developer, "dev"), viewer = by(Role::viewer, "vera");

class AdministrationTest : public testing::Test {
 protected:
  Answer answer_to(const Caller& caller, const std::string& method, const std::string& path,
                   const std::string& argument, const std::string& query, const Json& body) {
    const Route* route = find_route(method, path);
    RIDGE_ASSERT(route != nullptr);
    return route->operation({database_, identity_, caller, argument, query, body});
  }
  Json ask(const Caller& caller, const std::string& method, const std::string& path,
           const Json& body = Json::object(), const std::string& argument = "",
           const std::string& query = "") {
    return Json::parse(answer_to(caller, method, path, argument, query, body).body);
  }
  // "invalid_argument scopes": the code of the refusal and the field that it names.
  std::string refusal(const Caller& caller, const std::string& method, const std::string& path,
                      const Json& body = Json::object(), const std::string& argument = "",
                      const std::string& query = "") {
    try {
      return "none: " + answer_to(caller, method, path, argument, query, body).body;
    } catch (const Error& error) {
      return fmt::format("{} {}", name(error.code()), error.param());
    }
  }
  void make_users() {
    for (const auto& [name, role] :
         {std::pair("olga", Role::owner), std::pair("adam", Role::admin),
          std::pair("dev", Role::developer), std::pair("vera", Role::viewer)}) {
      identity_.create_user(name, platform::UserKind::person, role, "", "test");
    }
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
};

Json object(std::string_view text) { return Json::parse(text); }

TEST_F(AdministrationTest, NamesTheFieldThatIsWrong) {
  make_users();
  identity_.create_project("dev", 1, "test");  // so that the cases' {id} is one
  const struct {
    const char *method, *path, *body, *field;
  } cases[] = {
      {"POST", "/api/v1/projects", "{}", "name"},
      {"POST", "/api/v1/projects", R"({"name":" a"})", "name"},
      {"POST", "/api/v1/projects", R"({"name":7})", "name"},
      {"POST", "/api/v1/projects", R"({"name":"a","weight":0})", "weight"},
      {"POST", "/api/v1/projects", R"({"name":"a","weight":"1"})", "weight"},
      {"PATCH", "/api/v1/projects/{id}", "{}", "weight"},
      {"PATCH", "/api/v1/projects/{id}", R"({"keep_days":-1})", "keep_days"},
      {"PATCH", "/api/v1/projects/{id}", R"({"keep_days":3651})", "keep_days"},
      {"PATCH", "/api/v1/projects/{id}", R"({"keep_days":"off"})", "keep_days"},
      {"POST", "/api/v1/users", R"({"name":"a\nb"})", "name"},
      {"POST", "/api/v1/users", R"({"name":"a","role":"king"})", "role"},
      {"POST", "/api/v1/users", R"({"name":"a","kind":"cat"})", "kind"},
      {"POST", "/api/v1/users", R"({"name":"a","kind":"service"})", "project"},
      {"POST", "/api/v1/users", R"({"name":"a","project_role":"owner"})", "project_role"},
      {"POST", "/api/v1/users", R"({"name":"a","role":"viewer","project_role":"admin"})",
       "project_role"},
      {"POST", "/api/v1/users",
       R"({"name":"a","kind":"service","project":"dev","project_role":"admin"})", "project_role"},
      {"PUT", "/api/v1/projects/{id}/members", R"({"role":"viewer"})", "user"},
      {"PUT", "/api/v1/projects/{id}/members", R"({"user":"dev"})", "role"},
      {"PUT", "/api/v1/projects/{id}/members", R"({"user":"dev","role":"owner"})", "role"},
      {"PUT", "/api/v1/projects/{id}/members", R"({"user":"vera","role":"admin"})", "role"},
      {"PATCH", "/api/v1/users/{id}", "{}", "role"},
      {"PATCH", "/api/v1/users/{id}", R"({"disabled":"yes"})", "disabled"},
      {"POST", "/api/v1/keys", "{}", "name"},
      {"POST", "/api/v1/keys", R"({"name":"k","scopes":"admin"})", "scopes"},
      {"POST", "/api/v1/keys", R"({"name":"k","scopes":[]})", "scopes"},
      {"POST", "/api/v1/keys", R"({"name":"k","scopes":["all"]})", "scopes"},
      {"POST", "/api/v1/keys", R"({"name":"k","scopes":[1]})", "scopes[0]"},
      {"POST", "/api/v1/keys", R"({"name":"k","models":["a","\t"]})", "models"},
      {"POST", "/api/v1/keys", R"({"name":"k","addresses":["10.0.0.1/8"]})", "addresses"},
      {"POST", "/api/v1/keys", R"({"name":"k","lifetime_ms":0})", "lifetime_ms"},
      {"POST", "/api/v1/keys", R"({"name":"k","lifetime_ms":1e18})", "lifetime_ms"},
      {"POST", "/api/v1/keys/{id}/rotate", R"({"grace_ms":-1})", "grace_ms"},
      {"PUT", "/api/v1/limits", "{}", "kind"},
      {"PUT", "/api/v1/limits", R"({"kind":"tokens_per_year","most":1})", "kind"},
      {"PUT", "/api/v1/limits", R"({"kind":"tokens_per_day"})", "most"},
      {"PUT", "/api/v1/limits", R"({"kind":"tokens_per_day","most":-1})", "most"},
      {"PUT", "/api/v1/limits", R"({"kind":"tokens_per_day","most":1.5})", "most"},
      {"PUT", "/api/v1/prices", R"({"prompt":1,"completion":1})", "model"},
      {"PUT", "/api/v1/prices", R"({"model":"m","completion":1})", "prompt"},
      {"PUT", "/api/v1/prices", R"({"model":"m","prompt":1})", "completion"},
      {"PUT", "/api/v1/prices", R"({"model":"m","prompt":1,"completion":-1})", "completion"},
      {"PUT", "/api/v1/prices", R"({"model":"m","prompt":1,"cached":2,"completion":1})", "cached"},
      {"PUT", "/api/v1/prices", R"({"model":"m","price":3})", "price"},
      {"PATCH", "/api/v1/users/{id}", R"({"oidc":"x"})", "oidc"},
      {"PUT", "/api/v1/limits", R"({"kind":"tokens_per_day","most":1,"user":"dev","key":"k"})",
       "user"},
      {"POST", "/api/v1/endpoints", R"({"model":"m"})", "name"},
      {"POST", "/api/v1/endpoints", R"({"name":"e"})", "model"},
      {"POST", "/api/v1/endpoints", R"({"name":"e","model":"m","top_p":0})", "top_p"},
      {"POST", "/api/v1/endpoints", R"({"name":"e","model":"m","max_tokens":0})", "max_tokens"},
      {"PATCH", "/api/v1/endpoints/{id}", R"({"is_enabled":1})", "is_enabled"},
      {"POST", "/api/v1/endpoints/{id}/versions", "{}", "model"},
      {"PUT", "/api/v1/endpoints/{id}/shares", "{}", "shares"},
      {"PUT", "/api/v1/endpoints/{id}/shares", R"({"shares":[{"version":1}]})",
       "shares[0].percent"},
  };
  for (const auto& each : cases) {
    EXPECT_EQ(refusal(owner, each.method, each.path, object(each.body), "dev"),
              std::string("invalid_argument ") + each.field)
        << each.path << " " << each.body;
  }
  const struct {
    const char *method, *path, *query, *field;
  } queries[] = {
      {"GET", "/api/v1/projects", "limit=0", "limit"},
      {"GET", "/api/v1/users", "limit=1001", "limit"},
      {"GET", "/api/v1/users", "after=nobody", "after"},
      {"GET", "/api/v1/keys", "limit=x", "limit"},
      {"GET", "/api/v1/usage", "by=day,colour", "by"},
      {"GET", "/api/v1/usage", "from=yesterday", "from"},
      {"GET", "/api/v1/usage", "to=2026-02-30", "to"},
      {"GET", "/api/v1/usage", "format=xml", "format"},
      {"GET", "/api/v1/usage", "by=%zz", "by"},
      {"GET", "/api/v1/usage/records", "from=yesterday", "from"},
      {"GET", "/api/v1/usage/records", "format=xml", "format"},
      {"GET", "/api/v1/usage/records", "limit=1001", "limit"},
      {"GET", "/api/v1/usage/records", "after=none", "after"},
      {"GET", "/api/v1/usage/records", "project=%FF", "project"},
      {"DELETE", "/api/v1/usage", "", "before"},
      {"DELETE", "/api/v1/usage", "before=", "before"},
      {"GET", "/api/v1/audit", "limit=100000", "limit"},
      {"GET", "/api/v1/audit", "before=0", "before"},
      {"GET", "/api/v1/audit", "q=%ff", "q"},
      {"GET", "/api/v1/audit", "q=%00", "q"},
      {"GET", "/api/v1/audit", "action=%0a", "action"},
      {"GET", "/api/v1/audit", "from=monday", "from"},
      {"GET", "/api/v1/requests/kept", "limit=1001", "limit"},
      {"GET", "/api/v1/requests/kept", "content=true&limit=21", "limit"},
      {"GET", "/api/v1/requests/kept", "content=yes", "content"},
      {"GET", "/api/v1/requests/kept", "before=0", "before"},
      {"GET", "/api/v1/requests/kept", "from=x", "from"},
  };
  for (const auto& each : queries) {
    EXPECT_EQ(refusal(owner, each.method, each.path, Json::object(), "", each.query),
              std::string("invalid_argument ") + each.field)
        << each.path << "?" << each.query;
  }
  EXPECT_TRUE(identity_.keys().empty());
}

// As a field of 100 characters has it, in whatever script.
TEST_F(AdministrationTest, FindsInTheAuditLogByAHundredCharacters) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "\xE6\xB1\x89";
  identity_.record_event("user:" + text, "test.search", "");
  const auto found = [&](const std::string& query) {
    return ask(owner, "GET", "/api/v1/audit", Json::object(), "", query)["data"].size();
  };
  EXPECT_EQ(found("q=" + text), 1u);
  EXPECT_EQ(refusal(owner, "GET", "/api/v1/audit", Json::object(), "", "q=" + text + "a"),
            "invalid_argument q");
  EXPECT_EQ(found("q=" + std::string(100, 'x')), 0u);
}

TEST_F(AdministrationTest, KeepsPromptsAndAnswersOfAProjectAndRemovesThem) {
  identity_.create_project("p", 1, "test");
  const auto change = [&](const char* body) {
    return ask(admin, "PATCH", "/api/v1/projects/{id}", object(body), "p");
  };
  EXPECT_EQ(ask(admin, "GET", "/api/v1/projects")["data"][0]["keep_days"], 0);
  const Json kept = change(R"({"keep_days":30,"weight":2})");
  EXPECT_EQ(kept["keep_days"], 30);
  EXPECT_EQ(kept["weight"], 2);
  const platform::KeptRequest request{.project_id = kept["id"],
                                      .at_ms = database_.now_ms(),
                                      .prompt = R"({"prompt":"a"})",
                                      .answer = "[]"};
  platform::KeptRequests(database_).add(std::span(&request, 1));
  EXPECT_GT(change(R"({"keep_days":10})")["kept_bytes"], 0);
  EXPECT_EQ(change(R"({"weight":1})")["keep_days"], 10) << "what is not named stays";
  const Json off = change(R"({"keep_days":0})");
  EXPECT_EQ(off["kept_bytes"], 0);
  const auto events = identity_.audit_events(2);
  EXPECT_EQ(events[0].action, "kept.forget");
  EXPECT_EQ(events[0].actor, "user:adam");
  EXPECT_EQ(events[1].action, "project.change");
}

TEST_F(AdministrationTest, MakesEndpointsOfModelsThatNobodyServesYet) {
  const auto endpoint = [&](const char* method, const char* path, const char* body = "{}") {
    return ask(admin, method, path, object(body), "helper");
  };
  endpoint("POST", "/api/v1/endpoints", R"({"name":"helper","model":"m","temperature":0.5})");
  endpoint("POST", "/api/v1/endpoints/{id}/versions", R"({"model":"other"})");
  endpoint("PUT", "/api/v1/endpoints/{id}/shares", R"({"shares":[{"version":2,"percent":100}]})");
  const Json shown = endpoint("GET", "/api/v1/endpoints/{id}");
  EXPECT_EQ(shown["versions"][0]["temperature"], 0.5);
  EXPECT_EQ(shown["versions"][0]["max_tokens"], nullptr);
  EXPECT_EQ(shown["shares"], object(R"([{"version":2,"percent":100}])"));
  EXPECT_EQ(endpoint("GET", "/api/v1/endpoints")["data"], Json::array({shown}));
  EXPECT_EQ(endpoint("POST", "/api/v1/endpoints/{id}/rollback")["shares"][0]["version"], 1);
  EXPECT_EQ(answer_to(admin, "DELETE", "/api/v1/endpoints/{id}", "helper", "", {}).status, 204);
  EXPECT_EQ(refusal(admin, "GET", "/api/v1/endpoints/{id}", {}, "helper"), "not_found ");
  EXPECT_EQ(identity_.audit_events(1)[0].actor, "user:adam");
  EXPECT_EQ(
      refusal(admin, "POST", "/api/v1/endpoints", object(R"({"name":"smollm2:135m","model":"m"})")),
      "already_exists name")
      << "a model of the catalog has the name";
}

TEST_F(AdministrationTest, MakesAndChangesProjectsAndUsers) {
  const Answer made =
      answer_to(admin, "POST", "/api/v1/projects", "", "", object(R"({"name":"p"})"));
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(Json::parse(made.body)["weight"], 1);
  const Json half = object(R"({"weight":0.5})");
  EXPECT_EQ(ask(admin, "PATCH", "/api/v1/projects/{id}", half, "p")["weight"], 0.5);
  EXPECT_EQ(refusal(admin, "PATCH", "/api/v1/projects/{id}", half, "none"), "not_found ");
  const Json bot = object(R"({"name":"bot","kind":"service","project":"p","role":"viewer"})");
  EXPECT_EQ(ask(admin, "POST", "/api/v1/users", bot)["project"], "p");
  EXPECT_EQ(
      ask(admin, "PATCH", "/api/v1/users/{id}", object(R"({"role":"developer"})"), "bot")["role"],
      "developer");
  EXPECT_TRUE(ask(admin, "PATCH", "/api/v1/users/{id}", object(R"({"disabled":true})"),
                  "bot")["disabled_at_ms"]
                  .is_number());
  EXPECT_TRUE(ask(admin, "PATCH", "/api/v1/users/{id}", object(R"({"disabled":false})"),
                  "bot")["disabled_at_ms"]
                  .is_null());
  const Json audit = ask(admin, "GET", "/api/v1/audit", Json::object(), "", "limit=2");
  EXPECT_EQ(audit["data"].size(), 2u);
  EXPECT_EQ(audit["data"][0]["action"], "user.enable");
  EXPECT_EQ(audit["data"][0]["actor"], "user:adam");
  const std::string next = fmt::format("before={}", audit["data"][1]["number"].get<int64_t>());
  EXPECT_EQ(ask(admin, "GET", "/api/v1/audit", Json::object(), "", next)["data"][0]["action"],
            "user.change");
}

TEST_F(AdministrationTest, LetsAdminsDoNothingToOwners) {
  make_users();
  const Json boss = object(R"({"name":"boss","role":"owner"})"),
             demote = object(R"({"role":"viewer"})");
  EXPECT_EQ(refusal(admin, "POST", "/api/v1/users", boss), "permission_denied role");
  EXPECT_EQ(refusal(admin, "PATCH", "/api/v1/users/{id}", object(R"({"role":"owner"})"), "dev"),
            "permission_denied role");
  EXPECT_EQ(refusal(admin, "PATCH", "/api/v1/users/{id}", demote, "olga"), "permission_denied ");
  EXPECT_EQ(refusal(admin, "PATCH", "/api/v1/users/{id}", object(R"({"disabled":true})"), "olga"),
            "permission_denied ");
  EXPECT_EQ(refusal(admin, "POST", "/api/v1/keys", object(R"({"name":"k","user":"olga"})")),
            "permission_denied user");
  const Json key = ask(owner, "POST", "/api/v1/keys", object(R"({"name":"k","user":"olga"})"));
  EXPECT_EQ(refusal(admin, "DELETE", "/api/v1/keys/{id}", Json::object(), key["id"]),
            "permission_denied user");
  EXPECT_EQ(refusal(admin, "POST", "/api/v1/keys/{id}/rotate", Json::object(), key["id"]),
            "permission_denied user");
  EXPECT_EQ(ask(owner, "POST", "/api/v1/users", boss)["role"], "owner");
  EXPECT_EQ(ask(by(Role::owner, "boss"), "PATCH", "/api/v1/users/{id}", demote, "olga")["role"],
            "viewer");
}

TEST_F(AdministrationTest, GivesDevelopersTheirOwnKeysAlone) {
  make_users();
  identity_.create_project("other", 1, "test");
  const Json others = ask(admin, "POST", "/api/v1/keys", object(R"({"name":"k"})"));
  const Json theirs = ask(admin, "POST", "/api/v1/keys",
                          object(R"({"name":"t","user":"adam","scopes":["admin"]})"));
  const Json own = ask(developer, "POST", "/api/v1/keys", object(R"({"name":"mine"})"));
  EXPECT_EQ(own["user"], "dev");
  EXPECT_EQ(own["project"], "default");
  for (const auto& [body, wanted] :
       {std::pair(R"({"name":"a","user":"adam"})", "permission_denied user"),
        std::pair(R"({"name":"a","project":"other"})", "permission_denied project"),
        std::pair(R"({"name":"a","scopes":["inference","admin"]})", "invalid_argument scopes"),
        std::pair(R"({"name":"mine"})", "already_exists ")}) {
    EXPECT_EQ(refusal(developer, "POST", "/api/v1/keys", object(body)), wanted) << body;
  }
  const Json list = ask(developer, "GET", "/api/v1/keys");
  ASSERT_EQ(list["data"].size(), 1u);
  EXPECT_EQ(list["data"][0]["id"], own["id"]);
  EXPECT_EQ(list["data"].dump().find(own["key"].get<std::string>()), std::string::npos);
  EXPECT_TRUE(
      ask(developer, "GET", "/api/v1/keys", Json::object(), "", "project=other")["data"].empty());
  for (const Json& id : {others["id"], theirs["id"], Json("none"), Json("k"), Json("mine")}) {
    EXPECT_EQ(refusal(developer, "DELETE", "/api/v1/keys/{id}", Json::object(), id), "not_found ");
    EXPECT_EQ(refusal(developer, "POST", "/api/v1/keys/{id}/rotate", Json::object(), id),
              "not_found ");
  }
  const Json next = ask(developer, "POST", "/api/v1/keys/{id}/rotate",
                        object(R"({"grace_ms":60000})"), own["id"]);
  EXPECT_EQ(next["user"], "dev");
  EXPECT_EQ(ask(developer, "DELETE", "/api/v1/keys/{id}", Json::object(), next["id"])["state"],
            "revoked");
  // A key that no user owns has no keys of its own.
  const Caller nobody = by(Role::developer);
  EXPECT_TRUE(ask(nobody, "GET", "/api/v1/keys")["data"].empty());
  EXPECT_EQ(refusal(nobody, "POST", "/api/v1/keys", object(R"({"name":"a"})")),
            "permission_denied user");
  EXPECT_EQ(refusal(nobody, "DELETE", "/api/v1/keys/{id}", Json::object(), others["id"]),
            "not_found ");
}

TEST_F(AdministrationTest, BoundsTheKeysOfADeveloper) {
  make_users();
  for (int i = 0; i < 100; ++i) {
    identity_.create_key({.name = std::to_string(i), .user = "dev"}, "test");
  }
  EXPECT_EQ(refusal(developer, "POST", "/api/v1/keys", object(R"({"name":"a"})")),
            "permission_denied ");
  identity_.revoke_keys({"7"}, "test");
  EXPECT_EQ(ask(developer, "POST", "/api/v1/keys", object(R"({"name":"a"})"))["state"], "active");
}

TEST_F(AdministrationTest, LetsAProjectsAdminManageKeysAndMembersThereAlone) {
  make_users();
  const auto search = identity_.create_project("search", 1, "test");
  identity_.create_user("lea", platform::UserKind::person, Role::developer, "search", "test",
                        platform::ProjectRole::admin);
  identity_.set_member("search", "dev", platform::ProjectRole::developer, "test");
  Caller lea = by(Role::project_admin, "lea", "search");
  lea.project_id = search.id;
  const std::string members = "/api/v1/projects/{id}/members", keys = "/api/v1/keys";
  const auto set = [&](const char* body, const std::string& project = "search") {
    return refusal(lea, "PUT", members, object(body), project);
  };
  EXPECT_THAT(set(R"({"user":"vera","role":"viewer"})"), testing::HasSubstr(R"("role":"viewer")"));
  EXPECT_EQ(set(R"({"user":"vera","role":"viewer"})", "default"), "not_found ");
  EXPECT_EQ(set(R"({"user":"nobody","role":"viewer"})"), "not_found ");
  EXPECT_EQ(ask(lea, "GET", members, {}, search.id)["data"].size(), 3u);
  EXPECT_EQ(refusal(lea, "GET", members, {}, "default"), refusal(lea, "GET", members, {}, "none"));
  EXPECT_EQ(ask(lea, "GET", "/api/v1/projects")["data"].size(), 1u);

  // Keys of the project's own and of its members, for what the project may do.
  const auto make = [&](const char* body) { return refusal(lea, "POST", keys, object(body)); };
  EXPECT_EQ(ask(lea, "POST", keys, object(R"({"name":"own"})"))["user"], nullptr);
  const Json of_dev = ask(lea, "POST", keys, object(R"({"name":"dev's","user":"dev"})"));
  EXPECT_EQ(of_dev["project"], "search");
  EXPECT_EQ(make(R"({"name":"a","project":"default"})"), "permission_denied project");
  EXPECT_EQ(make(R"({"name":"a","scopes":["admin"]})"), "permission_denied scopes");
  EXPECT_EQ(make(R"({"name":"a","user":"adam"})"), "permission_denied user");
  EXPECT_EQ(make(R"({"name":"a","user":"olga"})"), "permission_denied user");
  EXPECT_EQ(make(R"({"name":"a","user":"vera"})"), "invalid_argument scopes");
  identity_.create_user("ben", platform::UserKind::person, Role::developer, "", "test");
  EXPECT_EQ(make(R"({"name":"a","user":"ben"})"), "invalid_argument user");
  EXPECT_EQ(ask(lea, "POST", keys + "/{id}/rotate", Json::object(), of_dev["id"])["user"], "dev");

  // Not those by which one would be more than that, nor of other projects.
  const auto end = [&](const platform::NewKey& wanted) {
    return refusal(lea, "DELETE", keys + "/{id}", {}, identity_.create_key(wanted, "test").key.id);
  };
  EXPECT_EQ(end({.name = "boss", .project = "search", .user = "adam"}), "permission_denied user");
  EXPECT_EQ(
      end({.name = "root", .project = "search", .rights = {.scopes = {platform::Scope::admin}}}),
      "permission_denied scopes");
  EXPECT_EQ(end({.name = "other"}), "not_found ");
  EXPECT_THAT(end({.name = "plain", .project = "search"}), testing::HasSubstr("revoked"));
  identity_.set_member("default", "lea", platform::ProjectRole::developer, "test");
  EXPECT_THAT(end({.name = "hers", .user = "lea"}), testing::HasSubstr("revoked"));

  // In the other project, one is what one is there.
  EXPECT_EQ(ask(by(Role::developer, "lea"), "GET", keys)["data"].size(), 1u);
}

TEST_F(AdministrationTest, BoundsTheKeysThatAProjectsAdminMakes) {
  Caller lea = by(Role::project_admin, "lea", "search");
  lea.project_id = identity_.create_project("search", 1, "test").id;
  database_.write([&](soci::session& session) {
    for (int i = 0; i < 1000; ++i) {
      const std::string name = std::to_string(i);
      session
          << "INSERT INTO api_keys (id, project_id, name, hint, hash, scopes, models, addresses, "
             "created_at_ms) VALUES (:id, :project, :name, 'rgk_', :hash, '[]', '[]', '[]', 1)",
          soci::use(name), soci::use(lea.project_id), soci::use(name), soci::use(name);
    }
  });
  const Json body = object(R"({"name":"a"})");
  EXPECT_EQ(refusal(lea, "POST", "/api/v1/keys", body), "permission_denied ");
  identity_.revoke_keys({"7", "search"}, "test");
  EXPECT_EQ(ask(lea, "POST", "/api/v1/keys", body)["state"], "active");
}

TEST_F(AdministrationTest, RemovesUsersAndProjectsButOwnersByAdmins) {
  make_users();
  const auto search = identity_.create_project("search", 1, "test");
  const auto remove = [&](const Caller& caller, const char* path, const std::string& argument) {
    return refusal(caller, "DELETE", path, {}, argument);
  };
  EXPECT_EQ(remove(admin, "/api/v1/users/{id}", "olga"), "permission_denied ");
  EXPECT_EQ(remove(owner, "/api/v1/users/{id}", "olga"), "invalid_argument ");
  EXPECT_EQ(remove(admin, "/api/v1/users/{id}", "none"), "not_found ");
  EXPECT_EQ(ask(admin, "DELETE", "/api/v1/users/{id}", {}, "dev")["name"], "dev");
  EXPECT_EQ(remove(admin, "/api/v1/users/{id}", "dev"), "not_found ");
  EXPECT_EQ(remove(admin, "/api/v1/projects/{id}", "default"), "invalid_argument ");
  identity_.set_keep_days("search", 30, "test");
  const platform::KeptRequest kept{.project_id = search.id, .at_ms = database_.now_ms()};
  ASSERT_EQ(platform::KeptRequests(database_).add(std::span(&kept, 1)), 1);
  EXPECT_EQ(ask(admin, "DELETE", "/api/v1/projects/{id}", {}, search.id)["name"], "search");
  EXPECT_EQ(platform::KeptRequests(database_).forget_unkept(), 0) << "it has gone already";
  EXPECT_EQ(remove(admin, "/api/v1/projects/{id}", search.id), "not_found ");
  const std::string removed = fmt::format("project=search%20(removed%20{})", search.id);
  EXPECT_EQ(ask(admin, "GET", "/api/v1/usage", {}, "", removed)["rows"].size(), 0u);
  EXPECT_EQ(refusal(admin, "GET", "/api/v1/usage", {}, "", "project=search"), "not_found project");
  EXPECT_EQ(refusal(viewer, "GET", "/api/v1/usage", {}, "", removed), "not_found project");
}

TEST_F(AdministrationTest, ListsPageByPage) {
  const std::vector<std::string> made = {"d", "a", "c", "b", "e"};
  for (const std::string& name : made) {
    identity_.create_project(name, 1, "test");
    identity_.create_user(name, platform::UserKind::person, Role::viewer, "", "test");
    identity_.create_key({.name = name}, "test");
  }
  const auto names_of = [&](const std::string& path, const char* after_by) {
    std::vector<std::string> names;
    std::string after;
    for (bool has_more = true; has_more;) {
      const Json page = ask(admin, "GET", path, Json::object(), "", "limit=2&after=" + after);
      EXPECT_LE(page["data"].size(), 2u);
      for (const Json& item : page["data"]) names.push_back(item["name"]);
      has_more = page["has_more"];
      after = page["data"].back()[after_by];
    }
    return names;
  };
  EXPECT_THAT(names_of("/api/v1/users", "name"), testing::ElementsAre("a", "b", "c", "d", "e"));
  EXPECT_THAT(names_of("/api/v1/projects", "name"),
              testing::ElementsAre("a", "b", "c", "d", "default", "e"));
  EXPECT_THAT(names_of("/api/v1/keys", "id"), testing::UnorderedElementsAreArray(made));
}

TEST_F(AdministrationTest, SetsAndTakesAwayLimitsAndPrices) {
  identity_.create_project("p", 1, "test");
  const auto set = [&](const char* body) {
    return ask(admin, "PUT", "/api/v1/limits", object(body));
  };
  EXPECT_EQ(
      set(R"({"project":"p","model":"m","kind":"tokens_per_day","most":5})").dump(),
      R"({"project":"p","key":null,"user":null,"model":"m","kind":"tokens_per_day","most":5})");
  EXPECT_EQ(ask(admin, "GET", "/api/v1/limits")["data"].size(), 1u);
  EXPECT_TRUE(
      set(R"({"project":"p","model":"m","kind":"tokens_per_day","most":null})")["most"].is_null());
  EXPECT_TRUE(ask(admin, "GET", "/api/v1/limits")["data"].empty());
  EXPECT_EQ(refusal(admin, "PUT", "/api/v1/limits",
                    object(R"({"project":"none","kind":"tokens_per_day","most":5})")),
            "not_found ");
  const auto price = [&](const char* body) {
    return ask(admin, "PUT", "/api/v1/prices", object(body));
  };
  EXPECT_EQ(
      price(R"({"model":"*","prompt":0.2,"completion":0.8})").dump(),
      R"({"model":"*","prompt":0.2,"cached":0.2,"completion":0.8,"free_tokens_per_month":0})");
  EXPECT_EQ(price(R"({"model":"*","prompt":0,"completion":1,"free_tokens_per_month":7})")
                ["free_tokens_per_month"],
            7);
  EXPECT_EQ(ask(admin, "GET", "/api/v1/prices")["data"][0]["model"], "*");
  EXPECT_TRUE(price(R"({"model":"*","price":null})")["price"].is_null());
  EXPECT_TRUE(ask(admin, "GET", "/api/v1/prices")["data"].empty());
}

TEST_F(AdministrationTest, WritesUsageAsJsonAndCsv) {
  EXPECT_EQ(ask(viewer, "GET", "/api/v1/usage").dump(), R"({"rows":[]})");
  const Answer csv = answer_to(viewer, "GET", "/api/v1/usage", "", "format=csv&by=day,day,key", {});
  EXPECT_EQ(csv.content_type, "text/csv; charset=utf-8");
  EXPECT_TRUE(csv.body.starts_with("day,key,requests,")) << csv.body;
  EXPECT_EQ(ask(admin, "DELETE", "/api/v1/usage", {}, "", "before=2026-01-01")["forgotten"], 0);
}

// As many, in the project, of the key "k", which no day is asked for.
void record(platform::Database& database, const std::string& project, const std::string& prefix,
            int many) {
  database.write([&](soci::session& session) {
    for (int i = 0; i < many; ++i) {
      const std::string id = fmt::format("{}{:05}", prefix, i);
      session << "INSERT INTO usage_records (id, at_ms, organisation_id, project_id, key_id, "
                 "request_id, model, endpoint, prompt_tokens, cached_tokens, reasoning_tokens, "
                 "completion_tokens, ttft_ms, duration_ms, finish_reason, micros) VALUES (:id, "
                 "1793880000123, 'org', :project, 'k', '=1+1', 'm', '/v1/completions', 3, 1, 2, 4, "
                 "1.5, 9.25, 'stop', 1500000)",
          soci::use(id), soci::use(project);
    }
  });
}

TEST_F(AdministrationTest, WritesEachRecordOfUsage) {
  const std::string project = identity_.create_project("ours", 1, "test").id;
  record(database_, project, "a", 2);
  const Json page = ask(admin, "GET", "/api/v1/usage/records", {}, "", "limit=1");
  EXPECT_EQ(page["has_more"], true);
  EXPECT_EQ(
      page["data"].dump(),
      R"([{"id":"a00000","request_id":"=1+1","time":"2026-11-05T12:00:00Z","at_ms":1793880000123,)"
      R"("project":"ours","key":"","model":"m","endpoint":"/v1/completions","custom_endpoint":"",)"
      R"("endpoint_version":0,"prompt_tokens":3,"cached_tokens":1,"completion_tokens":4,)"
      R"("reasoning_tokens":2,"total_tokens":7,"free_tokens":0,"ttft_ms":1.5,"duration_ms":9.25,)"
      R"("finish_reason":"stop","cost":1.5}])");
  EXPECT_EQ(ask(admin, "GET", "/api/v1/usage/records", {}, "", "after=a00000")["has_more"], false);
  const Answer csv = answer_to(admin, "GET", "/api/v1/usage/records", "", "format=csv&limit=1", {});
  EXPECT_EQ(csv.content_type, "text/csv; charset=utf-8");
  EXPECT_EQ(csv.body,
            "time,project,key,model,endpoint,custom_endpoint,endpoint_version,prompt_tokens,"
            "cached_tokens,completion_tokens,reasoning_tokens,total_tokens,free_tokens,ttft_ms,"
            "duration_ms,finish_reason,cost,request_id,id,at_ms\n"
            "\"2026-11-05T12:00:00Z\",\"ours\",\"\",\"m\",\"/v1/completions\",\"\",0,3,1,4,2,7,0,"
            "1.5,9.25,\"stop\",1.5,\"'=1+1\",\"a00000\",1793880000123\n");
  EXPECT_FALSE(csv.more) << "a page was asked for";
}

TEST_F(AdministrationTest, WritesAllRecordsOfAProjectAPieceAtATime) {
  const std::string ours = identity_.create_project("ours", 1, "test").id;
  const std::string theirs = identity_.create_project("theirs", 1, "test").id;
  record(database_, ours, "a", 2500);
  record(database_, theirs, "b", 3);
  const Caller caller = by(Role::viewer, "vera", "ours");
  const Answer csv = answer_to(caller, "GET", "/api/v1/usage/records", "", "format=csv", {});
  ASSERT_TRUE(csv.more);
  std::vector<std::string> pieces = {csv.body};
  while (!pieces.back().empty()) pieces.push_back(csv.more());
  EXPECT_EQ(pieces.size(), 4u);
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  EXPECT_EQ(std::ranges::count(text, '\n'), 1 + 2500);
  EXPECT_EQ(text.find("theirs"), text.npos);
  for (const char* query : {"project=theirs", "project=none"}) {
    EXPECT_EQ(refusal(caller, "GET", "/api/v1/usage/records", {}, "", query), "not_found project");
  }
  EXPECT_EQ(refusal(caller, "GET", "/api/v1/usage/records", {}, "", "after=b00000"),
            "invalid_argument after");
  EXPECT_EQ(ask(admin, "GET", "/api/v1/usage/records", {}, "", "project=theirs")["data"].size(),
            3u);
}

TEST(Day, MustBeOneOfTheCalendar) {
  EXPECT_EQ(first_day("from=1970-01-02", "from"), 86'400'000);
  EXPECT_EQ(first_day("from=2024-02-29", "from"), 1'709'164'800'000);
  EXPECT_EQ(end_of_day("to=1970-01-01", "to"), 86'400'000);
  EXPECT_EQ(first_day("to=1970-01-01", "from"), std::nullopt);
  for (const char* bad : {"2026-02-29", "2026-13-01", "2026-1-1", "26-01-01", "2026-01-01+",
                          "-026-01-01", "2026/01/01"}) {
    EXPECT_ERROR(first_day(std::string("from=") + bad, "from"), invalid_argument,
                 "must be a day, as 2026-11-28");
  }
}

}  // namespace
}  // namespace ridge::administration::administration_test
