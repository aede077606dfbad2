#include "platform/metering/rows.h"

#include <soci/soci.h>

#include <algorithm>

#include "base/utc_time.h"

namespace ridge::platform::metering {

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

std::vector<Limit> limits_of(soci::session& session, const std::string& organisation,
                             const std::string& project, const std::string& key,
                             const std::string& model, const std::string& custom_endpoint) {
  std::vector<Limit> limits;
  Limit row;
  std::string kind;
  soci::statement select =
      (session.prepare << "SELECT subject, model, kind, most FROM limits WHERE subject IN "
                          "(:organisation, :project, :key) AND model IN ('', :model, :custom) "
                          "ORDER BY subject, model, kind",
       soci::use(organisation), soci::use(project), soci::use(key), soci::use(model),
       soci::use(custom_endpoint),
       soci::into(row.subject), soci::into(row.model), soci::into(kind), soci::into(row.most));
  select.execute();
  while (select.fetch()) {
    const auto known = limit_kind_named(kind);
    if (!known) continue;
    row.kind = *known;
    limits.push_back(row);
  }
  return limits;
}

int64_t rate_cost_us(int64_t units, int64_t most) {
  return static_cast<int64_t>((static_cast<__int128>(units) * rate_window_us + most - 1) / most);
}

int64_t full_at_us(soci::session& session, const Limit& limit, int64_t now_us) {
  const std::string kind(name(limit.kind));
  int64_t full_at = now_us;
  session << "SELECT full_at_us FROM rate_levels WHERE subject = :subject AND model = :model AND "
             "kind = :kind",
      soci::use(limit.subject), soci::use(limit.model), soci::use(kind), soci::into(full_at);
  if (!session.got_data()) return now_us;
  if (full_at > now_us + rate_window_us) {  // the clock was put back
    full_at = now_us + rate_window_us;
    set_full_at_us(session, limit, full_at);
  }
  return std::max(full_at, now_us);
}

void set_full_at_us(soci::session& session, const Limit& limit, int64_t full_at_us) {
  const std::string kind(name(limit.kind));
  session << "INSERT INTO rate_levels (subject, model, kind, full_at_us) VALUES (:subject, :model, "
             ":kind, :at) ON CONFLICT (subject, model, kind) DO UPDATE SET full_at_us = "
             "excluded.full_at_us",
      soci::use(limit.subject), soci::use(limit.model), soci::use(kind), soci::use(full_at_us);
}

}  // namespace ridge::platform::metering
