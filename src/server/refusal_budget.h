#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include "base/clock.h"

namespace ridge::server {

// How many refused sign-ins one server records: some at once, then one a minute, so that whoever
// guesses cannot fill the audit log. The others are counted. Any thread.
class RefusalBudget {
 public:
  static constexpr int64_t most_at_once = 60;
  static constexpr std::chrono::minutes each{1};

  explicit RefusalBudget(const Clock& clock) : clock_(clock) {}

  // How many were not recorded since the last one that was; null where this one is not to be either.
  std::optional<int64_t> take();

 private:
  const Clock& clock_;
  std::mutex mutex_;
  int64_t left_ = most_at_once, others_ = 0;
  Clock::TimePoint filled_at_{};
};

}  // namespace ridge::server
