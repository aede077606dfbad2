// Who may act for which project as what, and what goes with users and projects that are removed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <soci/soci.h>

#include <memory>

#include "platform/batch/batches.h"
#include "platform/batch/files.h"
#include "platform/database/schema_steps.h"
#include "platform/identity/identity_fixture.h"
#include "platform/identity/sessions.h"
#include "platform/metering/ledger.h"
#include "platform/metering/limits.h"
#include "platform/metering/usage.h"
#include "platform/throws.h"
#include "platform/workspace/chats.h"
#include "platform/workspace/prompt_templates.h"

namespace ridge::platform::members_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string right = "correct horse";

TEST(RoleInProject, IsTheMembershipsAsFarAsTheUsersRoleAllows) {
  constexpr auto admin = ProjectRole::admin, developer = ProjectRole::developer,
                 viewer = ProjectRole::viewer;
  for (const Role of_all : {Role::owner, Role::admin}) {
    for (const std::optional<ProjectRole> membership :
         {std::optional<ProjectRole>(), std::optional(admin), std::optional(viewer)}) {
      EXPECT_EQ(role_in_project(of_all, membership), of_all);
    }
  }
  EXPECT_EQ(role_in_project(Role::developer, {}), std::nullopt);
  EXPECT_EQ(role_in_project(Role::viewer, {}), std::nullopt);
  EXPECT_EQ(role_in_project(Role::developer, admin), Role::project_admin);
  EXPECT_EQ(role_in_project(Role::developer, developer), Role::developer);
  EXPECT_EQ(role_in_project(Role::developer, viewer), Role::viewer);
  for (const ProjectRole any : {admin, developer, viewer}) {
    EXPECT_EQ(role_in_project(Role::viewer, any), Role::viewer);
  }
  EXPECT_EQ(role_named("project_admin"), std::nullopt) << "no user has it";
  EXPECT_FALSE(may_have(Role::project_admin, Scope::admin));
}

class MembersTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (location().empty()) return;
    sessions_ =
        std::make_unique<Sessions>(*database_, SessionOptions{}, [this] { return now_ms_; });
    identity_->create_project("search", 1, "test");
    create("ann", Role::developer);
    token_ = sign_in("ann");
  }

  User create(const std::string& name, Role role) {
    User user = identity_->create_user(name, UserKind::person, role, "", "test");
    sessions_->set_password(name, right, "", "test");
    return user;
  }
  std::string sign_in(const std::string& name) { return sessions_->sign_in(name, right).token; }
  std::optional<Role> role_in(const std::string& project) {
    try {
      const auto found = sessions_->find(token_, project);
      return found ? std::optional(found->role) : std::nullopt;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::not_found) return std::nullopt;
      throw;
    }
  }
  Member set(const std::string& project, ProjectRole role, const std::string& user = "ann") {
    return identity_->set_member(project, user, role, "test");
  }
  CreatedKey key_of_ann(const std::string& project,
                        std::vector<Scope> scopes = {Scope::inference}) {
    return identity_->create_key(
        {.name = "ann's", .project = project, .user = "ann", .rights = {.scopes = scopes}}, "test");
  }
  Principal principal(const CreatedKey& key) {
    return *identity_->find_principal(key.text.hash()).principal;
  }
  std::vector<std::string> projects_of_ann() {
    std::vector<std::string> names;
    for (const ProjectOfUser& each : sessions_->projects_of(identity_->find_user("ann")->id)) {
      names.push_back(each.name + ":" + std::string(name(each.role)));
    }
    return names;
  }
  // What somebody used, by a key or a session.
  void use(const std::string& project_id, const std::string& key_id, const std::string& user_id) {
    Ledger ledger(*database_, "server-1");
    const Reservation wish{.id = new_id("res_"),
                           .organisation_id = "org",
                           .project_id = project_id,
                           .key_id = key_id,
                           .allowance_id = key_id,
                           .user_id = user_id,
                           .model = "m",
                           .prompt_tokens = 7};
    const Settlement settlement{.id = wish.id, .prompt_tokens = 7, .finish_reason = "stop"};
    EXPECT_FALSE(ledger.commit({}, std::span(&wish, 1)).front().refusal);
    ledger.commit(std::span(&settlement, 1), {});
  }

  std::unique_ptr<Sessions> sessions_;
  std::string token_;  // ann's
};
INSTANTIATE_ON_BOTH_DATABASES(MembersTest);

TEST_P(MembersTest, EverybodyIsOfTheDefaultProjectAndOfNoOtherAtFirst) {
  EXPECT_EQ(role_in(""), Role::developer);
  EXPECT_EQ(role_in("default"), Role::developer);
  EXPECT_EQ(role_in("search"), std::nullopt);
  EXPECT_THAT(projects_of_ann(), ElementsAre("default:developer"));
  EXPECT_THAT(identity_->members("search"), IsEmpty());
  EXPECT_ERROR(identity_->members("none"), not_found, "no project 'none'");
}

TEST_P(MembersTest, ActByTheirRoleThereFromTheNextRequestOn) {
  const auto roles = {std::pair(ProjectRole::admin, Role::project_admin),
                      std::pair(ProjectRole::developer, Role::developer),
                      std::pair(ProjectRole::viewer, Role::viewer)};
  for (const auto& [given, expected] : roles) {
    EXPECT_EQ(set("search", given).role, given);
    EXPECT_EQ(role_in("search"), expected);
    EXPECT_EQ(role_in(""), Role::developer) << "in the other as before";
    EXPECT_EQ(sessions_->find(token_, "search")->rights.has(Scope::inference),
              expected != Role::viewer);
    EXPECT_FALSE(sessions_->find(token_, "search")->rights.has(Scope::admin));
    EXPECT_FALSE(sessions_->find(token_, "search")->sees_all_projects);
  }
  EXPECT_THAT(projects_of_ann(), ElementsAre("default:developer", "search:viewer"));
  EXPECT_EQ(identity_->members("search").at(0).user, "ann");
  identity_->remove_member("search", "ann", "test");
  EXPECT_EQ(role_in("search"), std::nullopt);
  EXPECT_ERROR(identity_->remove_member("search", "ann", "test"), not_found, "no member");
}

TEST_P(MembersTest, AreNeverMoreThanTheirOwnRoleAllows) {
  create("vera", Role::viewer);
  EXPECT_ERROR(set("search", ProjectRole::developer, "vera"), invalid_argument, "role viewer");
  EXPECT_EQ(set("search", ProjectRole::viewer, "vera").role, ProjectRole::viewer);
  set("search", ProjectRole::admin);
  identity_->change_user("ann", {.role = Role::viewer}, "test");
  EXPECT_EQ(role_in("search"), Role::viewer);
  EXPECT_EQ(role_in(""), Role::viewer);
  EXPECT_EQ(identity_->members("search")[0].role, ProjectRole::viewer);
  identity_->change_user("ann", {.role = Role::developer}, "test");
  EXPECT_EQ(role_in("search"), Role::project_admin);
  // Nobody is less than the organisation's admin anywhere.
  identity_->change_user("ann", {.role = Role::admin}, "test");
  set("search", ProjectRole::viewer);
  EXPECT_EQ(role_in("search"), Role::admin);
}

TEST_P(MembersTest, HaveKeysThatGoWithTheMembership) {
  EXPECT_ERROR(key_of_ann("search"), invalid_argument, "no member of project 'search'");
  set("search", ProjectRole::developer);
  const CreatedKey there = key_of_ann("search", {Scope::inference, Scope::metrics}),
                   elsewhere = key_of_ann("default");
  EXPECT_TRUE(principal(there).rights.has(Scope::inference));
  set("search", ProjectRole::viewer);  // which counts at once
  EXPECT_FALSE(principal(there).rights.has(Scope::inference));
  EXPECT_TRUE(principal(there).rights.has(Scope::metrics));
  EXPECT_FALSE(principal(there).is_revoked);
  set("search", ProjectRole::admin);
  EXPECT_EQ(principal(there).role, Role::developer) << "a key administers no project";
  EXPECT_ERROR(
      identity_->create_key(
          {.name = "a", .project = "search", .user = "ann", .rights = {.scopes = {Scope::admin}}},
          "test"),
      invalid_argument, "project_admin");
  identity_->remove_member("search", "ann", "test");
  EXPECT_TRUE(principal(there).is_revoked);
  EXPECT_FALSE(principal(elsewhere).is_revoked);
  set("search", ProjectRole::developer);
  EXPECT_TRUE(principal(there).is_revoked) << "it does not come back with the member";
  // Where nobody has revoked it, as a server of before does it.
  *raw_session() << "UPDATE api_keys SET revoked_at_ms = NULL";
  EXPECT_FALSE(principal(there).is_revoked);
  *raw_session()
      << "DELETE FROM project_members WHERE project_id <> (SELECT id FROM projects WHERE "
         "name = 'default')";
  EXPECT_TRUE(principal(there).is_revoked);
  EXPECT_FALSE(identity_->principal_of(there.key.id));
}

TEST_P(MembersTest, WhoIsAdminNoMoreKeepsWhatMembershipsGive) {
  create("root", Role::owner);
  identity_->create_project("other", 1, "test");
  identity_->change_user("ann", {.role = Role::admin}, "test");
  set("search", ProjectRole::developer);
  const CreatedKey member = key_of_ann("search"), guest = key_of_ann("other"),
                   first = key_of_ann("default");
  identity_->remove_member("search", "ann", "test");
  EXPECT_FALSE(principal(member).is_revoked) << "an admin acts in all";
  set("search", ProjectRole::developer);
  identity_->change_user("ann", {.role = Role::developer}, "test");
  EXPECT_FALSE(principal(member).is_revoked);
  EXPECT_FALSE(principal(first).is_revoked);
  EXPECT_TRUE(principal(guest).is_revoked);
  EXPECT_TRUE(identity_->find_key(guest.key.id)->revoked_at_ms);
}

TEST_P(MembersTest, WithoutAProjectSignInNoMore) {
  set("search", ProjectRole::viewer);
  identity_->remove_member("default", "ann", "test");
  EXPECT_EQ(sessions_->find(token_, "")->project_name, "search") << "the first one there is";
  EXPECT_EQ(role_in("default"), std::nullopt);
  const std::string id = identity_->find_user("ann")->id;
  identity_->remove_member("search", "ann", "test");
  EXPECT_FALSE(sessions_->find(token_, ""));
  EXPECT_FALSE(sessions_->principal_of(id, identity_->default_project_id()));
  EXPECT_ERROR(sign_in("ann"), permission_denied, "member of no project");
  EXPECT_ERROR(sessions_->sign_in("ann", "wrong password"), unauthenticated, "wrong");
  const ProviderUser at_provider{"https://a.example", "1", "ann"};
  EXPECT_ERROR(sessions_->sign_in_as(at_provider, Role::developer), unauthenticated, "no project");
  EXPECT_EQ(identity_->find_user("ann")->oidc_subject, "") << "nothing is kept of it";
  set("search", ProjectRole::viewer);
  EXPECT_EQ(sessions_->sign_in_as(at_provider, {}).user.name, "ann");
}

TEST_P(MembersTest, AreMadeWithThePersonWhereAProjectIsNamed) {
  const User ben = identity_->create_user("ben", UserKind::person, Role::developer, "search",
                                          "test", ProjectRole::admin);
  ASSERT_EQ(ben.memberships.size(), 1u);
  EXPECT_EQ(ben.memberships[0].project, "search");
  EXPECT_EQ(ben.memberships[0].role, ProjectRole::admin);
  EXPECT_EQ(ben.project, "");
  EXPECT_THAT(identity_->members("default"), testing::SizeIs(1));
  EXPECT_ERROR(identity_->create_user("vic", UserKind::person, Role::viewer, "search", "test",
                                      ProjectRole::developer),
               invalid_argument, "role viewer");
  EXPECT_ERROR(identity_->create_user("bot", UserKind::service, Role::developer, "search", "test",
                                      ProjectRole::admin),
               invalid_argument, "service");
  EXPECT_ERROR(identity_->create_user("eve", UserKind::person, Role::developer, "none", "test"),
               not_found, "no project 'none'");
  identity_->create_user("bot", UserKind::service, Role::developer, "search", "test");
  EXPECT_ERROR(set("search", ProjectRole::viewer, "bot"), invalid_argument, "service");
  EXPECT_ERROR(set("search", ProjectRole::viewer, "none"), not_found, "no user 'none'");
  EXPECT_ERROR(set("none", ProjectRole::viewer), not_found, "no project 'none'");
}

TEST_P(MembersTest, ChangesAreRecordedOnce) {
  const int64_t before = identity_->revision();
  set("search", ProjectRole::viewer);
  set("search", ProjectRole::viewer);
  set("search", ProjectRole::admin);
  key_of_ann("search");
  identity_->remove_member("search", "ann", "user:root");
  EXPECT_EQ(identity_->revision(), before + 5);
  std::vector<std::string> actions;
  for (const AuditEvent& event : identity_->audit_events(5)) actions.push_back(event.action);
  EXPECT_THAT(actions, ElementsAre("member.remove", "key.revoke", "key.create", "member.change",
                                   "member.add"));
  const AuditEvent last = identity_->audit_events(1).front();
  EXPECT_EQ(last.actor, "user:root");
  EXPECT_THAT(last.details, testing::AllOf(testing::HasSubstr(R"("name":"search")"),
                                           testing::HasSubstr(R"("user":"ann")")));
}

TEST_P(MembersTest, ARemovedUserEndsAndTheNameInheritsNothing) {
  const std::string id = identity_->find_user("ann")->id, project = identity_->default_project_id();
  sessions_->sign_in_as({"https://a.example", "1", "ann"}, {});
  const CreatedKey key = key_of_ann("default");
  Chats chats(*database_, [this] { return now_ms_; });
  Limits limits(*database_, [this] { return now_ms_; });
  chats.put(id, "c", "mine", "[]");
  limits.set({.user = "ann"}, "", LimitKind::tokens_per_day, 1'000'000, "test");
  use(project, id, id);
  use(project, key.key.id, id);
  EXPECT_EQ(identity_->remove_user("ann", "test").id, id);

  EXPECT_FALSE(sessions_->find(token_, ""));
  EXPECT_TRUE(principal(key).is_revoked);
  EXPECT_FALSE(sessions_->principal_of(id, project));
  EXPECT_ERROR(sign_in("ann"), unauthenticated, "wrong");
  EXPECT_FALSE(identity_->find_user("ann"));
  EXPECT_FALSE(identity_->find_user(id));
  EXPECT_THAT(identity_->users(), IsEmpty());
  EXPECT_THAT(identity_->members("default"), IsEmpty());
  EXPECT_THAT(limits.list(), IsEmpty());
  EXPECT_ERROR(chats.put(id, "c", "late", "[]"), not_found, "no such user");
  EXPECT_ERROR(identity_->remove_user("ann", "test"), not_found, "no user 'ann'");
  for (const char* table : {"sessions", "project_members", "chats", "limits", "rate_levels"}) {
    EXPECT_EQ(number(std::string("SELECT COUNT(*) FROM ") + table), 0) << table;
  }

  create("ann", Role::viewer);
  const std::string next = identity_->find_user("ann")->id;
  EXPECT_NE(next, id);
  EXPECT_THAT(chats.list(next), IsEmpty());
  EXPECT_THAT(identity_->keys({.user = "ann"}), IsEmpty());
  use(project, next, next);
  std::vector<std::string> used;
  for (const UsageRow& row : usage(*database_, {.by = {UsageBy::key}})) {
    used.push_back(row.key + " " + std::to_string(row.prompt_tokens));
  }
  EXPECT_THAT(used,
              testing::UnorderedElementsAre("ann 7", "ann (removed " + id + ") 7", "ann's 7"));
  const auto removal = identity_->audit_events({.action = "user.remove"});
  ASSERT_EQ(removal.size(), 1u);
  EXPECT_EQ(removal[0].subject, id);
  EXPECT_THAT(removal[0].details, testing::HasSubstr(R"("name":"ann")"));
  // The person at the provider is nobody here any more, and may become somebody.
  EXPECT_ERROR(sessions_->sign_in_as({"https://a.example", "1", "other"}, {}), unauthenticated,
               "may not sign in");
  EXPECT_EQ(sessions_->sign_in_as({"https://a.example", "1", "ann"}, {}).user.id, next);
}

TEST_P(MembersTest, TheOnlyOwnerStays) {
  create("one", Role::owner);
  EXPECT_ERROR(identity_->remove_user("one", "test"), invalid_argument, "only owner");
  create("two", Role::owner);
  identity_->remove_user("one", "test");
  EXPECT_ERROR(identity_->remove_user("two", "test"), invalid_argument, "only owner");
  create("three", Role::owner);
  identity_->change_user("three", {.is_disabled = true}, "test");
  EXPECT_ERROR(identity_->remove_user("two", "test"), invalid_argument, "only owner");
  identity_->remove_user("three", "test");  // who was none any more
  EXPECT_FALSE(sessions_->needs_set_up());
}

TEST_P(MembersTest, ARemovedProjectEndsAndTheNameInheritsNothing) {
  const std::string id = identity_->projects().back().id;
  ASSERT_EQ(identity_->projects().back().name, "search");
  set("search", ProjectRole::developer);
  identity_->create_user("bot", UserKind::service, Role::developer, "search", "test");
  const CreatedKey own = identity_->create_key({.name = "k", .project = "search"}, "test"),
                   ann = key_of_ann("search"), other = key_of_ann("default"),
                   bot = identity_->create_key({.name = "b", .project = "search", .user = "bot"},
                                               "test");
  Limits limits(*database_, [this] { return now_ms_; });
  limits.set({.project = "search"}, "", LimitKind::tokens_per_day, 1'000'000, "test");
  limits.set({.project = "search", .key = "k"}, "", LimitKind::requests_per_minute, 100, "test");
  PromptTemplates templates(*database_, [this] { return now_ms_; });
  templates.create(id, "t", "text", "test");
  Files files(*database_, folder_ / "files", {}, [this] { return now_ms_; });
  Batches batches(*database_, files, [this] { return now_ms_; });
  const ClientFile file = files.add({id, "in", "batch", {}}, "{}");
  const ClientFile kept = files.add({identity_->default_project_id(), "mine", "batch", {}}, "{}");
  const Batch batch = batches.create({.project_id = id,
                                      .key_id = own.key.id,
                                      .endpoint = "/v1/completions",
                                      .input_file_id = file.id});
  use(id, own.key.id, "");

  EXPECT_EQ(identity_->remove_project("search", "test").id, id);
  EXPECT_TRUE(principal(own).is_revoked && principal(ann).is_revoked && principal(bot).is_revoked);
  EXPECT_FALSE(principal(other).is_revoked);
  EXPECT_EQ(role_in("search"), std::nullopt);
  EXPECT_EQ(role_in("search (removed " + id + ")"), std::nullopt);
  EXPECT_FALSE(sessions_->principal_of(identity_->find_user("ann")->id, id));
  EXPECT_FALSE(identity_->find_user("bot"));
  EXPECT_EQ(identity_->projects().size(), 1u);
  EXPECT_THAT(limits.list(), IsEmpty());
  EXPECT_THAT(templates.list(id), IsEmpty());
  EXPECT_ERROR(identity_->remove_project("search", "test"), not_found, "no project 'search'");
  EXPECT_ERROR(identity_->create_key({.name = "late", .project = "search"}, "test"), not_found,
               "search");
  // What servers hold of it goes once its batches have ended.
  EXPECT_EQ(batches.find(id, batch.id).status, BatchStatus::cancelling);
  EXPECT_EQ(files.sweep(), 0);
  batches.finish(batches.find(id, batch.id), BatchStatus::cancelled, 0, 0);
  EXPECT_EQ(batches.sweep(), 1);
  EXPECT_EQ(files.sweep(), 1);
  EXPECT_ERROR(files.open_bytes(file.id), not_found, "gone");
  EXPECT_EQ(files.find(kept.project_id, kept.id).id, kept.id);

  const std::string next = identity_->create_project("search", 1, "test").id;
  EXPECT_NE(next, id);
  EXPECT_EQ(role_in("search"), std::nullopt);
  EXPECT_THAT(identity_->members("search"), IsEmpty());
  EXPECT_THAT(identity_->keys({.project = "search"}), IsEmpty());
  EXPECT_THAT(usage(*database_, {.project = "search"}), IsEmpty());
  const std::string name = "search (removed " + id + ")";
  EXPECT_TRUE(identity_->has_had_project(name));
  const auto rows = usage(*database_, {.by = {UsageBy::project, UsageBy::key}});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].project, name);
  EXPECT_EQ(rows[0].key, "k");
  EXPECT_EQ(usage(*database_, {.project = name}).size(), 1u);
  EXPECT_ERROR(identity_->remove_project("default", "test"), invalid_argument, "stays");
}

// As it was before there were members.
class OlderDatabase : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (location().empty()) return;
    run("CREATE TABLE schema_steps (version BIGINT PRIMARY KEY, name TEXT NOT NULL, taken_at_ms "
        "BIGINT NOT NULL)");
    for (const SchemaStep& step : schema_steps()) {
      if (step.name == "members") break;
      std::string text(step.sql);
      const std::string counter = "{counter}";
      if (const std::size_t at = text.find(counter); at != text.npos) {
        text.replace(at, counter.size(),
                     is_sqlite() ? "INTEGER PRIMARY KEY AUTOINCREMENT"
                                 : "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
      }
      for (std::size_t end; (end = text.find(";\n")) != text.npos; text.erase(0, end + 2)) {
        run(text.substr(0, end));
      }
      run(fmt::format("INSERT INTO schema_steps VALUES ({}, '{}', 0)", step.version, step.name));
    }
    run("INSERT INTO organisations VALUES ('org', 'default', 1)");
  }
  void run(const std::string& statement) {
    if (!raw_) raw_ = raw_session();
    *raw_ << statement;
  }
  void add_user(const std::string& name, const std::string& role,
                const std::string& service_of = "") {
    run(
        fmt::format("INSERT INTO users (id, organisation_id, project_id, kind, name, role, "
                    "created_at_ms) VALUES ('{0}', 'org', {1}, '{2}', '{0}', '{3}', 5)",
                    name, service_of.empty() ? "NULL" : "'" + service_of + "'",
                    service_of.empty() ? "person" : "service", role));
  }
  void add_key(const std::string& user, const std::string& project, const std::string& expires,
               const std::string& revoked = "NULL") {
    const std::string id = fmt::format("key{}", ++keys_);
    run(
        fmt::format("INSERT INTO api_keys (id, project_id, user_id, name, hint, hash, scopes, "
                    "models, addresses, created_at_ms, expires_at_ms, revoked_at_ms) VALUES "
                    "('{0}', '{1}', '{2}', '{0}', '', '{0}', '[]', '[]', '[]', 7, {3}, {4})",
                    id, project, user, expires, revoked));
  }
  // "ann:developer" of each.
  static std::vector<std::string> members_in(Identity& identity, const std::string& project) {
    std::vector<std::string> members;
    for (const Member& each : identity.members(project)) {
      members.push_back(each.user + ":" + std::string(name(each.role)));
    }
    return members;
  }

 private:
  std::unique_ptr<soci::session> raw_;
  int keys_ = 0;
};
INSTANTIATE_ON_BOTH_DATABASES(OlderDatabase);

TEST_P(OlderDatabase, LetsEverybodyDoWhatTheyDid) {
  for (const char* project : {"default", "search", "maps", "past"}) {
    run(fmt::format(
        "INSERT INTO projects (id, organisation_id, name, weight, created_at_ms) VALUES "
        "('{0}', 'org', '{0}', 1, 3)",
        project));
  }
  add_user("ann", "developer");
  add_user("root", "admin");
  add_user("vera", "viewer");
  add_user("bot", "developer", "search");
  const int64_t hour_ms = 3'600'000, now_ms = Identity::wall_clock_ms();
  add_key("ann", "search", "NULL");
  add_key("ann", "search", "NULL");  // two are one membership
  add_key("ann", "maps", std::to_string(now_ms + hour_ms));
  add_key("ann", "past", std::to_string(now_ms - hour_ms));
  add_key("ann", "past", "NULL", "9");
  add_key("vera", "search", "NULL");
  add_key("ann", "default", "NULL");
  add_key("bot", "search", "NULL");
  Database database(location());
  Identity identity(database);
  EXPECT_THAT(members_in(identity, "default"),
              ElementsAre("ann:developer", "root:developer", "vera:viewer"));
  EXPECT_THAT(members_in(identity, "search"), ElementsAre("ann:developer", "vera:viewer"));
  EXPECT_THAT(members_in(identity, "maps"), ElementsAre("ann:developer"));
  EXPECT_THAT(members_in(identity, "past"), IsEmpty()) << "no key of it works";
  EXPECT_TRUE(identity.principal_of("key1") && identity.principal_of("key8"));
  EXPECT_EQ(Sessions(database).projects_of("root").size(), 4u);
}

TEST_P(OlderDatabase, HasAProjectThatNobodyHadNeededYet) {
  add_user("ann", "developer");
  Database database(location());
  Identity identity(database);
  EXPECT_EQ(identity.default_project_id(), "proj_first");
  EXPECT_THAT(members_in(identity, "default"), ElementsAre("ann:developer"));
}

TEST_P(OlderDatabase, MayHaveNobody) {
  Database database(location());
  EXPECT_THAT(Identity(database).projects(), IsEmpty());
}

}  // namespace
}  // namespace ridge::platform::members_test
