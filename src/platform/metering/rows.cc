#include "platform/metering/rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utc_time.h"
#include "platform/database/kept_statement.h"

namespace ridge::platform::metering {

using Json = nlohmann::json;

std::string day_of(int64_t now_us) { return utc_time(now_us / 1'000'000).substr(0, 10); }
std::string month_of(int64_t now_us) { return utc_time(now_us / 1'000'000).substr(0, 7); }

int64_t cost_micros(const Price& price, int64_t prompt_tokens, int64_t cached_tokens,
                    int64_t completion_tokens) {
  constexpr __int128 million = 1'000'000;
  const __int128 cost = static_cast<__int128>(prompt_tokens - cached_tokens) * price.prompt_micros +
                        static_cast<__int128>(cached_tokens) * price.cached_micros +
                        static_cast<__int128>(completion_tokens) * price.completion_micros;
  return static_cast<int64_t>((cost + million - 1) / million);
}

std::string text_of_rates(const std::vector<Limit>& limits) {
  Json rates = Json::array();
  for (const Limit& limit : limits) {
    if (!is_rate(limit.kind)) continue;
    rates.push_back({limit.subject, limit.model, name(limit.kind), limit.most});
  }
  return rates.dump();
}

std::vector<Limit> rates_of_text(const std::string& text) {
  std::vector<Limit> rates;
  try {
    for (const Json& each : Json::parse(text)) {
      const auto kind = limit_kind_named(each.at(2).get<std::string>());
      if (!kind) continue;
      rates.push_back({.subject = each.at(0).get<std::string>(),
                       .model = each.at(1).get<std::string>(),
                       .kind = *kind,
                       .most = each.at(3).get<int64_t>()});
    }
  } catch (const Json::exception&) {
    throw Error(ErrorCode::invalid_file, "the rates of a reservation in the database are damaged");
  }
  return rates;
}

int64_t rate_cost_us(int64_t units, int64_t most) {
  return static_cast<int64_t>((static_cast<__int128>(units) * rate_window_us + most - 1) / most);
}

int64_t full_at_us(Session& session, const Limit& limit, int64_t now_us) {
  const std::string kind(name(limit.kind));
  int64_t full_at = now_us;
  const bool is_known = run_kept(
      session,
      "SELECT full_at_us FROM rate_levels WHERE subject = :subject AND model = :model AND kind = "
      ":kind",
      soci::use(limit.subject), soci::use(limit.model), soci::use(kind), soci::into(full_at));
  if (!is_known) return now_us;
  if (full_at > now_us + rate_window_us) {  // the clock was put back
    full_at = now_us + rate_window_us;
    set_full_at_us(session, limit, full_at);
  }
  return std::max(full_at, now_us);
}

void set_full_at_us(Session& session, const Limit& limit, int64_t full_at_us) {
  const std::string kind(name(limit.kind));
  run_kept(session,
           "INSERT INTO rate_levels (subject, model, kind, full_at_us) VALUES (:subject, :model, "
           ":kind, :at) ON CONFLICT (subject, model, kind) DO UPDATE SET full_at_us = "
           "excluded.full_at_us",
           soci::use(limit.subject), soci::use(limit.model), soci::use(kind),
           soci::use(full_at_us));
}

}  // namespace ridge::platform::metering
