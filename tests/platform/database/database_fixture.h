#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/temporary_folder.h"

namespace soci {
class session;
}

namespace ridge::platform {

// The tests of whatever keeps data run on both databases: TEST_P(X, ...) with X derived from this,
// and INSTANTIATE_ON_BOTH_DATABASES(X). PostgreSQL's are skipped where it is not installed.
class DatabaseTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;

  // Of an empty database, which goes with the test.
  const std::string& location() const { return location_; }
  bool is_sqlite() const { return GetParam() == "SQLite"; }
  // Beside what is tested, for what it would not do itself.
  std::unique_ptr<soci::session> raw_session() const;
  // Ends all that there are to PostgreSQL, and returns once they have said so and are gone: how many.
  int end_connections() const;
  // Ends a process of PostgreSQL by SIGKILL, as the kernel does where memory is short, and returns
  // once the server has ended all its others therefore; it comes back by itself. Until then it would
  // still answer for a moment.
  void crash_server(int process) const;

  TemporaryFolder folder_;

 private:
  std::string location_;
};

#define INSTANTIATE_ON_BOTH_DATABASES(suite)                                   \
  INSTANTIATE_TEST_SUITE_P(On, suite, testing::Values("SQLite", "PostgreSQL"), \
                           [](const auto& choice) { return choice.param; })

}  // namespace ridge::platform
