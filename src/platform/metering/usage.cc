#include "platform/metering/usage.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"
#include "platform/metering/rows.h"

namespace ridge::platform {
namespace {

constexpr UsageBy all[] = {UsageBy::day, UsageBy::project, UsageBy::key, UsageBy::model,
                           UsageBy::endpoint, UsageBy::custom_endpoint, UsageBy::endpoint_version,
                           UsageBy::finish_reason};

// Days are made from this, as the databases have no function in common that does it.
constexpr std::string_view day_number = "u.at_ms / 86400000";
constexpr int64_t day_us = 86'400'000'000;

std::string_view column_of(UsageBy by) {
  switch (by) {
    case UsageBy::day:
      return day_number;
    case UsageBy::project:
      return "p.name";
    case UsageBy::key:
      return "COALESCE(k.name, w.name, '')";  // a person's sessions have no key
    case UsageBy::model:
      return "u.model";
    case UsageBy::endpoint:
      return "u.endpoint";
    case UsageBy::custom_endpoint:
      return "u.custom_endpoint";
    case UsageBy::endpoint_version:
      return "CAST(u.endpoint_version AS TEXT)";
    case UsageBy::finish_reason:
      return "u.finish_reason";
  }
  return {};
}

// Of one transaction, and what others may write between two.
constexpr int64_t records_at_once = 1000;
constexpr std::chrono::milliseconds pause{20};

int64_t forget_some(soci::session& session, int64_t until_ms) {
  soci::statement remove =
      (session.prepare << "DELETE FROM usage_records WHERE id IN (SELECT id FROM usage_records "
                          "WHERE at_ms < :until ORDER BY at_ms LIMIT :most)",
       soci::use(until_ms), soci::use(records_at_once));
  remove.execute(/*withDataExchange=*/true);
  return remove.get_affected_rows();
}

bool has(const std::vector<UsageBy>& by, UsageBy which) {
  return std::find(by.begin(), by.end(), which) != by.end();
}

}  // namespace

std::string_view name(UsageBy by) {
  switch (by) {
    case UsageBy::day:
      return "day";
    case UsageBy::project:
      return "project";
    case UsageBy::key:
      return "key";
    case UsageBy::model:
      return "model";
    case UsageBy::endpoint:
      return "endpoint";
    case UsageBy::custom_endpoint:
      return "custom_endpoint";
    case UsageBy::endpoint_version:
      return "endpoint_version";
    case UsageBy::finish_reason:
      return "finish_reason";
  }
  return {};
}

std::optional<UsageBy> usage_by_named(std::string_view text) {
  for (const UsageBy by : all) {
    if (name(by) == text) return by;
  }
  return std::nullopt;
}

std::string usage_by_names() {
  std::string names;
  for (const UsageBy by : all) names += fmt::format("{}{}", names.empty() ? "" : ", ", name(by));
  return names;
}

std::vector<UsageRow> usage(Database& database, const UsageQuery& wanted) {
  const std::vector<UsageBy>& by = wanted.by;
  std::string columns, groups;
  for (const UsageBy each : all) {
    const std::string_view column = column_of(each);
    if (has(by, each)) {
      columns += fmt::format("{}, ", column);
      groups += fmt::format("{}{}", groups.empty() ? " GROUP BY " : ", ", column);
    } else {
      columns += each == UsageBy::day ? "0, " : "'', ";
    }
  }
  const auto sum = [](std::string_view of) {
    return fmt::format("CAST(COALESCE(SUM({}), 0) AS BIGINT), ", of);
  };
  const std::string query = fmt::format(
      "SELECT {}COUNT(*), {}{}{}{}{}{}{}CAST(COALESCE(AVG(u.ttft_ms), 0) AS DOUBLE PRECISION) FROM "
      "usage_records u JOIN projects p ON p.id = u.project_id LEFT JOIN api_keys k ON k.id = "
      "u.key_id LEFT JOIN users w ON w.id = u.key_id "
      "WHERE u.at_ms >= :from AND u.at_ms < :until AND ('' = :project OR p.name = :project){}{} "
      "LIMIT {}",
      columns, sum("CASE WHEN u.finish_reason IN ('failed', 'cancelled') THEN 1 ELSE 0 END"),
      sum("u.prompt_tokens"), sum("u.cached_tokens"), sum("u.completion_tokens"),
      sum("u.reasoning_tokens"), sum("u.free_tokens"), sum("u.micros"), groups,
      groups.empty() ? "" : " ORDER BY" + groups.substr(sizeof(" GROUP BY") - 1),
      wanted.most_rows + 1);
  return database.read([&](soci::session& session) {
    std::vector<UsageRow> rows;
    UsageRow row;
    int64_t days = 0;
    soci::statement select =
        (session.prepare << query, soci::use(wanted.from_ms, "from"),
         soci::use(wanted.until_ms, "until"), soci::use(wanted.project, "project"),
         soci::into(days), soci::into(row.project), soci::into(row.key), soci::into(row.model),
         soci::into(row.endpoint), soci::into(row.custom_endpoint),
         soci::into(row.endpoint_version), soci::into(row.finish_reason),
         soci::into(row.requests), soci::into(row.failures),
         soci::into(row.prompt_tokens), soci::into(row.cached_tokens),
         soci::into(row.completion_tokens), soci::into(row.reasoning_tokens),
         soci::into(row.free_tokens), soci::into(row.micros), soci::into(row.ttft_ms));
    select.execute();
    while (select.fetch()) {
      UsageRow next = row;
      if (has(by, UsageBy::day)) next.day = metering::day_of(days * day_us);
      if (next.requests > 0) rows.push_back(std::move(next));
    }
    if (std::cmp_greater(rows.size(), wanted.most_rows)) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("these are more than {} rows; ask for fewer days, or by less",
                              wanted.most_rows));
    }
    return rows;
  });
}

std::vector<UsageRecord> usage_records(Database& database, const UsageRecordQuery& query) {
  return database.read([&](soci::session& session) {
    int64_t from_ms = query.from_ms, after_ms = -1;
    if (!query.after.empty()) {
      session << "SELECT u.at_ms FROM usage_records u JOIN projects p ON p.id = u.project_id WHERE "
                 "u.id = :id AND ('' = :project OR p.name = :project)",
          soci::use(query.after, "id"), soci::use(query.project, "project"), soci::into(after_ms);
      if (!session.got_data()) {
        throw Error(ErrorCode::invalid_argument,
                    "'after' must be the id of a record of these; that one is not there, or not any "
                    "more",
                    "after");
      }
      from_ms = std::max(from_ms, after_ms);
    }
    std::vector<UsageRecord> records;
    UsageRecord row;
    const int64_t most = query.most;
    soci::statement select =
        (session.prepare
             << "SELECT u.id, u.request_id, u.at_ms, p.name, COALESCE(k.name, w.name, ''), u.model, "
                "u.endpoint, u.custom_endpoint, u.endpoint_version, u.prompt_tokens, "
                "u.cached_tokens, u.completion_tokens, u.reasoning_tokens, u.free_tokens, "
                "u.ttft_ms, u.duration_ms, u.finish_reason, u.micros FROM usage_records u JOIN "
                "projects p ON p.id = u.project_id LEFT JOIN api_keys k ON k.id = u.key_id LEFT "
                "JOIN users w ON w.id = u.key_id WHERE u.at_ms >= :from AND u.at_ms < :until AND "
                "(u.at_ms > :after_ms OR u.id > :after) AND ('' = :project OR p.name = :project) "
                "AND ('' = :key OR u.key_id = :key OR k.name = :key OR w.name = :key) AND ('' = "
                ":model OR u.model = :model) ORDER BY u.at_ms, u.id LIMIT :most",
         soci::use(from_ms, "from"), soci::use(query.until_ms, "until"),
         soci::use(after_ms, "after_ms"), soci::use(query.after, "after"),
         soci::use(query.project, "project"), soci::use(query.key, "key"),
         soci::use(query.model, "model"), soci::use(most, "most"), soci::into(row.id),
         soci::into(row.request_id), soci::into(row.at_ms), soci::into(row.project),
         soci::into(row.key), soci::into(row.model), soci::into(row.endpoint),
         soci::into(row.custom_endpoint), soci::into(row.endpoint_version),
         soci::into(row.prompt_tokens), soci::into(row.cached_tokens),
         soci::into(row.completion_tokens), soci::into(row.reasoning_tokens),
         soci::into(row.free_tokens), soci::into(row.ttft_ms), soci::into(row.duration_ms),
         soci::into(row.finish_reason), soci::into(row.micros));
    select.execute();
    while (select.fetch()) records.push_back(row);
    return records;
  });
}

bool has_usage_before(Database& database, int64_t until_ms) {
  return database.read([&](soci::session& session) {
    std::string id;
    session << "SELECT id FROM usage_records WHERE at_ms < :until LIMIT 1", soci::use(until_ms),
        soci::into(id);
    return session.got_data();
  });
}

int64_t forget_usage(Database& database, int64_t until_ms, std::string_view actor,
                     const std::stop_token& stop) {
  int64_t records = 0;
  while (!stop.stop_requested()) {
    const int64_t removed = database.write(
        [&](soci::session& session) { return forget_some(session, until_ms); });
    records += removed;
    if (removed < records_at_once) break;
    std::this_thread::sleep_for(pause);
  }
  const nlohmann::json details = {{"until_ms", until_ms}, {"records", records}};
  database.write([&](soci::session& session) {
    rows::record_event(session, Identity::wall_clock_ms(), actor, "usage.forget", "",
                       details.dump());
  });
  return records;
}

}  // namespace ridge::platform
