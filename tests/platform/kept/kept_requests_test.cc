#include "platform/kept/kept_requests.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/comes_true.h"
#include "platform/identity/identity_fixture.h"
#include "platform/kept/request_keeper.h"
#include "platform/throws.h"

namespace ridge::platform::kept_requests_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t one_day_ms = 86'400'000;

class KeptRequestsTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!identity_) return;
    ours_ = identity_->create_project("ours", 1, "test").id;
    theirs_ = identity_->create_project("theirs", 1, "test").id;
  }

  KeptRequest request(const std::string& id, const std::string& project_id, int64_t age_ms = 0) {
    return {.request_id = id,
            .project_id = project_id,
            .key_id = "key_1",
            .key = "ci",
            .model = "m",
            .endpoint = "/v1/completions",
            .at_ms = database_->now_ms() - age_ms,
            .finish_reason = "stop",
            .prompt = R"({"prompt":"')" + id + R"(' 汉字"})",
            .answer = R"([{"content":"answer"}])"};
  }
  int add(KeptRequest request) { return KeptRequests(*database_).add(std::span(&request, 1)); }
  std::vector<std::string> ids(const KeptQuery& query = {}) {
    std::vector<std::string> ids;
    for (const auto& each : KeptRequests(*database_).list(query)) ids.push_back(each.request_id);
    return ids;
  }
  Project project(const std::string& name) {
    for (const Project& each : identity_->projects()) {
      if (each.name == name) return each;
    }
    return {};
  }

  std::string ours_, theirs_;
};
INSTANTIATE_ON_BOTH_DATABASES(KeptRequestsTest);

TEST_P(KeptRequestsTest, AreNoneUnlessTheProjectHasChosenIt) {
  EXPECT_EQ(add(request("a", ours_)), 0);
  EXPECT_EQ(project("ours").keep_days, 0);
  EXPECT_EQ(identity_->set_keep_days("ours", 30, "cli:test").keep_days, 30);
  const AuditEvent event = identity_->audit_events(1).at(0);
  EXPECT_EQ(event.action, "project.change");
  EXPECT_EQ(event.actor, "cli:test");
  EXPECT_EQ(nlohmann::json::parse(event.details),
            (nlohmann::json{{"name", "ours"}, {"keep_days", 30}}));
  EXPECT_EQ(add(request("b", ours_)), 1);
  EXPECT_EQ(add(request("c", theirs_)), 0);
  EXPECT_EQ(add(request("d", "proj_none")), 0);
  EXPECT_THAT(ids(), ElementsAre("b"));
  EXPECT_GT(project("ours").kept_bytes, 0);
  EXPECT_EQ(project("theirs").kept_bytes, 0);
  for (const int days : {-1, 3'651}) {
    EXPECT_ERROR(identity_->set_keep_days("ours", days, "test"), invalid_argument, "0 to 3650");
  }
  EXPECT_ERROR(identity_->set_keep_days("none", 1, "test"), not_found, "none");
}

TEST_P(KeptRequestsTest, GoWithTheirProject) {
  for (const char* name : {"ours", "theirs"}) identity_->set_keep_days(name, 30, "test");
  add(request("a", ours_));
  add(request("b", theirs_));
  identity_->remove_project("ours", "test");
  EXPECT_THAT(ids(), ElementsAre("b")) << "at once";
  EXPECT_EQ(add(request("c", ours_)), 0) << "which ended later";
  const std::string again = identity_->create_project("ours", 1, "test").id;
  EXPECT_EQ(project("ours").keep_days, 0);
  identity_->set_keep_days("ours", 30, "test");
  EXPECT_THAT(ids({.project = "ours"}), IsEmpty());
  EXPECT_EQ(add(request("d", again)), 1);
  EXPECT_EQ(KeptRequests(*database_).forget_unkept(), 1) << "as servers do";
  EXPECT_EQ(number("SELECT COUNT(*) FROM kept_requests WHERE project_id = '" + ours_ + "'"), 0);
  EXPECT_EQ(number("SELECT kept_bytes FROM projects WHERE id = '" + ours_ + "'"), 0);
  EXPECT_THAT(ids(), ElementsAre("d", "b"));
}

TEST_P(KeptRequestsTest, ComeBackAsTheyWere) {
  identity_->set_keep_days("ours", 1, "test");
  KeptRequest given = request("a", ours_, 1'000);
  given.user_id = "user_1";
  given.prompt_is_cut = true;
  add(given);
  const auto all = KeptRequests(*database_).read({}, "user:ann");
  ASSERT_EQ(all.size(), 1u);
  const KeptRequest& found = all.front();
  EXPECT_EQ(found.request_id, "a");
  EXPECT_EQ(found.project, "ours");
  EXPECT_EQ(found.key, "ci");
  EXPECT_EQ(found.user_id, "user_1");
  EXPECT_EQ(found.endpoint, "/v1/completions");
  EXPECT_EQ(found.at_ms, given.at_ms);
  EXPECT_EQ(found.prompt, given.prompt);
  EXPECT_EQ(found.answer, given.answer);
  EXPECT_TRUE(found.prompt_is_cut);
  EXPECT_FALSE(found.answer_is_cut);
  EXPECT_GE(found.bytes, static_cast<int64_t>(given.prompt.size() + given.answer.size()));
  EXPECT_EQ(KeptRequests(*database_).list({}).front().prompt, "") << "lists are without";
}

TEST_P(KeptRequestsTest, AReadingIsInTheAuditLogAndAListIsNot) {
  identity_->set_keep_days("ours", 1, "test");
  add(request("a", ours_));
  add(request("b", ours_));
  const auto events = [&] { return identity_->audit_events(1).at(0); };
  ids();
  EXPECT_EQ(events().action, "project.change");
  KeptRequests(*database_).read({.model = "other"}, "user:ann");
  EXPECT_EQ(events().action, "project.change") << "nothing was read";
  const auto read = KeptRequests(*database_).read({}, "user:ann");
  EXPECT_EQ(events().action, "kept.read");
  EXPECT_EQ(events().actor, "user:ann");
  EXPECT_EQ(events().subject, ours_);
  const nlohmann::json expected = {
      {"project", "ours"}, {"requests", 2}, {"first", read[1].number}, {"last", read[0].number}};
  EXPECT_EQ(nlohmann::json::parse(events().details), expected);
}

TEST_P(KeptRequestsTest, AreFoundByWhatIsAskedFor) {
  identity_->set_keep_days("ours", 9, "test");
  identity_->set_keep_days("theirs", 9, "test");
  const std::string service =
      identity_->create_user("bot", UserKind::service, Role::developer, "ours", "test").id;
  const std::string ann =
      identity_->create_user("ann", UserKind::person, Role::developer, "", "test").id;
  KeptRequest next = request("old", ours_, 3 * one_day_ms);
  add(next);
  next = request("service", ours_);
  next.user_id = service;
  add(next);
  next = request("ann", ours_);
  next.user_id = ann;
  next.key = "ann's";
  next.model = "'; DROP TABLE kept_requests; --";
  add(next);
  add(request("other", theirs_));
  EXPECT_THAT(ids(), ElementsAre("other", "ann", "service", "old"));
  EXPECT_THAT(ids({.project = "ours"}), ElementsAre("ann", "service", "old"));
  EXPECT_THAT(ids({.key = "ann's"}), ElementsAre("ann"));
  EXPECT_THAT(ids({.model = next.model}), ElementsAre("ann"));
  EXPECT_THAT(ids({.request_id = "old"}), ElementsAre("old"));
  EXPECT_THAT(ids({.until_ms = database_->now_ms() - one_day_ms}), ElementsAre("old"));
  EXPECT_THAT(ids({.project = "ours", .from_ms = database_->now_ms() - one_day_ms}),
              ElementsAre("ann", "service"));
  EXPECT_THAT(ids({.project = "ours", .reader_id = ann}), ElementsAre("ann", "service", "old"));
  EXPECT_THAT(ids({.project = "ours", .reader_id = "user_bob"}), ElementsAre("service", "old"));
  const auto two = KeptRequests(*database_).list({.most = 2});
  ASSERT_EQ(two.size(), 2u);
  EXPECT_THAT(ids({.before = two[1].number}), ElementsAre("service", "old"));
  EXPECT_THAT(ids({.number = two[1].number}), ElementsAre("ann"));
  EXPECT_THAT(ids({.number = two[1].number, .reader_id = "user_bob"}), IsEmpty());
  EXPECT_THAT(ids({.number = std::numeric_limits<int64_t>::max()}), IsEmpty());
}

TEST_P(KeptRequestsTest, AreGoneWhenTheirDaysAreOver) {
  identity_->set_keep_days("ours", 3, "test");
  add(request("four days", ours_, 4 * one_day_ms));
  add(request("two days", ours_, 2 * one_day_ms));
  add(request("new", ours_));
  EXPECT_THAT(ids(), ElementsAre("new", "two days")) << "before anybody takes them away";
  EXPECT_EQ(number("SELECT COUNT(*) FROM kept_requests"), 3);
  EXPECT_EQ(KeptRequests(*database_).forget_unkept(), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM kept_requests"), 2);
  identity_->set_keep_days("ours", 1, "test");
  EXPECT_EQ(KeptRequests(*database_).forget_unkept(ours_, "user:ann"), 1);
  EXPECT_EQ(identity_->audit_events(1).at(0).action, "kept.forget");
  EXPECT_EQ(identity_->audit_events(1).at(0).details, R"({"requests":1})");
  EXPECT_THAT(ids(), ElementsAre("new"));
  identity_->set_keep_days("ours", 0, "test");
  EXPECT_THAT(ids(), IsEmpty());
  EXPECT_EQ(KeptRequests(*database_).forget_unkept(), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM kept_requests"), 0);
  EXPECT_EQ(project("ours").kept_bytes, 0);
}

TEST_P(KeptRequestsTest, GoPieceByPieceWhereThereAreMany) {
  identity_->set_keep_days("ours", 3, "test");
  std::vector<KeptRequest> many(501, request("a", ours_));
  many.back().prompt = "\"" + std::string(5 << 20, 'x') + "\"";  // more than goes at once
  EXPECT_EQ(KeptRequests(*database_).add(many), 501);
  identity_->set_keep_days("ours", 0, "test");
  EXPECT_EQ(KeptRequests(*database_).forget_unkept(), 501);
  EXPECT_EQ(project("ours").kept_bytes, 0);
}

TEST_P(KeptRequestsTest, LeaveNothingInTheFile) {
  if (!is_sqlite()) GTEST_SKIP() << "PostgreSQL's vacuum frees what is removed";
  const auto is_in_file = [&] {
    std::ifstream file(location(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    EXPECT_GT(bytes.size(), 4'096u);
    return bytes.find("remarkable") != std::string::npos;
  };
  const auto close = [&] {  // which moves the log into the file
    identity_.reset();
    database_.reset();
  };
  identity_->set_keep_days("ours", 3, "test");
  KeptRequest given = request("a", ours_);
  given.answer = "[\"remarkable" + std::string(10'000, '.') + "remarkable\"]";
  add(given);
  close();
  EXPECT_TRUE(is_in_file());
  database_ = std::make_unique<Database>(location());
  Identity(*database_).set_keep_days("ours", 0, "test");
  EXPECT_EQ(KeptRequests(*database_).forget_unkept(), 1);
  close();
  EXPECT_FALSE(is_in_file());
}

TEST_P(KeptRequestsTest, TheOldestOfAProjectMakeRoomForTheNewest) {
  identity_->set_keep_days("ours", 3, "test");
  identity_->set_keep_days("theirs", 3, "test");
  add(request("theirs", theirs_));
  add(request("0", ours_));
  const int64_t each = project("ours").kept_bytes;
  KeptRequests kept(*database_, 3 * each);
  for (const char* id : {"1", "2", "3", "4"}) {
    const KeptRequest next = request(id, ours_);
    EXPECT_EQ(kept.add(std::span(&next, 1)), 1);
  }
  EXPECT_THAT(ids({.project = "ours"}), ElementsAre("4", "3", "2"));
  EXPECT_EQ(project("ours").kept_bytes, 3 * each);
  EXPECT_THAT(ids({.project = "theirs"}), ElementsAre("theirs"));
}

TEST_P(KeptRequestsTest, ThePrincipalOfAKeyAndOfASessionTellsIt) {
  const auto key = identity_->create_key({.name = "k", .project = "ours"}, "test").key.id;
  EXPECT_FALSE(identity_->principal_of(key)->keeps_requests);
  const int64_t revision = identity_->revision();
  identity_->set_keep_days("ours", 3, "test");
  EXPECT_GT(identity_->revision(), revision) << "servers look again";
  EXPECT_TRUE(identity_->principal_of(key)->keeps_requests);
}

// On a thread of its own.
class RequestKeeperTest : public KeptRequestsTest {
 protected:
  void SetUp() override {
    KeptRequestsTest::SetUp();
    if (identity_) identity_->set_keep_days("ours", 3, "test");
  }
  // The database takes nothing until `work` is done.
  template <typename Work>
  void while_locked(Work work) {
    database_->write([&](soci::session& session) {
      session << "UPDATE projects SET weight = weight";
      work();
    });
  }
};
INSTANTIATE_ON_BOTH_DATABASES(RequestKeeperTest);

TEST_P(RequestKeeperTest, WritesWhatComesInItsOrderAndTheRestAtItsEnd) {
  {
    RequestKeeper keeper{KeptRequests(*database_)};
    for (const char* id : {"a", "b"}) keeper.keep(request(id, ours_));
    keeper.wait_idle();
    EXPECT_THAT(ids(), ElementsAre("b", "a"));
    keeper.keep(request("theirs", theirs_));
    keeper.wait_idle();
    EXPECT_EQ(keeper.counts().kept, 2);
    EXPECT_EQ(keeper.counts().dropped, 0);
    for (const char* id : {"c", "d", "e"}) keeper.keep(request(id, ours_));
  }
  EXPECT_THAT(ids(), ElementsAre("e", "d", "c", "b", "a"));
}

TEST_P(RequestKeeperTest, DropsAndCountsWhatFindsNoRoomAndKeepsNobodyWaiting) {
  RequestKeeper keeper(KeptRequests(*database_),
                       {.most_waiting = 3, .gathers_for = std::chrono::milliseconds(0)});
  while_locked([&] {
    keeper.keep(request("first", ours_));
    // Until more were taken than there is room for: the first ones are being written, and wait for
    // the lock.
    int64_t asked = 1;
    ASSERT_TRUE(comes_true([&] {
      keeper.keep(request("x", ours_));
      ++asked;
      const int64_t dropped = keeper.counts().dropped;
      return dropped >= 4 && asked - dropped > 3;
    }));
  });
  keeper.wait_idle();
  const RequestKeeper::Counts counts = keeper.counts();
  EXPECT_GE(counts.kept, 4);
  EXPECT_LE(counts.kept, 7) << "three at once";
  EXPECT_EQ(static_cast<int64_t>(ids().size()), counts.kept);
}

TEST_P(RequestKeeperTest, DropsWhatIsTooMuchTogether) {
  RequestKeeper keeper(KeptRequests(*database_), {.most_waiting_bytes = 10'000});
  KeptRequest large = request("large", ours_);
  large.prompt = "\"" + std::string(20'000, 'x') + "\"";
  keeper.keep(large);
  EXPECT_EQ(keeper.counts().dropped, 1);
  keeper.keep(request("small", ours_));
  keeper.wait_idle();
  EXPECT_THAT(ids(), ElementsAre("small"));
}

TEST_P(RequestKeeperTest, WaitsForADatabaseThatIsAway) {
  Database impatient(location(), {.wait = std::chrono::milliseconds(50)});
  RequestKeeper keeper(KeptRequests(impatient), {.retries_after = std::chrono::milliseconds(20)});
  while_locked([&] {
    keeper.keep(request("a", ours_));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_EQ(keeper.counts().kept, 0);
  });
  ASSERT_TRUE(comes_true([&] { return keeper.counts().kept == 1; }));
  EXPECT_EQ(keeper.counts().dropped, 0);
  EXPECT_THAT(ids(), ElementsAre("a"));
}

TEST_P(RequestKeeperTest, TakesAwayWhatIsTooOldByItself) {
  add(request("old", ours_, 4 * one_day_ms));
  RequestKeeper keeper(KeptRequests(*database_), {.looks_after = std::chrono::milliseconds(10)});
  EXPECT_TRUE(comes_true([&] { return number("SELECT COUNT(*) FROM kept_requests") == 0; }));
  add(request("as old", ours_, 4 * one_day_ms));
  EXPECT_TRUE(comes_true([&] { return number("SELECT COUNT(*) FROM kept_requests") == 0; }));
}

}  // namespace
}  // namespace ridge::platform::kept_requests_test
