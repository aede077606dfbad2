#include "server/rate_headers.h"

#include <fmt/format.h>

#include "base/utc_time.h"

namespace ridge::server {
namespace {

struct Names {
  std::string_view limit, remaining, reset;
};

constexpr Names openai_requests = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
                                   "x-ratelimit-reset-requests"};
constexpr Names openai_tokens = {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
                                 "x-ratelimit-reset-tokens"};
constexpr Names anthropic_requests = {"anthropic-ratelimit-requests-limit",
                                      "anthropic-ratelimit-requests-remaining",
                                      "anthropic-ratelimit-requests-reset"};
constexpr Names anthropic_tokens = {"anthropic-ratelimit-tokens-limit",
                                    "anthropic-ratelimit-tokens-remaining",
                                    "anthropic-ratelimit-tokens-reset"};
constexpr Names anthropic_input = {"anthropic-ratelimit-input-tokens-limit",
                                   "anthropic-ratelimit-input-tokens-remaining",
                                   "anthropic-ratelimit-input-tokens-reset"};
constexpr Names anthropic_output = {"anthropic-ratelimit-output-tokens-limit",
                                    "anthropic-ratelimit-output-tokens-remaining",
                                    "anthropic-ratelimit-output-tokens-reset"};

// The second in which it has come, not the one before.
std::string time_text(std::chrono::system_clock::time_point time) {
  const auto since_1970 = std::chrono::ceil<std::chrono::seconds>(time.time_since_epoch());
  return utc_time(since_1970.count());
}

}  // namespace

std::string reset_duration(int64_t ms) {
  if (ms < 1000) return fmt::format("{}ms", ms);
  const int64_t minutes = ms / 60'000 % 60, hours = ms / 3'600'000;
  if (ms < 60'000) return fmt::format("{:g}s", static_cast<double>(ms) / 1000);
  std::string text = hours > 0 ? fmt::format("{}h", hours) : "";
  return text + fmt::format("{}m{:g}s", minutes, static_cast<double>(ms % 60'000) / 1000);
}

HeaderFields rate_headers(const platform::Admission& admission, api::ErrorStyle style,
                          std::chrono::system_clock::time_point now) {
  const bool is_anthropic = style == api::ErrorStyle::anthropic;
  HeaderFields headers;
  const auto add = [&](const std::optional<platform::RateStanding>& standing, const Names& names) {
    if (!standing) return;
    headers.emplace_back(names.limit, std::to_string(standing->most));
    headers.emplace_back(names.remaining, std::to_string(standing->remaining));
    headers.emplace_back(
        names.reset, is_anthropic ? time_text(now + std::chrono::milliseconds(standing->reset_ms))
                                  : reset_duration(standing->reset_ms));
  };
  add(admission.requests, is_anthropic ? anthropic_requests : openai_requests);
  add(admission.tokens, is_anthropic ? anthropic_tokens : openai_tokens);
  if (is_anthropic) {  // OpenAI has no such
    add(admission.input_tokens, anthropic_input);
    add(admission.output_tokens, anthropic_output);
  }
  return headers;
}

}  // namespace ridge::server
