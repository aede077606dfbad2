#include "server/refusal_budget.h"

#include <algorithm>
#include <utility>

namespace ridge::server {

std::optional<int64_t> RefusalBudget::take() {
  const std::lock_guard lock(mutex_);
  const Clock::TimePoint now = clock_.now();
  if (const int64_t more = (now - filled_at_) / each; more > 0) {
    left_ = std::min(most_at_once, left_ + more);
    filled_at_ += more * each;
  }
  if (left_ == 0) {
    ++others_;
    return std::nullopt;
  }
  --left_;
  return std::exchange(others_, 0);
}

}  // namespace ridge::server
