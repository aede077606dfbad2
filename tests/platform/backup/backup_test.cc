#include "platform/backup/backup.h"

#include <gmock/gmock.h>
#include <soci/soci.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "platform/backup/postgresql_tools.h"
#include "platform/batch/files.h"
#include "platform/kept/kept_requests.h"
#include "platform/metering/key_fixture.h"
#include "platform/metering/meter.h"
#include "platform/metering/usage.h"
#include "platform/throws.h"
#include "platform/zip_file.h"

namespace ridge::platform::backup_test {
namespace {

class BackupTest : public KeyFixture {
 protected:
  std::filesystem::path archive() const { return folder_ / "backup.zip"; }
  BackupManifest take(const std::filesystem::path& file) {
    return back_up({.database = location(),
                    .spool_folder = folder_ / "metering",
                    .files_folder = files_,
                    .ridge_version = "1.2.3"},
                   file, "test");
  }
  BackupManifest take() { return take(archive()); }

  // Where there is no database: beside the old one, or in its place.
  std::string empty_place() {
    if (is_sqlite()) return (folder_ / "new/platform.db").string();
    identity_.reset();
    database_.reset();
    const auto session = raw_session();
    *session << "DROP SCHEMA public CASCADE";
    *session << "CREATE SCHEMA public";
    return location();
  }
  Restored restore_to(const std::string& place, InPlace in_place = InPlace::nothing) {
    return restore(archive(), {.database = place, .files_folder = folder_ / "new files"}, in_place,
                   "test");
  }

  void reserve(Ledger& ledger, const std::string& id) {
    const Reservation reservation = wish(id);
    EXPECT_FALSE(ledger.commit({}, std::span(&reservation, 1)).front().refusal);
  }

  std::filesystem::path files_;  // of clients; none at first
};
INSTANTIATE_ON_BOTH_DATABASES(BackupTest);

int64_t number_in(Database& database, const std::string& query) {
  return database.read([&](soci::session& session) {
    int64_t value = -1;
    session << query, soci::into(value);
    return value;
  });
}

std::string reason_of(Database& database, const std::string& request) {
  return database.read([&](soci::session& session) {
    std::string reason;
    session << "SELECT finish_reason FROM usage_records WHERE request_id = :r", soci::use(request),
        soci::into(reason);
    return reason;
  });
}

// What the records and their sums have, and what is still reserved.
void expect_consistent(Database& database) {
  EXPECT_EQ(
      number_in(database,
                "SELECT CAST(COALESCE(SUM(prompt_tokens + completion_tokens), 0) AS BIGINT) "
                "FROM usage_records"),
      number_in(database,
                "SELECT CAST(COALESCE(SUM(tokens), 0) AS BIGINT) FROM usage_sums WHERE subject "
                "= 'org' AND model = '' AND LENGTH(period) = 7"));
  EXPECT_EQ(
      number_in(database, "SELECT CAST(COALESCE(SUM(tokens), 0) AS BIGINT) FROM reservations"), 0);
  EXPECT_EQ(number_in(database, "SELECT COUNT(*) FROM meter_servers"), 0);
}

std::vector<std::string> actions(Database& database) {
  std::vector<std::string> actions;
  for (const AuditEvent& event : Identity(database).audit_events(100)) {
    actions.push_back(event.action);
  }
  return actions;
}

TEST_P(BackupTest, BringsBackKeysAndUsage) {
  Ledger ledger(*database_, "server-1");
  reserve(ledger, "a");
  const Settlement settlement{
      .id = "a", .prompt_tokens = 10, .completion_tokens = 5, .finish_reason = "stop"};
  ledger.commit(std::span(&settlement, 1), {});
  const BackupManifest manifest = take();
  EXPECT_THAT(actions(*database_), testing::Contains("backup.take"));
  identity_->create_key({.name = "later"}, "test");

  const std::string place = empty_place();
  const Restored restored = restore_to(place);
  EXPECT_EQ(restored.manifest.ridge_version, "1.2.3");
  EXPECT_EQ(restored.manifest.taken_at_ms, manifest.taken_at_ms);
  EXPECT_FALSE(restored.kept);
  Database database(place);
  const auto keys = Identity(database).keys();
  ASSERT_EQ(keys.size(), 1U);
  EXPECT_EQ(keys.front().id, key_);
  EXPECT_EQ(usage(database, {}).front().completion_tokens, 5);
  EXPECT_THAT(actions(database), testing::Contains("backup.restore"));
  expect_consistent(database);
}

TEST_P(BackupTest, OnlyItsOwnerMayReadIt) {
  take();
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    struct stat about {};
    ASSERT_EQ(::stat(entry.path().c_str(), &about), 0);
    if (entry.path() == archive()) {
      EXPECT_EQ(about.st_mode & 0777, 0600U);
    }
    EXPECT_THAT(entry.path().filename().string(), testing::Not(testing::StartsWith(".ridge")))
        << "nothing is left over";
  }
  const std::string place = empty_place();
  restore_to(place);
  if (!is_sqlite()) return;
  struct stat about {};
  ASSERT_EQ(::stat(place.c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600U);
}

TEST_P(BackupTest, WhatRanIsSettledByItsSpoolOrAsFailed) {
  Ledger ledger(*database_, "server-1");
  reserve(ledger, "spooled");
  reserve(ledger, "cut off");
  ledger.renew({});
  database_->write([](soci::session& session) {
    session << "UPDATE reservations SET used_prompt_tokens = 10, used_completion_tokens = 3 WHERE "
               "id = 'cut off'";
  });
  std::filesystem::create_directories(folder_ / "metering");
  Spool(folder_ / "metering/server-0.spool", 1 << 20)
      .append(
          {.id = "spooled", .prompt_tokens = 10, .completion_tokens = 7, .finish_reason = "stop"});
  EXPECT_EQ(take().files.size(), 2U);

  const std::string place = empty_place();
  const Restored restored = restore_to(place);
  EXPECT_EQ(restored.spooled, 1);
  EXPECT_EQ(restored.unfinished, 1);
  Database database(place);
  EXPECT_EQ(reason_of(database, "req_spooled"), "stop");
  EXPECT_EQ(reason_of(database, "req_cut off"), "failed");
  expect_consistent(database);
  EXPECT_EQ(number_in(database, "SELECT CAST(SUM(completion_tokens) AS BIGINT) FROM usage_records"),
            10);

  // Its server, on another machine, had it in a spool of its own.
  const Settlement late{
      .id = "cut off", .prompt_tokens = 10, .completion_tokens = 9, .finish_reason = "stop"};
  Ledger(database, "server-1").commit(std::span(&late, 1), {});
  EXPECT_EQ(reason_of(database, "req_cut off"), "stop");
  expect_consistent(database);
}

TEST_P(BackupTest, BringsBackFilesAndResultsOfBatches) {
  files_ = folder_ / "files";
  std::string id, store;
  {
    Files files(*database_, files_);
    id = files.add({project_, "in.jsonl", "batch", {}}, "a line").id;
    store = files.store();
    std::ofstream(files_ / "results/batch_1.server-0") << "half a result";
  }
  std::ofstream(files_ / "incoming/upload.x") << "never finished";
  EXPECT_EQ(take().files.size(), 4U);
  std::filesystem::remove_all(files_);
  const std::string place = empty_place();
  EXPECT_FALSE(restore_to(place).kept_files);
  Database database(place);
  const Files files(database, folder_ / "new files");
  EXPECT_EQ(files.store(), store);
  std::string bytes(6, '\0');
  read_from_disk(files.open_bytes(id).get(), bytes);
  EXPECT_EQ(bytes, "a line");
  bytes.resize(13);
  read_from_disk(files.open_results("batch_1.server-0").get(), bytes);
  EXPECT_EQ(bytes, "half a result");
  struct stat about {};
  ASSERT_EQ(::stat((folder_ / "new files/kept" / id).c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777, 0600U);
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_THAT(entry.path().filename().string(), testing::Not(testing::StartsWith(".ridge")));
  }
}

TEST_P(BackupTest, KeepsTheFilesThatWereThereAndRefusesWithoutAWord) {
  files_ = folder_ / "files";
  { Files(*database_, files_).add({project_, "in.jsonl", "batch", {}}, "a line"); }
  take();
  std::filesystem::create_directories(folder_ / "new files/kept");
  const std::string place = empty_place();
  EXPECT_ERROR(restore_to(place), already_exists, "there are files in");
  if (is_sqlite()) {
    EXPECT_FALSE(std::filesystem::exists(place)) << "nothing has changed";
  }
  const Restored restored = restore_to(place, InPlace::old_database);
  ASSERT_TRUE(restored.kept_files);
  EXPECT_TRUE(std::filesystem::exists(*restored.kept_files / "kept"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "new files/store.id"));
}

TEST_P(BackupTest, LeavesTheFilesWhereTheDatabaseIsNotRestored) {
  if (is_sqlite()) GTEST_SKIP() << "a file takes its place in one step";
  files_ = folder_ / "files";
  { Files(*database_, files_).add({project_, "in.jsonl", "batch", {}}, "a line"); }
  take();
  const std::string place = empty_place();
  *raw_session() << "CREATE TABLE projects (id TEXT)";  // of something else
  std::filesystem::create_directories(folder_ / "new files/kept");
  EXPECT_ERROR(restore_to(place, InPlace::old_database), io, "pg_restore failed");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new files/store.id"));
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_THAT(entry.path().filename().string(), testing::Not(testing::HasSubstr("before-")));
  }
  *raw_session() << "DROP TABLE projects";
  EXPECT_TRUE(restore_to(place, InPlace::old_database).kept_files) << "and then it can be";
}

// What is kept of requests is of the database, and so of its backup.
TEST_P(BackupTest, BringsBackPromptsAndAnswersThatAreKept) {
  identity_->set_keep_days("default", 30, "test");
  const KeptRequest kept{.request_id = "req",
                         .project_id = project_,
                         .at_ms = database_->now_ms(),
                         .prompt = R"({"prompt":"a"})",
                         .answer = "[]"};
  KeptRequests(*database_).add(std::span(&kept, 1));
  take();
  const std::string place = empty_place();
  restore_to(place);
  Database restored(place);
  const auto read = KeptRequests(restored).read({}, "test");
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].prompt, kept.prompt);
}

TEST_P(BackupTest, NobodyIsSignedInAfterwards) {
  const User user = identity_->create_user("ann", UserKind::person, Role::owner, "", "test");
  database_->write([&](soci::session& session) {
    session << "INSERT INTO sessions (token_hash, user_id, created_at_ms, used_at_ms) VALUES "
               "('h', :user, 0, 0)",
        soci::use(user.id);
  });
  take();
  const std::string place = empty_place();
  restore_to(place);
  Database database(place);
  EXPECT_EQ(number_in(database, "SELECT COUNT(*) FROM sessions"), 0);
  EXPECT_EQ(Identity(database).users().size(), 1U);
}

TEST_P(BackupTest, TakesOneMomentOfAServerAtWork) {
  std::atomic<bool> ends{false};
  std::atomic<int> settled{0};
  std::thread load([&] {
    Meter meter(Ledger(*database_, "server-1"),
                {.spool = folder_ / "spool", .renews_after = std::chrono::milliseconds(10)});
    for (int i = 0; !ends; ++i) {
      const std::string id = "r" + std::to_string(i);
      std::promise<void> done;
      meter.reserve(wish(id), [&](const Admission& admission) {
        EXPECT_FALSE(admission.refusal);
        if (i % 7 == 0) return done.set_value();  // stays open
        meter.settle(
            {.id = id, .prompt_tokens = 10, .completion_tokens = i % 50, .finish_reason = "stop"},
            [&](const std::optional<Error>& error) {
              EXPECT_FALSE(error);
              ++settled;
              done.set_value();
            });
      });
      done.get_future().wait();
    }
  });
  std::vector<std::pair<std::filesystem::path, int>> archives;
  for (int i = 0; i < 4; ++i) {
    while (settled < 40 * (i + 1)) std::this_thread::yield();
    archives.emplace_back(folder_ / ("backup-" + std::to_string(i)), settled.load());
    take(archives.back().first);
  }
  ends = true;
  load.join();
  for (const auto& [file, settled_before] : archives) {
    std::filesystem::rename(file, archive());
    std::string place = empty_place();
    if (is_sqlite()) place += file.filename();
    const Restored restored = restore_to(place);
    Database database(place);
    expect_consistent(database);
    EXPECT_GT(restored.unfinished, 0);
    EXPECT_GE(
        number_in(database, "SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'stop'"),
        settled_before);
    EXPECT_EQ(number_in(database, "SELECT COUNT(*) FROM usage_records"),
              number_in(database, "SELECT COUNT(DISTINCT request_id) FROM usage_records"));
  }
}

TEST_P(BackupTest, NothingIsOverwrittenWithoutAWord) {
  take();
  EXPECT_ERROR(take(), already_exists, "choose another name");
  EXPECT_ERROR(restore_to(location()), already_exists,
               is_sqlite() ? "with --replace" : "is not empty");
  if (!is_sqlite()) return;
  identity_->create_key({.name = "later"}, "test");
  EXPECT_ERROR(restore_to(location(), InPlace::old_database), unavailable, "is in use");
  EXPECT_EQ(identity_->keys().size(), 2U);
  identity_.reset();
  database_.reset();
  const Restored restored = restore_to(location(), InPlace::old_database);
  ASSERT_TRUE(restored.kept);
  Database database(location()), old(restored.kept->string());
  EXPECT_EQ(Identity(database).keys().size(), 1U);
  EXPECT_EQ(Identity(old).keys().size(), 2U);
}

TEST_P(BackupTest, RootRestoresForTheOldOwner) {
  if (!is_sqlite() || ::geteuid() != 0) GTEST_SKIP() << "only root can make files of others";
  take();
  identity_.reset();
  database_.reset();
  ASSERT_EQ(::chown(location().c_str(), 12345, 12346), 0);
  restore_to(location(), InPlace::old_database);
  struct stat about {};
  ASSERT_EQ(::stat(location().c_str(), &about), 0);
  EXPECT_EQ(about.st_uid, 12345U);
  EXPECT_EQ(about.st_gid, 12346U);
}

TEST_P(BackupTest, ADamagedDatabaseIsReplacedToo) {
  if (!is_sqlite()) GTEST_SKIP() << "a file is damaged";
  take();
  identity_.reset();
  database_.reset();
  std::ofstream(location(), std::ios::binary) << "no database at all";
  EXPECT_ERROR(take(folder_ / "second"), invalid_file, "platform.db");
  EXPECT_TRUE(restore_to(location(), InPlace::old_database).kept);
  Database database(location());
  EXPECT_EQ(Identity(database).keys().size(), 1U);
}

TEST_P(BackupTest, AChangedArchiveIsRefusedAndNothingChanges) {
  const BackupManifest manifest = take();
  EXPECT_EQ(check_backup(archive()).files.front().digest, manifest.files.front().digest);
  const std::string member = backup::database_member(manifest.kind);
  // Whole as a zip file, with another database.
  write_zip(archive(), {{backup::manifest_member, {}, backup::manifest_text(manifest)},
                        {member, {}, std::string(manifest.files.front().bytes, 'x')}});
  EXPECT_ERROR(check_backup(archive()), invalid_file, "has the digest");
  const std::string place = empty_place();
  EXPECT_ERROR(restore_to(place), invalid_file, "has the digest");
  if (is_sqlite()) {
    EXPECT_FALSE(std::filesystem::exists(place));
  }
  std::filesystem::resize_file(archive(), std::filesystem::file_size(archive()) / 2);
  EXPECT_ERROR(restore_to(place), invalid_file, "no backup that can be used");
}

TEST_P(BackupTest, AnArchiveOfANewerRidgeIsRefused) {
  database_->write([](soci::session& session) {
    session << "INSERT INTO schema_steps (version, name, taken_at_ms) VALUES (9999, 'later', 0)";
  });
  EXPECT_EQ(take().schema_version, 9999);
  if (!is_sqlite()) return;  // there the tables come before they are looked at
  const std::string place = empty_place();
  EXPECT_ERROR(restore_to(place), invalid_file, "newer ridge");
  EXPECT_FALSE(std::filesystem::exists(place));
}

TEST_P(BackupTest, TheOtherKindOfDatabaseIsRefused) {
  BackupManifest manifest = take();
  manifest.kind = is_sqlite() ? DatabaseKind::postgresql : DatabaseKind::sqlite;
  const std::string member = backup::database_member(manifest.kind), bytes = "x";
  manifest.files = {{member, 1, Digest::of(bytes)}};
  write_zip(archive(),
            {{backup::manifest_member, {}, backup::manifest_text(manifest)}, {member, {}, bytes}});
  const std::string place = empty_place();
  EXPECT_ERROR(restore_to(place), invalid_argument, "is a backup of");
}

TEST_P(BackupTest, WhereNothingIsThereIsNothingToKeep) {
  const std::string place = empty_place();
  EXPECT_ERROR(
      back_up({.database = place, .spool_folder = {}, .files_folder = {}, .ridge_version = ""},
              folder_ / "none", "test"),
      not_found, "");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none"));
  if (is_sqlite()) {
    EXPECT_FALSE(std::filesystem::exists(place));
  }
}

TEST(BackupManifest, RefusesWhatItDoesNotKnow) {
  const auto text = [](const std::string& form, const std::string& name) {
    return R"({"ridge_backup": )" + form +
           R"(, "ridge_version": "9", "database": "SQLite", "schema_version": 1, "taken_at_ms": 0,
              "files": [{"name": "platform.db", "bytes": 1, "sha256": ")" +
           std::string(64, '0') + R"("}, {"name": ")" + name + R"(", "bytes": 1, "sha256": ")" +
           std::string(64, '0') + R"("}]})";
  };
  EXPECT_EQ(backup::parse_manifest(text("1", "metering/server-0.spool")).files.size(), 2U);
  EXPECT_ERROR(backup::parse_manifest(text("2", "metering/server-0.spool")), invalid_file,
               "this program reads form 1");
  for (const char* const name : {"metering/../../x.spool", "files/kept/../../x", "files/kept/a/b",
                                 "files/kept/", "files/x", "files/other/x", "files//x"}) {
    EXPECT_ERROR(backup::parse_manifest(text("1", name)), invalid_file, "no file of a backup");
  }
  EXPECT_EQ(backup::parse_manifest(text("1", "files/kept/file-1")).files.size(), 2U);
  EXPECT_ERROR(backup::parse_manifest("{}"), invalid_file, "ridge_backup");
  EXPECT_ERROR(backup::parse_manifest("["), invalid_file, "manifest.json");
}

TEST(PostgresqlTools, TakesThePasswordOutOfTheUrl) {
  const auto expect = [](const char* url, const char* without, const char* password) {
    const backup::LibpqAccess access = backup::take_password(url);
    EXPECT_EQ(access.url, without) << url;
    EXPECT_EQ(access.password, password) << url;
  };
  expect("postgresql://u@h/d", "postgresql://u@h/d", "");
  expect("postgresql://h:5432/d?a=b:c@d", "postgresql://h:5432/d?a=b:c@d", "");
  expect("postgresql://u:p%40%2f@h:1/d?x=1", "postgresql://u@h:1/d?x=1", "p@/");
  expect("postgresql://u@h/d?password=s%20t", "postgresql://u@h/d", "s t");
  expect("postgresql://u@h/d?password=s&x=1", "postgresql://u@h/d?x=1", "s");
  expect("postgresql://u@h/d?x=1&password=s", "postgresql://u@h/d?x=1", "s");
  expect("postgresql://u@h/d?sslpassword=s", "postgresql://u@h/d?sslpassword=s", "");
}

}  // namespace
}  // namespace ridge::platform::backup_test
