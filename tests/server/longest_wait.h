#pragma once

#include <chrono>

namespace ridge::server {

// How long a test waits for what must come, on a machine that is slow, or stands still for a while.
inline constexpr std::chrono::seconds longest_wait{60};

}  // namespace ridge::server
