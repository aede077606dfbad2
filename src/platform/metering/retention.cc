#include "platform/metering/retention.h"

#include "base/error.h"
#include "base/log.h"
#include "platform/metering/usage.h"

namespace ridge::platform {

UsageRetention::UsageRetention(Database& database, int days, std::chrono::milliseconds looks_after)
    : database_(database), days_(days), looks_after_(looks_after) {
  RIDGE_ASSERT(days > 0);
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

UsageRetention::~UsageRetention() = default;

void UsageRetention::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    look(stop);
    ends_.wait_for(lock, stop, looks_after_, [] { return false; });
  }
}

void UsageRetention::look(const std::stop_token& stop) {
  constexpr int64_t day_ms = 86'400'000;
  try {
    const int64_t now_ms = database_.least_now_ms();
    // Days are whole, so that no day's usage is ever told in part.
    const int64_t until_ms = (now_ms / day_ms - days_) * day_ms;
    if (!has_usage_before(database_, until_ms)) return;  // each hour's look is no event
    const int64_t records = forget_usage(database_, until_ms, "retention", stop);
    log::info("{} usage records that were older than {} days are removed", records, days_);
  } catch (const Error& failure) {
    log::warning("old usage records could not be removed: {}", failure.message());
  }
}

}  // namespace ridge::platform
