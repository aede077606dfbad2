#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <thread>

#include "platform/database/database.h"

namespace ridge::platform {

// Removes usage records by their age, on a thread of its own, as long as it lives. Servers that
// share a database may all do it. What limits are checked against stays.
class UsageRetention {
 public:
  // Records of the last `days` days, and of the day that began before them, stay: `days` from 1 on.
  UsageRetention(Database& database, int days,
                 std::chrono::milliseconds looks_after = std::chrono::hours(1));
  // Stops within a transaction of a thousand records.
  ~UsageRetention();
  UsageRetention(const UsageRetention&) = delete;
  UsageRetention& operator=(const UsageRetention&) = delete;

 private:
  void run(const std::stop_token& stop);
  void look(const std::stop_token& stop);

  Database& database_;
  const int days_;
  const std::chrono::milliseconds looks_after_;

  std::mutex mutex_;
  std::condition_variable_any ends_;
  std::jthread thread_;  // last, as it uses the others
};

}  // namespace ridge::platform
