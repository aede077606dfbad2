#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "platform/metering/ledger.h"
#include "platform/metering/limits.h"

// What the files of `metering` share. Everything runs within one write() of the database.
namespace ridge::platform::metering {

// "2026-11-28" and "2026-11", in UTC.
std::string day_of(int64_t now_us);
std::string month_of(int64_t now_us);

// Of tokens at prices for a million, rounded up to whole micros. The first `free_tokens` cost nothing, in
// the order in which they come: what was cached of the prompt, the rest of it, the answer. So a prompt of
// which nothing is cached, with the longest answer, is never cheaper than what comes of it.
int64_t cost_micros(const Price& price, int64_t prompt_tokens, int64_t cached_tokens,
                    int64_t completion_tokens, int64_t free_tokens);

// The limits a minute, as the time at which all can be used again: what is used moves it on, and
// it never lies further ahead than a minute. (The generic cell rate algorithm of ATM; one number
// tells how full the bucket is at any time.)
inline constexpr int64_t rate_window_us = 60'000'000;
int64_t rate_cost_us(int64_t units, int64_t most);  // most > 0
// As `known` in the database stands for it, 0 where nothing does; or as that says.
int64_t full_at_us(Session& session, const Limit& limit, int64_t known, int64_t now_us);
int64_t full_at_us(Session& session, const Limit& limit, int64_t now_us);
void set_full_at_us(Session& session, const Limit& limit, int64_t full_at_us);
// What an admission took of such a limit: requests or tokens, none where an older program has not said.
struct RateTaken {
  Limit limit;
  std::optional<int64_t> units;
};
// As a reservation keeps them; and back. Throws invalid_file.
std::string text_of_rates(const std::vector<RateTaken>& rates);
std::vector<RateTaken> rates_of_text(const std::string& text);

// Checks the limits and reserves.
Admission admit(Session& session, const Reservation& reservation, const std::string& server,
                int64_t now_us);

// What the two ways in and out write of each request, in this order.
inline constexpr std::string_view insert_reservations =
    "INSERT INTO reservations (id, server, organisation_id, project_id, key_id, user_id, "
    "request_id, model, endpoint, admitted_at_ms, day, month, tokens, micros, rates, has_rates, "
    "prompt_micros, cached_micros, completion_micros, custom_endpoint, endpoint_version, "
    "allowance_id, used_prompt_tokens, used_completion_tokens, is_abandoned, free_tokens, "
    "free_model) ";
inline constexpr std::string_view insert_records =
    "INSERT INTO usage_records (id, at_ms, organisation_id, project_id, key_id, request_id, model, "
    "endpoint, prompt_tokens, cached_tokens, reasoning_tokens, completion_tokens, ttft_ms, "
    "duration_ms, finish_reason, micros, custom_endpoint, endpoint_version, free_tokens) ";
// Ends an INSERT of rows that are added to those that there are.
inline constexpr std::string_view add_to_sums =
    " ON CONFLICT (subject, model, period) DO UPDATE SET requests = usage_sums.requests + "
    "excluded.requests, tokens = usage_sums.tokens + excluded.tokens, micros = usage_sums.micros + "
    "excluded.micros, free_tokens = usage_sums.free_tokens + excluded.free_tokens";

// Adds up what settlements of one transaction used, so that each sum is written once.
class Sums {
 public:
  struct Used {
    int64_t requests = 0, tokens = 0, micros = 0, free_tokens = 0;
  };
  void add(const std::string& subject, const std::string& model, const std::string& period,
           const Used& used);
  void write(Session& session) const;

 private:
  std::map<std::tuple<std::string, std::string, std::string>, Used> used_;
};

void settle(Session& session, const Settlement& settlement, Sums& sums, int64_t now_us);
// The same on behalf of a server that may still be alive, and then knows better.
void abandon(Session& session, const Settlement& settlement, Sums& sums, int64_t now_us);

}  // namespace ridge::platform::metering
