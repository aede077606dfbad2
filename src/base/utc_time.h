#pragma once

#include <cstdint>
#include <string>

namespace ridge {

// "2026-11-29T02:24:36Z": RFC 3339, of seconds since 1970. It begins with the day and the month.
std::string utc_time(int64_t unix_s);

}  // namespace ridge
