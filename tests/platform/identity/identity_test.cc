#include "platform/identity/identity.h"

#include <soci/soci.h>

#include <memory>

#include "platform/identity/identity_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::identity_test {
namespace {

constexpr int64_t day_ms = 24 * 3600 * 1000;

class IdentityTest : public IdentityFixture {
 protected:
  CreatedKey create(const NewKey& wanted) { return identity_->create_key(wanted, "cli:test"); }
  std::optional<Principal> find(const ApiKeyText& text) {
    return identity_->find_principal(text.hash()).principal;
  }
};
INSTANTIATE_ON_BOTH_DATABASES(IdentityTest);

TEST_P(IdentityTest, FindsAKeyByItsHashWithItsProjectAndRights) {
  const Project project = identity_->create_project("research", 2.5, "cli:test");
  const CreatedKey created =
      create({.name = "laptop",
              .project = "research",
              .rights = {.scopes = {Scope::inference, Scope::metrics},
                         .models = {"smollm2:135m"},
                         .addresses = {AddressRange::parse_or_throw("10.0.0.0/8")}},
              .lifetime_ms = 30 * day_ms});
  const auto principal = find(created.text);
  ASSERT_TRUE(principal);
  EXPECT_EQ(principal->key_id, created.key.id);
  EXPECT_EQ(principal->project_id, project.id);
  EXPECT_EQ(principal->project_weight, 2.5);
  EXPECT_TRUE(principal->rights.has(Scope::metrics));
  EXPECT_FALSE(principal->rights.has(Scope::admin));
  EXPECT_TRUE(principal->rights.allows_model("smollm2:135m"));
  EXPECT_FALSE(principal->rights.allows_model("other"));
  EXPECT_TRUE(principal->rights.allows_address("10.9.8.7"));
  EXPECT_FALSE(principal->rights.allows_address("11.9.8.7"));
  EXPECT_EQ(principal->expires_at_ms, now_ms_ + 30 * day_ms);
  EXPECT_FALSE(find(ApiKeyText::generate()));
}

TEST_P(IdentityTest, KeepsNoKeyInTheDatabase) {
  const CreatedKey created = create({.name = "laptop"});
  const std::string secret = created.text.text().substr(created.key.hint.size());
  const auto session = raw_session();
  for (const std::string table : {"api_keys", "audit_events"}) {
    soci::rowset<soci::row> rows = (session->prepare << "SELECT * FROM " << table);
    for (const soci::row& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (row.get_indicator(i) == soci::i_null) continue;
        if (row.get_properties(i).get_data_type() != soci::dt_string) continue;
        EXPECT_EQ(row.get<std::string>(i).find(secret), std::string::npos) << table;
      }
    }
  }
}

TEST_P(IdentityTest, HasADefaultProjectAndNoOtherThatNobodyMade) {
  EXPECT_EQ(create({.name = "a"}).key.project, "default");
  EXPECT_EQ(create({.name = "b"}).key.project, "default");
  EXPECT_EQ(identity_->projects().size(), 1u);
  EXPECT_ERROR(create({.name = "c", .project = "none"}), not_found, "ridge project create none");
}

TEST_P(IdentityTest, KeepsNamesUnique) {
  identity_->create_project("p", 1, "cli:test");
  EXPECT_ERROR(identity_->create_project("p", 1, "cli:test"), already_exists, "already");
  identity_->create_user("u", UserKind::person, Role::viewer, "", "cli:test");
  EXPECT_ERROR(identity_->create_user("u", UserKind::person, Role::owner, "", "cli:test"),
               already_exists, "already");
  create({.name = "k"});
  EXPECT_ERROR(create({.name = "k"}), already_exists, "already");
  create({.name = "k", .project = "p"});  // another project's
  identity_->revoke_keys({"k"}, "cli:test");
  create({.name = "k"});
}

TEST_P(IdentityTest, TakesTheNameOfAnExpiredKeyAgain) {
  create({.name = "k", .lifetime_ms = 1000});
  now_ms_ += 1000;
  EXPECT_NE(create({.name = "k"}).key.id, "");
}

TEST_P(IdentityTest, RefusesBadNamesAndValues) {
  for (const std::string& bad :
       {std::string(), std::string("a\nb"), std::string(101, 'x'), std::string(" a"),
        std::string("\xff\xfe"), std::string("a\0b", 3)}) {
    EXPECT_ERROR(create({.name = bad}), invalid_argument, "name of a key");
    EXPECT_ERROR(identity_->create_project(bad, 1, "cli:test"), invalid_argument, "name");
  }
  EXPECT_EQ(create({.name = "研究 O'Brien"}).key.name, "研究 O'Brien");
  EXPECT_ERROR(identity_->create_project("p", 0, "cli:test"), invalid_argument, "weight");
  EXPECT_ERROR(create({.name = "k", .rights = {.scopes = {}}}), invalid_argument, "scope");
  EXPECT_ERROR(create({.name = "k", .lifetime_ms = 0}), invalid_argument, "lives");
  EXPECT_ERROR(create({.name = "k", .user = "nobody"}), not_found, "nobody");
  EXPECT_TRUE(identity_->users().empty());
}

TEST_P(IdentityTest, GivesNoKeyMoreRightsThanItsOwnerHas) {
  identity_->create_user("vera", UserKind::person, Role::viewer, "", "cli:test");
  EXPECT_ERROR(create({.name = "k", .user = "vera"}), invalid_argument, "viewer");
  identity_->create_user("dev", UserKind::person, Role::developer, "", "cli:test");
  EXPECT_ERROR(create({.name = "k", .user = "dev", .rights = {.scopes = {Scope::admin}}}),
               invalid_argument, "admin");
  identity_->create_user("root", UserKind::person, Role::owner, "", "cli:test");
  const CreatedKey key =
      create({.name = "k", .user = "root", .rights = {.scopes = {Scope::inference, Scope::admin}}});
  EXPECT_TRUE(find(key.text)->rights.has(Scope::admin));
  // A role that is taken away later takes its keys' rights with it.
  *raw_session() << "UPDATE users SET role = 'viewer' WHERE name = 'root'";
  EXPECT_FALSE(find(key.text)->rights.has(Scope::admin));
  EXPECT_FALSE(find(key.text)->rights.has(Scope::inference));
}

TEST_P(IdentityTest, KeepsAServicesKeysInItsProject) {
  identity_->create_project("p", 1, "cli:test");
  identity_->create_user("bot", UserKind::service, Role::developer, "p", "cli:test");
  EXPECT_ERROR(create({.name = "k", .user = "bot"}), invalid_argument, "service of project 'p'");
  EXPECT_EQ(create({.name = "k", .project = "p", .user = "bot"}).key.user, "bot");
  EXPECT_ERROR(identity_->create_user("b", UserKind::service, Role::viewer, "", "cli:test"),
               invalid_argument, "service");
}

TEST_P(IdentityTest, RevokesByNameAndById) {
  const CreatedKey a = create({.name = "a"}), b = create({.name = "b"});
  EXPECT_EQ(identity_->revoke_keys({"a"}, "cli:test").size(), 1u);
  EXPECT_TRUE(find(a.text)->is_revoked);
  EXPECT_FALSE(find(b.text)->is_revoked);
  identity_->revoke_keys({b.key.id}, "cli:test");
  EXPECT_TRUE(find(b.text)->is_revoked);
  EXPECT_ERROR(identity_->revoke_keys({"a"}, "cli:test"), not_found, "ridge key list");
  EXPECT_EQ(identity_->keys().size(), 2u);
}

TEST_P(IdentityTest, DisablesAUsersKeysWithTheUser) {
  identity_->create_user("dev", UserKind::person, Role::developer, "", "cli:test");
  const CreatedKey key = create({.name = "k", .user = "dev"});
  identity_->change_user("dev", {.is_disabled = true}, "cli:test");
  EXPECT_TRUE(find(key.text)->is_revoked);
  EXPECT_ERROR(create({.name = "other", .user = "dev"}), invalid_argument, "disabled");
  EXPECT_TRUE(identity_->users().front().disabled_at_ms);
}

TEST_P(IdentityTest, RotatesAtOnceOrWithAGrace) {
  const CreatedKey first = create({.name = "k", .lifetime_ms = 10 * day_ms});
  now_ms_ += day_ms;
  const CreatedKey second = identity_->rotate_key({"k"}, 1000, "cli:test");
  EXPECT_EQ(second.key.name, "k");
  EXPECT_EQ(second.key.expires_at_ms, now_ms_ + 10 * day_ms);
  EXPECT_EQ(find(first.text)->expires_at_ms, now_ms_ + 1000);
  EXPECT_FALSE(find(first.text)->is_revoked);
  const CreatedKey third = identity_->rotate_key({"k"}, 0, "cli:test");
  EXPECT_TRUE(find(second.text)->is_revoked);
  EXPECT_FALSE(find(third.text)->is_revoked);
  EXPECT_ERROR(identity_->rotate_key({first.key.id}, 0, "cli:test"), invalid_argument, "rotated");
  // The first one is still in its grace, and goes with its name.
  EXPECT_EQ(identity_->revoke_keys({"k"}, "cli:test").size(), 2u);
}

TEST_P(IdentityTest, ChangesRolesAndWeightsAtOnce) {
  identity_->create_project("p", 1, "cli:test");
  identity_->create_user("dev", UserKind::person, Role::admin, "", "cli:test");
  const CreatedKey key = create({.name = "k",
                                 .project = "p",
                                 .user = "dev",
                                 .rights = {.scopes = {Scope::inference, Scope::admin}}});
  identity_->set_member("p", "dev", ProjectRole::developer, "cli:test");  // for later
  EXPECT_EQ(identity_->set_weight("p", 2.5, "cli:test").weight, 2.5);
  EXPECT_EQ(find(key.text)->project_weight, 2.5);
  EXPECT_ERROR(identity_->set_weight("p", 100.5, "cli:test"), invalid_argument, "weight");
  EXPECT_ERROR(identity_->set_weight("none", 1, "cli:test"), not_found, "none");
  EXPECT_EQ(identity_->change_user("dev", {.role = Role::developer}, "cli:test").role,
            Role::developer);
  EXPECT_FALSE(find(key.text)->rights.has(Scope::admin));
  EXPECT_TRUE(find(key.text)->rights.has(Scope::inference));
  identity_->change_user("dev", {.role = Role::viewer, .is_disabled = true}, "cli:test");
  EXPECT_TRUE(find(key.text)->is_revoked);
  const int64_t before = identity_->revision();
  identity_->change_user("dev", {.role = Role::viewer, .is_disabled = true}, "cli:test");
  EXPECT_EQ(identity_->revision(), before);  // nothing has changed
  EXPECT_FALSE(identity_->change_user("dev", {.is_disabled = false}, "cli:test").disabled_at_ms);
  EXPECT_FALSE(find(key.text)->is_revoked);
  EXPECT_EQ(identity_->find_user("dev")->role, Role::viewer);
  EXPECT_FALSE(identity_->find_user("nobody"));
  EXPECT_ERROR(identity_->change_user("nobody", {}, "cli:test"), not_found, "nobody");
}

TEST_P(IdentityTest, ListsKeysInPagesOfAProjectOrUser) {
  identity_->create_project("p", 1, "cli:test");
  identity_->create_user("dev", UserKind::person, Role::developer, "", "cli:test");
  identity_->set_member("p", "dev", ProjectRole::developer, "cli:test");
  std::vector<std::string> ids;  // all of one millisecond
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    const bool is_dev = *name != 'a';
    create({.name = name, .project = *name < 'd' ? "default" : "p", .user = is_dev ? "dev" : ""});
  }
  for (std::string after;;) {
    const std::vector<ApiKey> page = identity_->keys({.after = after, .most = 2});
    for (const ApiKey& key : page) ids.push_back(key.id);
    if (page.size() < 2) break;
    after = page.back().id;
  }
  std::vector<std::string> all;
  for (const ApiKey& key : identity_->keys()) all.push_back(key.id);
  EXPECT_EQ(all.size(), 5u);
  EXPECT_EQ(ids, all);
  EXPECT_EQ(identity_->keys({.project = "p"}).size(), 2u);
  EXPECT_EQ(identity_->keys({.user = "dev"}).size(), 4u);
  EXPECT_EQ(identity_->keys({.project = "default", .user = "dev"}).size(), 2u);
  EXPECT_TRUE(identity_->keys({.after = "none"}).empty());
  for (const std::string& bad : {std::string("\xff"), all[2] + '\0' + "x"}) {
    EXPECT_TRUE(identity_->keys({.project = bad}).empty());
    EXPECT_TRUE(identity_->keys({.after = bad}).empty());
    EXPECT_FALSE(identity_->find_key(bad));
  }
  EXPECT_EQ(identity_->find_key(all[2])->id, all[2]);
  EXPECT_FALSE(identity_->find_key("none"));
}

TEST_P(IdentityTest, TellsOfEarlierChangesPageByPage) {
  for (int i = 0; i < 5; ++i) identity_->create_project(std::to_string(i), 1, "cli:test");
  const std::vector<AuditEvent> first = identity_->audit_events(2);
  const std::vector<AuditEvent> next = identity_->audit_events(10, first.back().number);
  ASSERT_EQ(next.size(), 3u);
  EXPECT_LT(next.front().number, first.back().number);
  EXPECT_TRUE(identity_->audit_events(10, next.back().number).empty());
}

TEST_P(IdentityTest, FindsChangesByTextActionAndTime) {
  identity_->create_project("Search 100%", 1, "user:ann");
  now_ms_ += 1000;
  identity_->create_project("search_x", 1, "user:ben");
  identity_->create_user("eve", UserKind::person, Role::viewer, "", "user:ann");
  const auto found = [&](AuditQuery query) {
    std::vector<std::string> actors;
    for (const AuditEvent& event : identity_->audit_events(query)) {
      actors.push_back(event.actor + " " + event.action);
    }
    return actors;
  };
  using testing::ElementsAre;
  const std::string by_ben = "user:ben project.create", by_ann = "user:ann project.create";
  EXPECT_THAT(found({.text = "SEARCH"}), ElementsAre(by_ben, by_ann));
  EXPECT_THAT(found({.text = "search", .action = "user.create"}), ElementsAre());
  EXPECT_THAT(found({.text = "100%"}), ElementsAre(by_ann));
  EXPECT_THAT(found({.text = "h_x"}), ElementsAre(by_ben)) << "'_' stands for itself";
  EXPECT_THAT(found({.text = "!"}), ElementsAre());
  EXPECT_THAT(found({.text = "user:ann"}), ElementsAre("user:ann user.create", by_ann));
  EXPECT_THAT(found({.most = 1, .text = "user:ann"}), ElementsAre("user:ann user.create"));
  // The default project was made with the first user.
  EXPECT_THAT(found({.action = "project.create"}),
              ElementsAre("ridge project.create", by_ben, by_ann));
  EXPECT_THAT(found({.text = "search", .from_ms = now_ms_}), ElementsAre(by_ben));
  EXPECT_THAT(found({.text = "search", .until_ms = now_ms_}), ElementsAre(by_ann));
}

TEST_P(IdentityTest, RecordsEveryChangeOnceAndCountsIt) {
  (void)identity_->default_project_id();  // which is made once it is needed
  const int64_t before = identity_->revision();
  identity_->create_project("p", 1, "cli:alice");
  identity_->create_user("u", UserKind::person, Role::admin, "", "cli:alice");
  const CreatedKey key = create({.name = "k", .project = "p"});
  identity_->rotate_key({"k", "p"}, 0, "cli:alice");
  identity_->revoke_keys({"k", "p"}, "cli:alice");
  identity_->change_user("u", {.is_disabled = true}, "cli:alice");
  EXPECT_ERROR(identity_->create_project("p", 1, "cli:alice"), already_exists, "already");
  EXPECT_EQ(identity_->revision(), before + 6);
  const std::vector<AuditEvent> events = identity_->audit_events(100);
  std::vector<std::string> actions;
  for (const AuditEvent& event : events) actions.push_back(event.action);
  EXPECT_THAT(actions,
              testing::ElementsAre("user.disable", "key.revoke", "key.rotate", "key.create",
                                   "user.create", "project.create", "project.create"));
  EXPECT_EQ(events.back().actor, "ridge");
  EXPECT_EQ(events[5].actor, "cli:alice");
  EXPECT_EQ(events.back().at_ms, now_ms_);
  EXPECT_EQ(events[3].subject, key.key.id);
  EXPECT_EQ(identity_->audit_events(2).size(), 2u);
}

}  // namespace
}  // namespace ridge::platform::identity_test
