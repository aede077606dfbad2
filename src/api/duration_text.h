#pragma once

#include <optional>
#include <string_view>

#include "base/clock.h"

namespace ridge::api {

// A duration as Go writes it: "300ms", "-1.5h", "2h45m", "0". Units are ns, us, µs, ms, s, m and h
// (https://pkg.go.dev/time#ParseDuration). Nullopt for anything else; what is longer than 100 years
// is 100 years.
std::optional<Clock::Duration> parse_duration(std::string_view text);

// `seconds`, which is finite, within 100 years.
Clock::Duration duration_of(double seconds);

}  // namespace ridge::api
