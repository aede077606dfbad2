#include "platform/database/database_fixture.h"

#include <fcntl.h>
#include <soci/soci.h>
#include <soci/sqlite3/soci-sqlite3.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "base/comes_true.h"

extern char** environ;

namespace ridge::platform {
namespace {

// tests/fixtures/postgres_server.py, from the first test that needs it until the program ends.
class PostgresServer {
 public:
  static PostgresServer& shared() {
    static PostgresServer server;
    return server;
  }

  std::string url;      // empty where there is none
  std::string missing;  // why

 private:
  PostgresServer() {
    int input[2], output[2];
    RIDGE_ASSERT(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input[0], 0);
    posix_spawn_file_actions_adddup2(&actions, output[1], 1);
    std::string script = RIDGE_SOURCE_DIR "/tests/fixtures/postgres_server.py", python = "python3";
    char* words[] = {python.data(), script.data(), nullptr};
    RIDGE_ASSERT(posix_spawnp(&process_, "python3", &actions, nullptr, words, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(input[0]);
    close(output[1]);
    input_ = input[1];
    std::string line;
    for (char c; read(output[0], &c, 1) == 1 && c != '\n';) line += c;
    close(output[0]);
    const auto answer = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (answer.is_object()) {
      url = answer.value("url", "");
      missing = answer.value("missing", "");
    }
  }
  ~PostgresServer() {
    close(input_);  // which ends it
    waitpid(process_, nullptr, 0);
  }

  pid_t process_ = 0;
  int input_ = -1;
};

}  // namespace

void DatabaseTest::SetUp() {
  if (is_sqlite()) {
    location_ = folder_ / "platform.db";
    return;
  }
  const PostgresServer& server = PostgresServer::shared();
  if (!server.missing.empty()) GTEST_SKIP() << "NOT TESTED on PostgreSQL: " << server.missing;
  ASSERT_FALSE(server.url.empty()) << "PostgreSQL did not start";
  location_ = server.url;
  const auto session = raw_session();
  *session << "DROP SCHEMA public CASCADE";
  *session << "CREATE SCHEMA public";
}

std::unique_ptr<soci::session> DatabaseTest::raw_session() const {
  if (is_sqlite()) {
    auto session = std::make_unique<soci::session>(soci::sqlite3, location_);
    int set_ms = 0;  // what is tested may write meanwhile
    *session << "PRAGMA busy_timeout = 60000", soci::into(set_ms);
    return session;
  }
  auto session = std::make_unique<soci::session>("postgresql", location_);
  *session << "SET client_min_messages = warning";
  return session;
}

int DatabaseTest::end_connections() const {
  const auto session = raw_session();
  int ended = 0, left = -1;
  std::string pids;  // of these alone, as others may come meanwhile
  *session << "SELECT COUNT(pg_terminate_backend(pid)), COALESCE(STRING_AGG(CAST(pid AS TEXT), ','), "
              "'0') FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
              "current_database() AND backend_type = 'client backend'",
      soci::into(ended), soci::into(pids);
  for (int i = 0; i < 6000 && left != 0; ++i) {  // a minute is for a slow machine
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    *session << "SELECT COUNT(*) FROM pg_stat_activity WHERE pid IN (" + pids + ")",
        soci::into(left);
  }
  EXPECT_EQ(left, 0);
  return ended;
}

void DatabaseTest::crash_server(int process) const {
  const auto witness = raw_session();
  ASSERT_EQ(::kill(process, SIGKILL), 0);
  ASSERT_TRUE(comes_true([&] {
    try {
      int one = 0;
      *witness << "SELECT 1", soci::into(one);
      return false;
    } catch (const soci::soci_error&) {
      return true;
    }
  }));
}

}  // namespace ridge::platform
