#include "platform/database/schema.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <chrono>
#include <string>

#include "platform/database/schema_steps.h"

namespace ridge::platform {
namespace {

int64_t now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

bool has_table(soci::session& session, DatabaseKind kind, std::string_view table) {
  const std::string name(table);
  int64_t count = 0;
  if (kind == DatabaseKind::sqlite) {
    session << "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = :name",
        soci::use(name), soci::into(count);
  } else {
    session << "SELECT COUNT(*) FROM pg_catalog.pg_class c WHERE c.relname = :name AND "
               "pg_catalog.pg_table_is_visible(c.oid)",
        soci::use(name), soci::into(count);
  }
  return count > 0;
}

int64_t checked_version(soci::session& session, DatabaseKind kind, std::string_view name) {
  const int64_t version = schema_version(session, kind);
  const int64_t known = newest_schema_version();
  if (version > known) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("the database {} was used by a newer ridge: its schema has version {}, "
                            "and this program knows up to {}. Use the newer ridge, or restore a "
                            "backup from before",
                            name, version, known));
  }
  return version;
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
}

// Replaces what the two databases call differently.
std::string in_dialect(std::string sql, DatabaseKind kind) {
  const bool is_sqlite = kind == DatabaseKind::sqlite;
  replace_all(sql, "{counter}",
              is_sqlite ? "INTEGER PRIMARY KEY AUTOINCREMENT"
                        : "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
  replace_all(sql, "{now_ms}",
              is_sqlite ? "CAST(strftime('%s', 'now') AS INTEGER) * 1000"
                        : "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)");
  return sql;
}

// One after the other, as SQLite looks at the first of a text alone. They end with ";\n".
void run_statements(soci::session& session, std::string_view text, DatabaseKind kind) {
  constexpr std::string_view end = ";\n";
  while (true) {
    const std::size_t at = text.find(end);
    if (at == std::string_view::npos) return;
    session << in_dialect(std::string(text.substr(0, at)), kind);
    text.remove_prefix(at + end.size());
  }
}

}  // namespace

int64_t schema_version(soci::session& session, DatabaseKind kind) {
  if (!has_table(session, kind, "schema_steps")) return 0;
  int64_t version = 0;
  session << "SELECT COALESCE(MAX(version), 0) FROM schema_steps", soci::into(version);
  return version;
}

int64_t newest_schema_version() { return schema_steps().back().version; }

bool is_schema_current(soci::session& session, DatabaseKind kind, std::string_view name) {
  return checked_version(session, kind, name) == newest_schema_version();
}

void update_schema(soci::session& session, DatabaseKind kind, std::string_view name) {
  if (kind == DatabaseKind::postgresql) session << "SET LOCAL statement_timeout = 0";
  const int64_t version = checked_version(session, kind, name);
  if (version == 0) {
    session << "CREATE TABLE schema_steps (version BIGINT PRIMARY KEY, name TEXT NOT NULL, "
               "taken_at_ms BIGINT NOT NULL)";
  }
  for (const SchemaStep& step : schema_steps()) {
    if (step.version <= version) continue;
    run_statements(session, step.sql, kind);
    const std::string step_name(step.name);
    const int64_t taken_at_ms = now_ms();
    session << "INSERT INTO schema_steps (version, name, taken_at_ms) VALUES (:v, :n, :t)",
        soci::use(step.version), soci::use(step_name), soci::use(taken_at_ms);
  }
}

}  // namespace ridge::platform
