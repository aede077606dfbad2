#include "platform/retries.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace ridge::platform {

using std::chrono::milliseconds;

void Retries::wait_after(const HttpError& error) {
  ++failures_;
  const milliseconds pause = pause_after(error);
  if (!error.may_pass || failures_ >= options_.attempts || pause > options_.longest_pause) throw;
  if (options_.on_note) {
    options_.on_note(
        fmt::format("{}; trying again in {:.1f} s", error.message(), pause.count() / 1000.0));
  }
  wait(pause, options_);
}

milliseconds Retries::pause_after(const HttpError& error) const {
  if (error.retry_after_s) {
    return std::chrono::seconds(std::min<int64_t>(*error.retry_after_s, 1'000'000));
  }
  const milliseconds pause = options_.first_pause * (int64_t{1} << std::min(failures_ - 1, 10));
  return std::min<milliseconds>(pause, options_.longest_pause);
}

}  // namespace ridge::platform
