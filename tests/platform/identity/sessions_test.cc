#include "platform/identity/sessions.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include <memory>

#include "platform/identity/identity_fixture.h"
#include "platform/identity/password.h"
#include "platform/throws.h"

namespace ridge::platform::sessions_test {
namespace {

const std::string right = "correct horse", wrong = "battery staple";

TEST(Password, IsArgon2idWithTheParametersThatAreStated) {
  const std::string hash = hash_password(right);
  EXPECT_THAT(hash, testing::StartsWith("$argon2id$v=19$m=19456,t=2,p=1$"));
  EXPECT_NE(hash, hash_password(right));  // the salt
  EXPECT_TRUE(verify_password(hash, right));
  EXPECT_FALSE(verify_password(hash, wrong));
}

TEST(Password, ReadsWhatTheReferenceImplementationWrites) {
  // By argon2-cffi 25.1.0, which wraps the authors' own code.
  const std::string theirs =
      "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$"
      "rE6wouwGR/6V5SX2oh41EQIZ7nN8gsYZyUZvhRQhULA";
  EXPECT_TRUE(verify_password(theirs, "Grüße, κόσμε 42"));
  EXPECT_FALSE(verify_password(theirs, "Grüße, κόσμε 43"));
}

TEST(Password, RefusesWhatIsNone) {
  EXPECT_ERROR(hash_password("ninechars"), invalid_argument, "10 to 1024 bytes");
  EXPECT_ERROR(hash_password(std::string(1025, 'x')), invalid_argument, "10 to 1024 bytes");
  EXPECT_ERROR(hash_password("ten bytes \xff"), invalid_argument, "UTF-8");
  for (const char* damaged : {"", "$", "$argon2id$v=19$m=19456,t=2,p=1$", "plain text password"}) {
    EXPECT_FALSE(verify_password(damaged, damaged)) << damaged;
  }
  EXPECT_FALSE(verify_password(std::string(1000, '$'), right));
}

class SessionsTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (location().empty()) return;
    sessions_ = std::make_unique<Sessions>(*database_, options_, [this] { return now_ms_; });
    create("ann", Role::developer);
    sessions_->set_password("ann", right, "", "test");
  }

  void create(const std::string& name, Role role) {
    identity_->create_user(name, UserKind::person, role, "", "test");
  }
  std::string sign_in(const std::string& name = "ann", const std::string& password = right) {
    return sessions_->sign_in(name, password).token;
  }
  bool is_in(const std::string& token) { return sessions_->find(token, "").has_value(); }

  SessionOptions options_{.most_of_user = 3};
  std::unique_ptr<Sessions> sessions_;
};
INSTANTIATE_ON_BOTH_DATABASES(SessionsTest);

TEST_P(SessionsTest, SignInWithTheRightPasswordAlone) {
  const auto found = sessions_->find(sign_in(), "");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->is_session);
  EXPECT_EQ(found->user_name, "ann");
  EXPECT_EQ(found->role, Role::developer);
  EXPECT_EQ(found->project_name, "default");
  EXPECT_EQ(found->key_id, found->user_id);
  EXPECT_TRUE(found->rights.has(Scope::inference));
  EXPECT_FALSE(found->rights.has(Scope::admin));
  create("bob", Role::owner);  // without a password
  identity_->create_user("bot", UserKind::service, Role::developer, "default", "test");
  EXPECT_ERROR(sessions_->set_password("bot", right, "", "test"), invalid_argument, "service");
  // Each in the same words, so that none tells which names there are.
  for (const char* name : {"ann", "bob", "bot", "none", ""}) {
    EXPECT_ERROR(sign_in(name, wrong), unauthenticated, "the name or the password is wrong");
  }
  EXPECT_ERROR(sign_in("bob", ""), unauthenticated, "the name or the password is wrong");
}

TEST_P(SessionsTest, KeepNoSecret) {
  const std::string token = sign_in(), link = *sessions_->new_set_up_link();
  const auto session = raw_session();
  for (const std::string table : {"sessions", "users", "set_up_links", "audit_events"}) {
    soci::rowset<soci::row> rows = (session->prepare << "SELECT * FROM " << table);
    for (const soci::row& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (row.get_indicator(i) == soci::i_null) continue;
        if (row.get_properties(i).get_data_type() != soci::dt_string) continue;
        const auto value = row.get<std::string>(i);
        for (const std::string& secret : {token, link, right, Sessions::csrf_token(token)}) {
          EXPECT_EQ(value.find(secret), std::string::npos) << table;
        }
      }
    }
  }
}

TEST_P(SessionsTest, EndByThemselves) {
  const int64_t hour_ms = 3'600'000;
  const std::string idle = sign_in();
  now_ms_ += options_.idle.count() - 1;
  EXPECT_TRUE(is_in(idle));  // which is a use
  now_ms_ += options_.idle.count() - 1;
  EXPECT_TRUE(is_in(idle));
  now_ms_ += options_.idle.count();
  EXPECT_FALSE(is_in(idle));
  const std::string busy = sign_in();
  for (int64_t used_ms = 0; used_ms < options_.longest.count(); used_ms += hour_ms) {
    EXPECT_TRUE(is_in(busy));
    now_ms_ += hour_ms;
  }
  EXPECT_FALSE(is_in(busy));
}

TEST_P(SessionsTest, AreInTheAuditLogWithWhereTheyComeFrom) {
  const std::string token = sessions_->sign_in("ann", right, "203.0.113.7").token;
  sessions_->sign_out(token, "203.0.113.8");
  sessions_->sign_out(token, "203.0.113.8");  // of nobody any more
  sessions_->record_refusal("ann", "password", "198.51.100.1", 0);
  sessions_->record_refusal("Passw0rd-typed-here", "password", "198.51.100.1", 17);
  const auto events = identity_->audit_events(4);
  ASSERT_EQ(events.size(), 4u);
  const std::string ann = identity_->find_user("ann")->id;
  EXPECT_EQ(events[0].action, "session.refuse");
  EXPECT_EQ(events[0].subject, "");
  EXPECT_EQ(events[0].details, R"({"address":"198.51.100.1","by":"password","others":17})");
  EXPECT_EQ(events[1].action, "session.refuse");
  EXPECT_EQ(events[1].actor, "nobody");
  EXPECT_EQ(events[1].subject, ann);
  EXPECT_EQ(events[1].details, R"({"address":"198.51.100.1","by":"password","name":"ann"})");
  EXPECT_EQ(events[2].action, "session.end");
  EXPECT_EQ(events[2].actor, "user:ann");
  EXPECT_EQ(events[2].details, R"({"address":"203.0.113.8"})");
  EXPECT_EQ(events[3].action, "session.begin");
  EXPECT_EQ(events[3].subject, ann);
  EXPECT_EQ(events[3].details, R"({"address":"203.0.113.7","by":"password"})");
}

TEST_P(SessionsTest, EndWhenAskedTo) {
  const std::string one = sign_in(), other = sign_in();
  sessions_->sign_out(one);
  EXPECT_FALSE(is_in(one));
  EXPECT_TRUE(is_in(other));
  for (const std::string& none : {std::string(), std::string("x"), std::string(43, 'a'), one}) {
    EXPECT_FALSE(is_in(none));
  }
}

TEST_P(SessionsTest, EndWithThePasswordButForOne) {
  const std::string mine = sign_in(), stolen = sign_in();
  sessions_->set_password("ann", wrong, mine, "user:ann");
  EXPECT_TRUE(is_in(mine));
  EXPECT_FALSE(is_in(stolen));
  EXPECT_ERROR(sign_in("ann", right), unauthenticated, "wrong");
  EXPECT_TRUE(is_in(sign_in("ann", wrong)));
  EXPECT_EQ(identity_->audit_events(2).back().action, "user.password");
}

TEST_P(SessionsTest, EndWithTheUser) {
  const std::string token = sign_in();
  identity_->change_user("ann", {.is_disabled = true}, "test");
  EXPECT_FALSE(is_in(token));
  EXPECT_ERROR(sign_in(), unauthenticated, "wrong");
  EXPECT_FALSE(sessions_->is_password("ann", right));
}

TEST_P(SessionsTest, LeaveAnOwner) {
  create("one", Role::owner);
  const UserChange disable{.is_disabled = true}, demote{.role = Role::admin};
  EXPECT_ERROR(identity_->change_user("one", disable, "test"), invalid_argument, "only owner");
  EXPECT_ERROR(identity_->change_user("one", demote, "test"), invalid_argument, "only owner");
  create("two", Role::owner);
  identity_->change_user("one", disable, "test");
  EXPECT_ERROR(identity_->change_user("two", disable, "test"), invalid_argument, "only owner");
  EXPECT_ERROR(identity_->change_user("two", demote, "test"), invalid_argument, "only owner");
  identity_->change_user("one", demote, "test");  // who was none any more
  identity_->change_user("one", {.role = Role::owner, .is_disabled = false}, "test");
  EXPECT_EQ(identity_->change_user("two", demote, "test").role, Role::admin);
}

TEST_P(SessionsTest, SignInWhomAProviderKnows) {
  const auto as = [&](const std::string& name, std::optional<Role> create_role = {}) {
    return sessions_->sign_in_as({"https://a.example", "of " + name, name}, create_role);
  };
  EXPECT_EQ(sessions_->find(as("ann").token, "")->role, Role::developer);
  EXPECT_ERROR(as("new"), unauthenticated, "'new' may not sign in");
  EXPECT_EQ(as("new", Role::viewer).user.role, Role::viewer);
  EXPECT_EQ(as("ann", Role::viewer).user.role, Role::developer);
  identity_->create_user("bot", UserKind::service, Role::developer, "default", "test");
  EXPECT_ERROR(as("bot", Role::viewer), unauthenticated, "may not sign in");
  identity_->change_user("ann", {.is_disabled = true}, "test");
  EXPECT_ERROR(as("ann", Role::viewer), unauthenticated, "may not sign in");
  EXPECT_ERROR(as(" ", Role::viewer), invalid_argument, "name of a user");
}

TEST_P(SessionsTest, KnowAPersonOfAProviderByTheSubject) {
  const std::string a = "https://a.example", b = "https://b.example";
  const std::string token = sessions_->sign_in_as({a, "1", "ann"}, {}).token;
  EXPECT_EQ(identity_->find_user("ann")->oidc_subject, "1");
  EXPECT_EQ(identity_->audit_events({.action = "user.link"}).front().actor, "user:ann");
  // Another name is still ann, and does not become another user.
  EXPECT_EQ(sessions_->sign_in_as({a, "1", "anna"}, Role::admin).user.name, "ann");
  EXPECT_FALSE(identity_->find_user("anna"));
  // Whoever gets the name is somebody else, also at another provider.
  EXPECT_ERROR(sessions_->sign_in_as({a, "2", "ann"}, Role::admin), unauthenticated,
               "ridge user unlink ann");
  EXPECT_ERROR(sessions_->sign_in_as({b, "1", "ann"}, Role::admin), unauthenticated,
               "somebody else");
  EXPECT_EQ(identity_->audit_events({.action = "user.link"}).size(), 1u);
  // Until an admin says so.
  EXPECT_TRUE(is_in(token));
  identity_->change_user("ann", {.forgets_provider = true}, "test");
  EXPECT_FALSE(is_in(token));
  EXPECT_EQ(identity_->find_user("ann")->oidc_issuer, "");
  EXPECT_EQ(sessions_->sign_in_as({b, "7", "ann"}, {}).user.name, "ann");
  EXPECT_ERROR(sessions_->sign_in_as({a, "1", "ann"}, {}), unauthenticated, "somebody else");
  // Two who are made have their own.
  EXPECT_EQ(sessions_->sign_in_as({a, "8", "eve"}, Role::viewer).user.name, "eve");
  EXPECT_ERROR(sessions_->sign_in_as({a, "9", "eve"}, Role::viewer), unauthenticated, "somebody");
}

TEST_P(SessionsTest, AreBoundedForEachUser) {
  const std::string first = sign_in();
  ++now_ms_;
  const std::string second = sign_in();
  ++now_ms_;
  const std::string third = sign_in();
  EXPECT_TRUE(is_in(first));
  ++now_ms_;
  const std::string fourth = sign_in();
  EXPECT_FALSE(is_in(first));
  EXPECT_TRUE(is_in(second) && is_in(third) && is_in(fourth));
}

TEST_P(SessionsTest, ActForProjectsOfTheUser) {
  identity_->create_project("search", 2, "test");
  create("root", Role::admin);
  sessions_->set_password("root", right, "", "test");
  const std::string ann = sign_in(), root = sign_in("root");
  EXPECT_ERROR(sessions_->find(ann, "search"), not_found, "no project 'search' of yours");
  EXPECT_ERROR(sessions_->find(ann, "none"), not_found, "no project 'none' of yours");
  EXPECT_ERROR(sessions_->find(root, "none"), not_found, "no project 'none' of yours");
  EXPECT_EQ(sessions_->find(root, "search")->project_weight, 2);
  identity_->set_member("search", "ann", ProjectRole::viewer, "test");
  EXPECT_EQ(sessions_->find(ann, "search")->project_name, "search");
  identity_->remove_member("search", "ann", "test");
  EXPECT_ERROR(sessions_->find(ann, "search"), not_found, "no project");
}

TEST_P(SessionsTest, BeginWithAnOwnerBySetUp) {
  EXPECT_TRUE(sessions_->needs_set_up());
  const auto late = sessions_->new_set_up_link();
  now_ms_ += options_.set_up_link.count();
  const auto link = sessions_->new_set_up_link(), other = sessions_->new_set_up_link();
  ASSERT_TRUE(link && other);
  EXPECT_ERROR(sessions_->set_up("guess", "root", right), unauthenticated, "used up or too old");
  EXPECT_ERROR(sessions_->set_up(*late, "root", right), unauthenticated, "used up or too old");
  EXPECT_ERROR(sessions_->set_up(*link, "ann", right), already_exists, "no owner");
  EXPECT_ERROR(sessions_->set_up(*link, "root", "short"), invalid_argument, "10 to 1024");
  EXPECT_ERROR(sessions_->set_up(*link, " ", right), invalid_argument, "name of a user");
  const NewSession begun = sessions_->set_up(*link, "root", right);
  EXPECT_EQ(sessions_->find(begun.token, "")->role, Role::owner);
  EXPECT_FALSE(sessions_->needs_set_up());
  EXPECT_FALSE(sessions_->new_set_up_link());
  for (const std::string& used : {*link, *other}) {
    EXPECT_ERROR(sessions_->set_up(used, "eve", right), unauthenticated, "used up");
  }
  EXPECT_TRUE(is_in(sign_in("root")));
}

TEST_P(SessionsTest, SetUpAnOwnerWhoHadNoPassword) {
  create("boss", Role::owner);
  EXPECT_TRUE(sessions_->needs_set_up());
  sessions_->set_up(*sessions_->new_set_up_link(), "boss", right);
  EXPECT_EQ(sessions_->find(sign_in("boss"), "")->role, Role::owner);
}

}  // namespace
}  // namespace ridge::platform::sessions_test
