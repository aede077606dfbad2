#include "platform/retries.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <thread>
#include <utility>

namespace ridge::platform {

using std::chrono::milliseconds;

Retries::Retries(const RetryPolicy& policy, std::function<bool()> is_cancelled,
                 std::function<void(std::string_view)> on_note)
    : policy_(policy), is_cancelled_(std::move(is_cancelled)), on_note_(std::move(on_note)) {}

void Retries::wait_after(const HttpError& error) {
  ++failures_;
  const milliseconds pause = pause_after(error);
  if (!error.may_pass || failures_ >= policy_.attempts || pause > policy_.longest_pause) throw;
  if (on_note_) {
    on_note_(fmt::format("{}; trying again in {:.1f} s", error.message(), pause.count() / 1000.0));
  }
  wait(pause, is_cancelled_);
}

milliseconds Retries::pause_after(const HttpError& error) const {
  if (error.retry_after_s) {
    return std::chrono::seconds(std::min<int64_t>(*error.retry_after_s, 1'000'000));
  }
  const milliseconds pause = policy_.first_pause * (int64_t{1} << std::min(failures_ - 1, 10));
  return std::min(pause, policy_.longest_pause);
}

void wait(milliseconds time, const std::function<bool()>& is_cancelled) {
  using Clock = std::chrono::steady_clock;
  constexpr Clock::duration look{milliseconds(50)};
  const auto end = Clock::now() + time;
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    if (is_cancelled && is_cancelled()) throw Error(ErrorCode::cancelled, "stopped");
    std::this_thread::sleep_for(std::min(look, end - now));
  }
}

}  // namespace ridge::platform
