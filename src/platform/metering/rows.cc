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
                    int64_t completion_tokens, int64_t free_tokens) {
  constexpr __int128 million = 1'000'000;
  const auto paid = [&](int64_t tokens) {
    const int64_t free = std::min(tokens, free_tokens);
    free_tokens -= free;
    return static_cast<__int128>(tokens - free);
  };
  __int128 cost = paid(cached_tokens) * price.cached_micros;
  cost += paid(prompt_tokens - cached_tokens) * price.prompt_micros;
  cost += paid(completion_tokens) * price.completion_micros;
  return static_cast<int64_t>((cost + million - 1) / million);
}

std::string text_of_rates(const std::vector<RateTaken>& rates) {
  Json json = Json::array();
  for (const auto& [limit, units] : rates) {
    json.push_back({limit.subject, limit.model, name(limit.kind), limit.most});
    if (units) json.back().push_back(*units);
  }
  return json.dump();
}

std::vector<RateTaken> rates_of_text(const std::string& text) {
  std::vector<RateTaken> rates;
  if (text == "[]") return rates;
  try {
    for (const Json& each : Json::parse(text)) {
      const auto kind = limit_kind_named(each.at(2).get<std::string>());
      if (!kind) continue;
      rates.push_back({.limit = {.subject = each.at(0).get<std::string>(),
                                 .model = each.at(1).get<std::string>(),
                                 .kind = *kind,
                                 .most = each.at(3).get<int64_t>()},
                       .units = {}});
      if (each.size() > 4) rates.back().units = each.at(4).get<int64_t>();
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
  int64_t known = 0;
  run_kept(session,
           "SELECT full_at_us FROM rate_levels WHERE subject = :subject AND model = :model AND kind "
           "= :kind",
           soci::use(limit.subject), soci::use(limit.model), soci::use(kind), soci::into(known));
  return full_at_us(session, limit, known, now_us);
}

int64_t full_at_us(Session& session, const Limit& limit, int64_t known, int64_t now_us) {
  if (known > now_us + rate_window_us) {  // the clock was put back
    known = now_us + rate_window_us;
    set_full_at_us(session, limit, known);
  }
  return std::max(known, now_us);
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
