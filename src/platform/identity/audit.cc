#include <soci/soci.h>

#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

bool has_control(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return true;
  }
  return false;
}

// As LIKE takes it for itself, with '!' before what else would stand for others.
std::string escaped(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (c == '%' || c == '_' || c == '!') pattern += '!';
    pattern += c;
  }
  return pattern;
}

}  // namespace

bool rows::is_utf8(std::string_view text) {
  try {
    (void)nlohmann::json(text).dump();  // which is strict
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

bool Identity::is_name(std::string_view text, std::size_t most_bytes) {
  const bool is_padded = text.starts_with(' ') || text.ends_with(' ');
  return !text.empty() && text.size() <= most_bytes && !is_padded && !has_control(text) &&
         rows::is_utf8(text);
}

void rows::check_name(std::string_view name, std::string_view what) {
  if (Identity::is_name(name)) return;
  throw Error(ErrorCode::invalid_argument,
              "the name of " + std::string(what) +
                  " must be 1 to 100 bytes of UTF-8, without control characters and without a "
                  "space at either end");
}

void rows::record_change(soci::session& session, int64_t at_ms, std::string_view actor,
                         std::string_view action, std::string_view subject,
                         std::string_view details) {
  session << "UPDATE identity_revision SET revision = revision + 1";
  record_event(session, at_ms, actor, action, subject, details);
}

void rows::record_event(soci::session& session, int64_t at_ms, std::string_view actor,
                        std::string_view action, std::string_view subject,
                        std::string_view details) {
  const std::string actor_text(actor), action_text(action), subject_text(subject),
      details_text(details);
  session << "INSERT INTO audit_events (at_ms, actor, action, subject, details) VALUES "
             "(:at, :actor, :action, :subject, :details)",
      soci::use(at_ms), soci::use(actor_text), soci::use(action_text), soci::use(subject_text),
      soci::use(details_text);
}

void Identity::record_event(std::string_view actor, std::string_view action,
                            std::string_view subject) {
  database_.write([&](soci::session& session) {
    rows::record_event(session, now_ms_(), actor, action, subject, "{}");
  });
}

std::vector<AuditEvent> Identity::audit_events(const AuditQuery& query) {
  constexpr int64_t first = 0, last = std::numeric_limits<int64_t>::max();
  const int64_t before = query.before.value_or(last), from_ms = query.from_ms.value_or(first),
                until_ms = query.until_ms.value_or(last);
  const std::string pattern = "%" + escaped(query.text) + "%";
  return database_.read([&](soci::session& session) {
    std::vector<AuditEvent> events;
    AuditEvent row;
    soci::statement select =
        (session.prepare
             << "SELECT number, at_ms, actor, action, subject, details FROM audit_events WHERE "
                "number < :before AND at_ms >= :from AND at_ms < :until AND ('' = :action OR "
                "action = :action) AND LOWER(actor || ' ' || action || ' ' || subject || ' ' || "
                "details) LIKE LOWER(:pattern) ESCAPE '!' ORDER BY number DESC LIMIT :most",
         soci::use(before, "before"), soci::use(from_ms, "from"), soci::use(until_ms, "until"),
         soci::use(query.action, "action"), soci::use(pattern, "pattern"),
         soci::use(query.most, "most"), soci::into(row.number), soci::into(row.at_ms),
         soci::into(row.actor), soci::into(row.action), soci::into(row.subject),
         soci::into(row.details));
    select.execute();
    while (select.fetch()) events.push_back(row);
    return events;
  });
}

int64_t Identity::revision() {
  return database_.read([](soci::session& session) {
    int64_t revision = 0;
    session << "SELECT revision FROM identity_revision", soci::into(revision);
    return revision;
  });
}

int64_t Identity::wall_clock_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

Identity::NowMs Identity::clock_of(const Database& database, NowMs now_ms) {
  if (now_ms) return now_ms;
  return [&database] { return database.now_ms(); };
}

Identity::Identity(Database& database, NowMs now_ms)
    : database_(database), now_ms_(clock_of(database, std::move(now_ms))) {}

}  // namespace ridge::platform
