#include "platform/metering/limits.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

std::string find_key(soci::session& session, const LimitSubject& subject,
                     const std::string& project_id) {
  std::string id;
  session
      << "SELECT COALESCE(NULLIF(allowance_id, ''), id) FROM api_keys WHERE project_id = :project AND "
         "revoked_at_ms IS NULL AND "
         "rotated_to IS NULL AND (id = :key OR name = :key) ORDER BY created_at_ms DESC LIMIT 1",
      soci::use(project_id, "project"), soci::use(subject.key, "key"), soci::into(id);
  if (session.got_data()) return id;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no key '{}' in project '{}'; 'ridge key list' shows the keys",
                          subject.key, subject.project));
}

std::string subject_id(soci::session& session, const LimitSubject& subject, int64_t now_ms) {
  if (!subject.user.empty()) {
    if (subject.project.empty() && subject.key.empty()) {
      return rows::user_named(session, subject.user).id;
    }
    throw Error(ErrorCode::invalid_argument,
                "a limit is for a user, or for a project or a key of it, and not for both", "user");
  }
  if (subject.key.empty() && subject.project.empty()) {
    return rows::organisation_id(session, now_ms);
  }
  LimitSubject named = subject;
  if (named.project.empty()) named.project = default_project;
  const std::string project = rows::project_id(session, named.project, now_ms);
  return named.key.empty() ? project : find_key(session, named, project);
}

// So that lists of them stay short enough to be read at once.
void check_room(soci::session& session, const std::string& table) {
  int64_t rows = 0;
  session << "SELECT COUNT(*) FROM " << table, soci::into(rows);
  if (rows <= Limits::most_rows) return;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("there would be {} {}, and at most {} may be", rows, table, Limits::most_rows));
}

void check_price(int64_t micros) {
  if (micros >= 0 && micros <= Limits::largest_price_micros) return;
  throw Error(ErrorCode::invalid_argument,
              "a price for a million tokens is from 0 to 1,000,000 of the currency");
}

}  // namespace

std::string_view name(LimitKind kind) {
  switch (kind) {
    case LimitKind::requests_per_minute:
      return "requests_per_minute";
    case LimitKind::tokens_per_minute:
      return "tokens_per_minute";
    case LimitKind::input_tokens_per_minute:
      return "input_tokens_per_minute";
    case LimitKind::output_tokens_per_minute:
      return "output_tokens_per_minute";
    case LimitKind::concurrent_requests:
      return "concurrent_requests";
    case LimitKind::tokens_per_day:
      return "tokens_per_day";
    case LimitKind::tokens_per_month:
      return "tokens_per_month";
    case LimitKind::micros_per_month:
      return "micros_per_month";
  }
  return "unknown";
}

std::optional<LimitKind> limit_kind_named(std::string_view name) {
  for (const LimitKind kind : limit_kinds) {
    if (platform::name(kind) == name) return kind;
  }
  return std::nullopt;
}

std::string limit_kind_names() {
  std::string names;
  for (const LimitKind kind : limit_kinds) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name(kind));
  }
  return names;
}

bool is_rate(LimitKind kind) {
  switch (kind) {
    case LimitKind::requests_per_minute:
    case LimitKind::tokens_per_minute:
    case LimitKind::input_tokens_per_minute:
    case LimitKind::output_tokens_per_minute:
      return true;
    case LimitKind::concurrent_requests:
    case LimitKind::tokens_per_day:
    case LimitKind::tokens_per_month:
    case LimitKind::micros_per_month:
      break;
  }
  return false;
}

Limits::Limits(Database& database, Identity::NowMs now_ms)
    : database_(database), now_ms_(Identity::clock_of(database, std::move(now_ms))) {}

void Limits::set(const LimitSubject& subject, const std::string& model, LimitKind kind,
                 std::optional<int64_t> most, std::string_view actor) {
  if (!model.empty()) rows::check_name(model, "a model");
  if (most && (*most < 0 || *most > largest_limit)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is {}; it must be from 0 to {}", name(kind), *most, largest_limit));
  }
  database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    const std::string id = subject_id(session, subject, now_ms);
    const std::string kind_text(name(kind));
    if (most) {
      session << "INSERT INTO limits (subject, model, kind, most) VALUES (:subject, :model, :kind, "
                 ":most) ON CONFLICT (subject, model, kind) DO UPDATE SET most = excluded.most",
          soci::use(id), soci::use(model), soci::use(kind_text), soci::use(*most);
      check_room(session, "limits");
    } else {
      session << "DELETE FROM limits WHERE subject = :subject AND model = :model AND kind = :kind",
          soci::use(id), soci::use(model), soci::use(kind_text);
    }
    const Json details = {
        {"model", model}, {"kind", kind_text}, {"most", most ? Json(*most) : Json(nullptr)}};
    rows::record_change(session, now_ms, actor, "limit.set", id, details.dump());
  });
}

std::vector<NamedLimit> Limits::list() {
  return database_.read([](soci::session& session) {
    std::vector<NamedLimit> limits;
    NamedLimit row;
    std::string kind, project_of_key;
    soci::indicator project_is, key_is, project_of_key_is, user_is;
    soci::statement select =
        (session.prepare
             << "SELECT l.subject, l.model, l.kind, l.most, p.name, k.name, kp.name, u.name FROM "
                "limits l LEFT JOIN projects p ON p.id = l.subject LEFT JOIN api_keys k ON k.id = "
                "l.subject LEFT JOIN projects kp ON kp.id = k.project_id LEFT JOIN users u ON u.id "
                "= l.subject ORDER BY kp.name, p.name, k.name, u.name, l.subject, l.model, l.kind",
         soci::into(row.limit.subject), soci::into(row.limit.model), soci::into(kind),
         soci::into(row.limit.most), soci::into(row.project, project_is),
         soci::into(row.key, key_is), soci::into(project_of_key, project_of_key_is),
         soci::into(row.user, user_is));
    select.execute();
    while (select.fetch()) {
      const auto known = limit_kind_named(kind);
      if (!known) continue;
      NamedLimit next = row;
      next.limit.kind = *known;
      if (project_is == soci::i_null) next.project.clear();
      if (key_is == soci::i_null) next.key.clear();
      if (user_is == soci::i_null) next.user.clear();
      if (project_of_key_is == soci::i_ok) next.project = project_of_key;
      limits.push_back(std::move(next));
    }
    return limits;
  });
}

void Limits::set_price(const std::string& model, const std::optional<Price>& price,
                       std::string_view actor) {
  if (!model.empty()) rows::check_name(model, "a model");
  if (price) {
    for (const int64_t micros :
         {price->prompt_micros, price->cached_micros, price->completion_micros}) {
      check_price(micros);
    }
    if (price->cached_micros > price->prompt_micros) {
      throw Error(ErrorCode::invalid_argument,
                  "cached prompt tokens cannot cost more than others, or what was reserved for a "
                  "prompt would not do");
    }
    if (price->free_tokens < 0 || price->free_tokens > largest_limit) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{} tokens a month are free; it must be from 0 to {}",
                              price->free_tokens, largest_limit));
    }
  }
  database_.write([&](soci::session& session) {
    Json details = {{"model", model}};
    session << "DELETE FROM prices WHERE model = :model", soci::use(model);
    if (price) {
      session << "INSERT INTO prices (model, prompt_micros, cached_micros, completion_micros, "
                 "free_tokens) VALUES (:model, :prompt, :cached, :completion, :free)",
          soci::use(model), soci::use(price->prompt_micros), soci::use(price->cached_micros),
          soci::use(price->completion_micros), soci::use(price->free_tokens);
      check_room(session, "prices");
      details["prompt_micros"] = price->prompt_micros;
      details["cached_micros"] = price->cached_micros;
      details["completion_micros"] = price->completion_micros;
      if (price->free_tokens > 0) details["free_tokens"] = price->free_tokens;
    }
    rows::record_change(session, now_ms_(), actor, price ? "price.set" : "price.remove", model,
                        details.dump());
  });
}

std::vector<ModelPrice> Limits::prices() {
  return database_.read([](soci::session& session) {
    std::vector<ModelPrice> prices;
    ModelPrice row;
    soci::statement select =
        (session.prepare << "SELECT model, prompt_micros, cached_micros, completion_micros, "
                            "free_tokens FROM prices ORDER BY model",
         soci::into(row.model), soci::into(row.price.prompt_micros),
         soci::into(row.price.cached_micros), soci::into(row.price.completion_micros),
         soci::into(row.price.free_tokens));
    select.execute();
    while (select.fetch()) prices.push_back(row);
    return prices;
  });
}

}  // namespace ridge::platform
