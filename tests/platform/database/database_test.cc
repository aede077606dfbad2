#include "platform/database/database.h"

#include <fcntl.h>
#include <signal.h>
#include <soci/soci.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <thread>
#include <vector>

#include "platform/database/connection.h"
#include "platform/database/database_fixture.h"
#include "platform/database/failing_disk.h"
#include "platform/database/kept_statement.h"
#include "platform/database/schema_steps.h"
#include "platform/identity/identity.h"
#include "platform/throws.h"

namespace ridge::platform::database_test {
namespace {

using DatabaseOnBoth = DatabaseTest;
INSTANTIATE_ON_BOTH_DATABASES(DatabaseOnBoth);

void make_table(Database& database) {
  database.write(
      [](soci::session& session) { session << "CREATE TABLE t (name TEXT, value BIGINT)"; });
}

void insert(soci::session& session, const std::string& name, int64_t value) {
  session << "INSERT INTO t (name, value) VALUES (:n, :v)", soci::use(name), soci::use(value);
}

int64_t count(Database& database, const std::string& table = "t") {
  return database.read([&](soci::session& session) {
    int64_t rows = 0;
    session << "SELECT COUNT(*) FROM " << table, soci::into(rows);
    return rows;
  });
}

TEST_P(DatabaseOnBoth, KeepsWholeNumbersOf64BitsAndTextWithQuotes) {
  const int64_t large = int64_t{1} << 62;
  const std::string hostile = "'); DROP TABLE t; -- \" \\ :n 汉字";
  {
    Database database(location());
    make_table(database);
    database.write([&](soci::session& session) { insert(session, hostile, large); });
  }
  Database again(location());
  again.read([&](soci::session& session) {
    std::string name;
    int64_t value = 0;
    session << "SELECT name, value FROM t", soci::into(name), soci::into(value);
    EXPECT_EQ(name, hostile);
    EXPECT_EQ(value, large);
  });
}

TEST_P(DatabaseOnBoth, UndoesAllOfAWriteThatThrows) {
  Database database(location());
  make_table(database);
  EXPECT_ERROR(database.write([](soci::session& session) {
    insert(session, "a", 1);
    throw Error(ErrorCode::queue_full, "no more");
  }),
               queue_full, "no more");
  EXPECT_EQ(count(database), 0);
  database.write([](soci::session& session) { insert(session, "b", 2); });
  EXPECT_EQ(count(database), 1);
}

TEST_P(DatabaseOnBoth, TakesWritesOneAfterTheOther) {
  constexpr int threads = 4, rounds = 25;
  Database setup(location());
  make_table(setup);
  setup.write([](soci::session& session) { insert(session, "sum", 0); });
  std::vector<std::thread> writers;
  for (int i = 0; i < threads; ++i) {
    writers.emplace_back([&] {
      Database database(location());  // as another process would
      for (int round = 0; round < rounds; ++round) {
        database.write([](soci::session& session) {
          int64_t value = 0;
          session << "SELECT value FROM t", soci::into(value);
          ++value;
          session << "UPDATE t SET value = :v", soci::use(value);
        });
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  const int64_t sum = setup.read([](soci::session& session) {
    int64_t value = 0;
    session << "SELECT value FROM t", soci::into(value);
    return value;
  });
  EXPECT_EQ(sum, threads * rounds);
}

TEST_P(DatabaseOnBoth, GivesAReaderOneView) {
  Database database(location());
  make_table(database);
  database.read([&](soci::session& session) {
    int64_t before = 0, after = 0;
    session << "SELECT COUNT(*) FROM t", soci::into(before);
    std::thread([&] {
      database.write([](soci::session& other) { insert(other, "a", 1); });
    }).join();
    session << "SELECT COUNT(*) FROM t", soci::into(after);
    EXPECT_EQ(before, after);
  });
  EXPECT_EQ(count(database), 1);
}

TEST_P(DatabaseOnBoth, SaysWhenItIsLockedForTooLong) {
  Database database(location(), {.wait = std::chrono::milliseconds(50)});
  make_table(database);
  const auto other = raw_session();
  const auto kind = is_sqlite() ? DatabaseKind::sqlite : DatabaseKind::postgresql;
  begin_write(*other, kind, Durability::on_return);
  EXPECT_ERROR(database.write([](soci::session& session) { insert(session, "a", 1); }), unavailable,
               "the database");
  *other << "ROLLBACK";
  database.write([](soci::session& session) { insert(session, "a", 1); });
  EXPECT_EQ(count(database), 1);
}

TEST_P(DatabaseOnBoth, SaysWhenAllConnectionsAreInUse) {
  Database database(location(), {.connections = 1, .wait = std::chrono::milliseconds(20)});
  database.read([&](soci::session&) {
    EXPECT_ERROR(database.read([](soci::session&) {}), unavailable, "connections");
  });
  database.read([](soci::session&) {});
}

TEST_P(DatabaseOnBoth, NamesNoBoundValueInAnError) {
  Database database(location());
  make_table(database);
  const std::string secret = "rgk_secret";
  database.write([&](soci::session& session) {
    session << "CREATE UNIQUE INDEX names ON t (name)";
    insert(session, secret, 1);
  });
  for (const std::string table : {"no_such_table", "t"}) {  // the second has such a row already
    try {
      database.write([&](soci::session& session) {
        session << "INSERT INTO " << table << " (name) VALUES (:n)", soci::use(secret);
      });
      FAIL() << "it did not throw";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::internal) << error.what();
      EXPECT_EQ(std::string(error.what()).find(secret), std::string::npos) << error.what();
    }
  }
}

TEST_P(DatabaseOnBoth, RefusesADatabaseOfANewerProgram) {
  { const Database database(location()); }
  const int64_t newer = schema_steps().back().version + 1;
  *raw_session() << "INSERT INTO schema_steps (version, name, taken_at_ms) VALUES (" << newer
                 << ", 'later', 0)";
  EXPECT_ERROR(Database{location()}, invalid_file, "newer ridge");
}

TEST_P(DatabaseOnBoth, MakesItsTablesOnceWhereManyStartAtOnce) {
  std::vector<std::thread> starts;
  std::atomic<int> failures = 0;
  for (int i = 0; i < 6; ++i) {
    starts.emplace_back([&] {
      try {
        const Database database(location());
      } catch (const Error& error) {
        ++failures;
        ADD_FAILURE() << error.what();
      }
    });
  }
  for (std::thread& start : starts) start.join();
  EXPECT_EQ(failures, 0);
  Database database(location());
  EXPECT_EQ(count(database, "schema_steps"), static_cast<int64_t>(schema_steps().size()));
}

TEST_P(DatabaseOnBoth, KeepsNothingOfAStepThatFails) {
  // A table of the first step is there already, which makes that step fail.
  *raw_session() << "CREATE TABLE audit_events (other TEXT)";
  EXPECT_ERROR(Database{location()}, internal, "audit_events");
  EXPECT_ERROR(Database{location()}, internal, "audit_events");
  *raw_session() << "DROP TABLE audit_events";
  Database database(location());
  EXPECT_EQ(count(database, "audit_events"), 0);
}

// Takes the step as an older database does at a start of this program, which has no {counter}.
void take_step(soci::session& session, std::string_view name) {
  const auto step = std::ranges::find(schema_steps(), name, &SchemaStep::name);
  ASSERT_NE(step, schema_steps().end());
  std::string_view text = step->sql;
  for (std::size_t end; (end = text.find(";\n")) != text.npos; text.remove_prefix(end + 2)) {
    session << text.substr(0, end);
  }
}

TEST_P(DatabaseOnBoth, GivesFilesOfNobodyToTheDefaultProject) {
  { const Database database(location()); }
  const auto raw = raw_session();
  const auto number = [&](const std::string& query) {
    int64_t value = -1;
    *raw << query, soci::into(value);
    return value;
  };
  take_step(*raw, "files_without_keys");
  EXPECT_EQ(number("SELECT COUNT(*) FROM projects"), 0);
  for (const std::string id : {"batch_1", "batch_2"}) {  // the second finds a project
    *raw << "INSERT INTO batches VALUES (:id, 'local', '', 0, 'store', '/v1/completions', "
            "'file_1', '', '', 0, '', 'completed', '', '', '', 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, "
            "0, '', 0)",
        soci::use(id);
    take_step(*raw, "files_without_keys");
  }
  *raw << "INSERT INTO files VALUES ('file_1', 'local', 'store', 'in', 'batch', 1, 77, NULL)";
  take_step(*raw, "files_without_keys");
  for (const std::string table : {"batches", "files"}) {
    EXPECT_EQ(number("SELECT COUNT(*) FROM " + table +
                     " WHERE project_id <> (SELECT id FROM projects WHERE name = 'default')"),
              0);
  }
  EXPECT_EQ(number("SELECT COUNT(*) FROM projects"), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM organisations"), 1);
  Database database(location());
  EXPECT_EQ(Identity(database).default_project_id(), "proj_local");
}

TEST_P(DatabaseOnBoth, KeepsStatementsOfAConnectionAndBindsThemAnew) {
  Database database(location(), {.connections = 1});
  make_table(database);
  const std::string add = "INSERT INTO t (name, value) VALUES (:n, :v)";
  const std::string find = "SELECT value FROM t WHERE name = :n";
  const auto write = [&](const std::string& name, int64_t value) {
    database.write([&](Session& session) {
      run_kept(session, add, soci::use(name), soci::use(value));
      if (value < 0) throw Error(ErrorCode::queue_full, "no more");
    });
  };
  write("a", 1);
  EXPECT_ERROR(write("lost", -1), queue_full, "no more");
  write("b", 2);
  database.read([&](Session& session) {
    for (const auto& [name, value] : {std::pair("a", 1), std::pair("b", 2)}) {
      const std::string wanted = name;
      int64_t found = 0;
      EXPECT_TRUE(run_kept(session, find, soci::use(wanted), soci::into(found)));
      EXPECT_EQ(found, value);
    }
    const std::string none = "lost";
    int64_t found = 0;
    EXPECT_FALSE(run_kept(session, find, soci::use(none), soci::into(found)));
    std::vector<int64_t> all;
    for (int times = 0; times < 2; ++times) {
      each_kept(
          session, "SELECT value FROM t ORDER BY value", [&] { all.push_back(found); },
          soci::into(found));
    }
    EXPECT_EQ(all, std::vector<int64_t>({1, 2, 1, 2}));
    if (is_sqlite()) return;
    run_kept(session, "SELECT COUNT(*) FROM pg_prepared_statements", soci::into(found));
    EXPECT_EQ(found, 4) << "each text once, and this one";
  });
  // What fails leaves it of use.
  database.write(
      [](soci::session& session) { session << "CREATE UNIQUE INDEX names ON t (name)"; });
  EXPECT_THROW(write("a", 3), Error);
  write("c", 3);
  EXPECT_EQ(count(database), 3);
  if (is_sqlite()) return;
  // A connection that the server has ended takes its statements with it.
  end_connections();
  write("d", 4);
  EXPECT_EQ(count(database), 4);
}

TEST_P(DatabaseOnBoth, ConnectsAgainAfterTheServerEndedItsConnections) {
  if (is_sqlite()) GTEST_SKIP() << "a file has no server";
  Database database(location(), {.connections = 1});
  EXPECT_EQ(count(database, "projects"), 0);
  EXPECT_GE(end_connections(), 1);
  EXPECT_EQ(count(database, "projects"), 0);
}

TEST_P(DatabaseOnBoth, KeepsWhatWasWrittenEarlyThroughASync) {
  {
    Database database(location());
    make_table(database);
    database.write([](soci::session& session) { insert(session, "a", 1); }, Durability::after_sync);
    EXPECT_EQ(count(database), 1);  // others see it at once
    database.sync();
    database.sync();                                          // of nothing
    database.read([&](soci::session&) { database.sync(); });  // by a new connection
  }
  Database again(location());
  EXPECT_EQ(count(again), 1);
}

TEST_P(DatabaseOnBoth, EndsAStatementThatTakesTooLong) {
  if (is_sqlite()) GTEST_SKIP() << "a file has no server";
  // Opening it has to be done in that time too, on a slow machine.
  Database database(location(), {.most = std::chrono::seconds(2)});
  EXPECT_ERROR(database.read([](soci::session& session) { session << "SELECT pg_sleep(3600)"; }),
               unavailable, "timeout");
  EXPECT_EQ(count(database, "projects"), 0);
}

TEST_P(DatabaseOnBoth, LeavesAServerThatSaysNothing) {
  if (is_sqlite()) GTEST_SKIP() << "a file has no server";
  Database database(location(), {.connections = 1, .most = std::chrono::seconds(2)});
  const int backend = database.read([](soci::session& session) {
    int pid = 0;
    session << "SELECT pg_backend_pid()", soci::into(pid);
    return pid;
  });
  ASSERT_EQ(kill(backend, SIGSTOP), 0);
  EXPECT_ERROR(count(database, "projects"), unavailable, "does not answer");
  EXPECT_EQ(kill(backend, SIGCONT), 0);
  EXPECT_EQ(count(database, "projects"), 0);
}

TEST(DatabaseFile, IsForItsOwnerAlone) {
  const TemporaryFolder folder;
  const std::string path = folder / "with space.db";
  const Database database(path);
  for (const std::string& file : {path, path + "-wal"}) {
    struct stat status {};
    ASSERT_EQ(stat(file.c_str(), &status), 0) << file;
    EXPECT_EQ(status.st_mode & 0777, 0600u) << file;
  }
}

// Whether another process could lock the bytes that SQLite's readers hold (its locking.html: the
// shared range, 510 bytes from 2^30 + 2 on).
bool is_held(const std::string& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    struct flock wanted {};
    wanted.l_type = F_WRLCK;
    wanted.l_whence = SEEK_SET;
    wanted.l_start = 0x40000002;
    wanted.l_len = 510;
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const bool is_known = file >= 0 && ::fcntl(file, F_GETLK, &wanted) == 0;
    ::_exit(is_known && wanted.l_type != F_UNLCK ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

// A process loses its locks on a file when it closes any descriptor of it. Without them another
// program takes the log away, and what is written from there on is lost.
TEST(DatabaseFile, IsHeldAlsoAfterAFurtherConnectionWasOpened) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "platform.db").string();
  Database database(path);
  EXPECT_EQ(count(database, "users"), 0);
  EXPECT_TRUE(is_held(path));
  database.read([&](soci::session&) { EXPECT_EQ(count(database, "users"), 0); });
  EXPECT_TRUE(is_held(path));
}

TEST(DatabaseFile, MustBeADatabase) {
  const TemporaryFolder folder;
  EXPECT_ERROR(Database{folder.write("x", std::string(4096, 'x')).string()}, invalid_file,
               "not a database");
  EXPECT_ERROR(Database{(folder / "none/x").string()}, io, "No such file");
}

TEST(DatabaseFile, HasLocationsOfTwoKinds) {
  EXPECT_EQ(DatabaseLocation::parse("/var/lib/ridge/platform.db").kind, DatabaseKind::sqlite);
  EXPECT_EQ(DatabaseLocation::parse("postgres://h/d").kind, DatabaseKind::postgresql);
  EXPECT_EQ(DatabaseLocation::parse("postgresql://u:pa@ss@h:1/d?password=x").name,
            "postgresql://u@h:1/d");
  EXPECT_EQ(DatabaseLocation::parse("postgresql://h/d?connect_timeout=9").text,
            "postgresql://h/d?connect_timeout=9&tcp_user_timeout=10000");
  EXPECT_EQ(DatabaseLocation::parse("postgresql:///d").name, "postgresql:///d");
  EXPECT_ERROR(DatabaseLocation::parse("mysql://h/d"), invalid_argument, "postgresql://");
  EXPECT_ERROR(DatabaseLocation::parse("a=b"), invalid_argument, "a=b");
  EXPECT_ERROR(DatabaseLocation::parse(""), invalid_argument, "empty");
}

TEST(DatabaseFile, NamesNoPasswordWhereTheServerIsAway) {
  EXPECT_ERROR(Database{"postgresql://ridge:hush@127.0.0.1:1/x"}, unavailable, "ridge@127.0.0.1:1");
  try {
    const Database database("postgresql://ridge:hush@127.0.0.1:1/x");
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("hush"), std::string::npos) << error.what();
  }
}

// Linux tells of what it could not write once, and the next sync succeeds without it.
TEST(DatabaseFile, WhatIsSaidToBeOnTheDiskIsThereThoughASyncFailedBefore) {
  const TemporaryFolder folder;
  FailingDisk disk;
  Database database((folder / "platform.db").string());
  make_table(database);
  // Whoever closes the last connection moves the log into the database, which would be another way.
  const Database beside((folder / "platform.db").string());
  const auto insert_early = [&](const std::string& name) {
    database.write([&](soci::session& session) { insert(session, name, 1); },
                   Durability::after_sync);
  };
  insert_early("first");
  disk.fail_syncs_of_logs(1);
  EXPECT_ERROR(database.sync(), io, "cannot be written");
  insert_early("second");
  database.sync();
  disk.lose_power(folder / "platform.db", folder / "after_sync.db");
  EXPECT_EQ(count(*std::make_unique<Database>((folder / "after_sync.db").string())), 2);

  insert_early("third");
  disk.fail_syncs_of_logs(1);
  EXPECT_ERROR(database.write([](soci::session& session) { insert(session, "refused", 1); }), io,
               "");
  database.write([](soci::session& session) { insert(session, "fourth", 1); });
  disk.lose_power(folder / "platform.db", folder / "after_commit.db");
  EXPECT_EQ(count(*std::make_unique<Database>((folder / "after_commit.db").string())), 4);
}

// Of the connections that were open at a failure, each would be told of it once.
TEST(DatabaseFile, IsToldOnceOfAFailureThatAllConnectionsHear) {
  const TemporaryFolder folder;
  FailingDisk disk;
  constexpr int connections = 4;
  Database database((folder / "platform.db").string(), {.connections = connections});
  make_table(database);
  const Database beside((folder / "platform.db").string());
  const auto with_all_connections = [&](const auto& work) {
    std::barrier all(connections);
    std::vector<std::jthread> threads;
    for (int i = 0; i < connections; ++i) {
      threads.emplace_back([&, i] {
        // So that nobody has a connection of another.
        database.read([&](soci::session&) { all.arrive_and_wait(); });
        EXPECT_NO_THROW(work(i)) << i;
      });
    }
  };
  with_all_connections([](int) {});
  database.write([&](soci::session& session) { insert(session, "first", 1); },
                 Durability::after_sync);
  disk.fail_once_at_each_open_log();
  EXPECT_ERROR(database.sync(), io, "cannot be written");
  with_all_connections([&](int i) {
    database.write([&](soci::session& session) { insert(session, std::to_string(i), 1); });
  });
  database.sync();
  disk.lose_power(folder / "platform.db", folder / "left.db");
  EXPECT_EQ(count(*std::make_unique<Database>((folder / "left.db").string())), 1 + connections);
}

TEST(DatabaseFile, WhatTheDiskDoesNotTakeInPassingIsWrittenAnewToo) {
  const TemporaryFolder folder;
  FailingDisk disk;
  Database database((folder / "platform.db").string());
  make_table(database);
  disk.fail_syncs_of_logs(1);
  // More than SQLite's log holds before it is moved into the database.
  const std::string text(8'000, 'x');
  int64_t rows = 0;
  for (; !disk.has_failed_all() && rows < 10'000; ++rows) {
    database.write([&](soci::session& session) { insert(session, text, rows); },
                   Durability::after_sync);
  }
  ASSERT_TRUE(disk.has_failed_all());
  database.sync();
  disk.lose_power(folder / "platform.db", folder / "left.db");
  EXPECT_EQ(count(*std::make_unique<Database>((folder / "left.db").string())), rows);
}

}  // namespace
}  // namespace ridge::platform::database_test
