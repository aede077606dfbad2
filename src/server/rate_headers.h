#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/error_body.h"
#include "platform/metering/ledger.h"

namespace ridge::server {

using HeaderFields = std::vector<std::pair<std::string_view, std::string>>;

// How the tightest limits a minute stand, as the clients of an API look for it: for OpenAI's
// x-ratelimit-{limit,remaining,reset}-{requests,tokens} with durations ("6m0s"), for Anthropic's
// anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset} with times (RFC 3339). None where
// there are no limits.
HeaderFields rate_headers(const platform::Admission& admission, api::ErrorStyle style,
                          std::chrono::system_clock::time_point now);

// "12ms", "1.5s", "6m0s", "1h2m3s".
std::string reset_duration(int64_t ms);

}  // namespace ridge::server
