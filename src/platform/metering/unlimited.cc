#include "platform/metering/unlimited.h"

#include <nlohmann/json.hpp>

#include "platform/database/kept_statement.h"
#include "platform/metering/rows.h"

namespace ridge::platform::metering {
namespace {

using Json = nlohmann::json;

// One value, as a statement that is kept has so many of them.
std::string text_of(const Json& rows) {
  return rows.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

Json json_of(const Reservation& asked) {
  return {{"id", asked.id},
          {"organisation", asked.organisation_id},
          {"project", asked.project_id},
          {"key", asked.key_id},
          {"allowance", asked.allowance_id},
          {"person", asked.user_id},
          {"request", asked.request_id},
          {"model", asked.model},
          {"endpoint", asked.endpoint},
          {"custom", asked.custom_endpoint},
          {"version", asked.endpoint_version},
          {"prompt", asked.prompt_tokens},
          {"completion", asked.most_completion_tokens}};
}

Json json_of(const Settlement& ended) {
  return {{"id", ended.id},
          {"prompt", ended.prompt_tokens},
          {"cached", ended.cached_tokens},
          {"completion", ended.completion_tokens},
          {"reasoning", ended.reasoning_tokens},
          {"ttft", ended.ttft_ms},
          {"duration", ended.duration_ms},
          {"reason", ended.finish_reason}};
}

template <typename Item>
Json json_of_all(std::span<const Item> items) {
  Json rows = Json::array();
  for (const Item& item : items) rows.push_back(json_of(item));
  return rows;
}

// BETWEEN says what is so anyway: PostgreSQL's planner takes it for few rows then, and not for a
// hundred, and finds those of the tables by their keys.
//
// The price is the endpoint's, or else the model's, or else that of all. Money as cost_micros() has
// it, in NUMERIC, which holds it all.
const std::string admit_parts =
    "asked AS (SELECT * FROM jsonb_to_recordset(CAST(:asked AS JSONB)) AS a (id TEXT, "
    "organisation TEXT, project TEXT, key TEXT, allowance TEXT, person TEXT, request TEXT, model "
    "TEXT, endpoint TEXT, custom TEXT, version BIGINT, prompt BIGINT, completion BIGINT) WHERE "
    "prompt BETWEEN 0 AND 9223372036854775807), admitted AS (" +
    std::string(insert_reservations) +
    "SELECT a.id, CAST(:server AS TEXT), a.organisation, a.project, a.key, a.person, a.request, a.model, "
    "a.endpoint, CAST(:at AS BIGINT), CAST(:day AS TEXT), CAST(:month AS TEXT), a.prompt + a.completion, CAST(DIV(CAST(a.prompt AS NUMERIC) * "
    "COALESCE(p.prompt_micros, 0) + CAST(a.completion AS NUMERIC) * COALESCE(p.completion_micros, "
    "0) + 999999, 1000000) AS BIGINT), '[]', 0, COALESCE(p.prompt_micros, 0), "
    "COALESCE(p.cached_micros, 0), COALESCE(p.completion_micros, 0), a.custom, a.version, "
    "a.allowance, 0, 0, 0, 0, '' "
    "FROM asked a LEFT JOIN LATERAL (SELECT * FROM prices WHERE prices.model IN ('', a.model, "
    "a.custom) ORDER BY CASE prices.model WHEN '' THEN 0 WHEN a.custom THEN 2 ELSE 1 END DESC "
    "LIMIT 1) p ON TRUE "
    "WHERE COALESCE(p.free_tokens, 0) = 0 AND NOT EXISTS (SELECT 1 FROM limits l WHERE l.subject "
    "IN (a.organisation, a.project, a.allowance, a.person) AND l.model IN ('', a.model, a.custom)) "
    "RETURNING id)";

// Sums are written in the order in which Sums::write() does, or two servers could wait for each
// other.
const std::string settle_parts =
    "ended AS (SELECT * FROM jsonb_to_recordset(CAST(:ended AS JSONB)) AS e (id TEXT, prompt "
    "BIGINT, cached BIGINT, completion BIGINT, reasoning BIGINT, ttft DOUBLE PRECISION, duration "
    "DOUBLE PRECISION, reason TEXT) WHERE prompt BETWEEN 0 AND 9223372036854775807), "
    "gone AS (DELETE FROM reservations r USING ended e WHERE r.id = e.id AND r.rates = '[]' AND "
    "r.free_model = '' AND r.is_abandoned = 0 RETURNING r.organisation_id, r.project_id, r.key_id, "
    "COALESCE(NULLIF(r.allowance_id, ''), r.key_id) AS allowance_id, r.user_id, r.request_id, "
    "r.model, r.endpoint, r.custom_endpoint, r.endpoint_version, r.day, r.month, r.admitted_at_ms, "
    "CAST(DIV(CAST(e.prompt - e.cached AS NUMERIC) * r.prompt_micros + CAST(e.cached AS NUMERIC) * "
    "r.cached_micros + CAST(e.completion AS NUMERIC) * r.completion_micros + 999999, 1000000) AS "
    "BIGINT) AS micros, e.*), "
    "kept AS (" +
    std::string(insert_records) +
    "SELECT id, admitted_at_ms, organisation_id, project_id, "
    "key_id, request_id, model, endpoint, prompt, cached, reasoning, completion, ttft, duration, "
    "reason, micros, custom_endpoint, endpoint_version, 0 FROM gone), "
    "summed AS (INSERT INTO usage_sums (subject, model, period, requests, tokens, micros, "
    "free_tokens) SELECT s.subject, m.model, d.period, COUNT(*), CAST(SUM(g.prompt + g.completion) "
    "AS BIGINT), CAST(SUM(g.micros) AS BIGINT), 0 FROM gone g CROSS JOIN LATERAL (VALUES "
    "(g.organisation_id), (g.project_id), (g.allowance_id), (NULLIF(NULLIF(g.user_id, ''), "
    "g.allowance_id))) s (subject) CROSS JOIN LATERAL (VALUES (''), (g.model), "
    "(NULLIF(g.custom_endpoint, ''))) m (model) CROSS JOIN LATERAL (VALUES (g.day), (g.month)) d "
    "(period) WHERE s.subject IS NOT NULL AND m.model IS NOT NULL GROUP BY 1, 2, 3 ORDER BY "
    "s.subject COLLATE \"C\", m.model COLLATE \"C\", d.period COLLATE \"C\"" +
    std::string(add_to_sums) + ")";

const std::string commit_text = "WITH " + settle_parts + ", " + admit_parts +
                                " SELECT 1, id FROM gone UNION ALL SELECT 0, id FROM admitted";

}  // namespace

UnlimitedDone commit_unlimited(Session& session, std::span<const Settlement> ended,
                               std::span<const Reservation> asked, const std::string& server,
                               int64_t now_us) {
  const std::string ended_rows = text_of(json_of_all(ended)), rows = text_of(json_of_all(asked));
  const int64_t at_ms = now_us / 1000;
  const std::string day = day_of(now_us), month = month_of(now_us);
  UnlimitedDone done;
  int is_settled = 0;
  std::string id;
  const auto take = [&] { (is_settled != 0 ? done.settled : done.admitted).insert(id); };
  each_kept(session, commit_text, take, soci::use(ended_rows, "ended"), soci::use(rows, "asked"),
            soci::use(server, "server"), soci::use(at_ms, "at"), soci::use(day, "day"),
            soci::use(month, "month"), soci::into(is_settled), soci::into(id));
  return done;
}

}  // namespace ridge::platform::metering
