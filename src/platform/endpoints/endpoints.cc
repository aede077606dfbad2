#include "platform/endpoints/endpoints.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/digest.h"
#include "platform/endpoints/moderation_url.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

constexpr int64_t most_endpoints = 1'000;
constexpr int64_t most_prompt_characters = int64_t{16} << 20;  // of all versions
constexpr std::size_t most_versions = 100;
constexpr int64_t most_releases = 20;

bool is_name(std::string_view name) {
  const auto is_letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= most_endpoint_name_bytes &&
         is_letter_or_digit(name.front()) && std::ranges::all_of(name, [&](char c) {
           return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
         });
}

template <typename Number>
void check_range(const std::optional<Number>& value, std::string_view name, Number low, Number high,
                 bool open_low = false) {
  if (!value || (*value <= high && (open_low ? *value > low : *value >= low))) return;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("{} is {}; it must be {} {} and at most {}", name, *value,
                  open_low ? "more than" : "at least", low, high),
      std::string(name));
}

void check_version(const EndpointVersion& version) {
  rows::check_name(version.model, "a model");
  if (version.system_prompt.size() > most_system_prompt_bytes ||
      !rows::is_utf8(version.system_prompt) ||
      version.system_prompt.find('\0') != std::string::npos) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a system prompt is UTF-8 of at most {} bytes, without NUL",
                            most_system_prompt_bytes),
                "system_prompt");
  }
  check_range(version.temperature, "temperature", 0.0, 2.0);
  check_range(version.top_p, "top_p", 0.0, 1.0, /*open_low=*/true);
  check_range(version.top_k, "top_k", int64_t{0}, most_endpoint_top_k);
  check_range(version.min_p, "min_p", 0.0, 1.0);
  check_range(version.max_tokens, "max_tokens", int64_t{1}, most_endpoint_tokens);
}

// The prompt itself may be long, and stays with its version.
Json audit_details(const EndpointVersion& version) {
  Json details = {{"number", version.number}, {"model", version.model}};
  if (!version.system_prompt.empty()) {
    details["system_prompt_sha256"] = Digest::of(version.system_prompt).to_string();
  }
  if (version.temperature) details["temperature"] = *version.temperature;
  if (version.top_p) details["top_p"] = *version.top_p;
  if (version.top_k) details["top_k"] = *version.top_k;
  if (version.min_p) details["min_p"] = *version.min_p;
  if (version.max_tokens) details["max_tokens"] = *version.max_tokens;
  return details;
}

Json json_of(const std::vector<EndpointShare>& shares) {
  Json list = Json::array();
  for (const EndpointShare& share : shares) {
    list.push_back({{"version", share.version}, {"percent", share.percent}});
  }
  return list;
}

// A value, and whether there is one.
template <typename Number>
struct Nullable {
  explicit Nullable(const std::optional<Number>& given = {})
      : value(given.value_or(Number{})), is(given ? soci::i_ok : soci::i_null) {}
  std::optional<Number> get() const {
    return is == soci::i_ok ? std::optional(value) : std::nullopt;
  }
  Number value;
  soci::indicator is;
};

// `name` empty: all of them.
std::vector<Endpoint> endpoint_rows(soci::session& session, const std::string& name) {
  std::vector<Endpoint> endpoints;
  Endpoint row;
  int64_t is_enabled = 0;
  soci::statement select =
      (session.prepare << "SELECT id, name, is_enabled, moderation_url, created_at_ms, "
                          "updated_at_ms FROM endpoints WHERE (name = :name OR '' = :name)",
       soci::use(name, "name"), soci::into(row.id), soci::into(row.name), soci::into(is_enabled),
       soci::into(row.moderation_url), soci::into(row.created_at_ms),
       soci::into(row.updated_at_ms));
  select.execute();
  while (select.fetch()) {
    row.is_enabled = is_enabled != 0;
    endpoints.push_back(row);
  }
  // Not by the database: two databases sort letters in two ways.
  std::ranges::sort(endpoints, {}, &Endpoint::name);
  return endpoints;
}

// `id` empty: of all endpoints.
void read_versions(soci::session& session, const std::string& id,
                   std::map<std::string, Endpoint*>& by_id) {
  std::string endpoint;
  EndpointVersion row;
  Nullable<double> temperature, top_p, min_p;
  Nullable<int64_t> top_k, max_tokens;
  soci::statement select =
      (session.prepare << "SELECT endpoint_id, number, model, system_prompt, temperature, top_p, "
                          "top_k, min_p, max_tokens, created_at_ms FROM endpoint_versions WHERE "
                          "(endpoint_id = :id OR '' = :id) ORDER BY number",
       soci::use(id, "id"), soci::into(endpoint), soci::into(row.number), soci::into(row.model),
       soci::into(row.system_prompt), soci::into(temperature.value, temperature.is),
       soci::into(top_p.value, top_p.is), soci::into(top_k.value, top_k.is),
       soci::into(min_p.value, min_p.is), soci::into(max_tokens.value, max_tokens.is),
       soci::into(row.created_at_ms));
  select.execute();
  while (select.fetch()) {
    row.temperature = temperature.get();
    row.top_p = top_p.get();
    row.top_k = top_k.get();
    row.min_p = min_p.get();
    row.max_tokens = max_tokens.get();
    if (const auto found = by_id.find(endpoint); found != by_id.end()) {
      found->second->versions.push_back(row);
    }
  }
}

void read_shares(soci::session& session, const std::string& id,
                 std::map<std::string, Endpoint*>& by_id) {
  std::string endpoint;
  EndpointShare row;
  soci::statement select =
      (session.prepare << "SELECT s.endpoint_id, s.version, s.percent FROM endpoint_shares s "
                          "WHERE (s.endpoint_id = :id OR '' = :id) AND s.release_number = "
                          "(SELECT MAX(newest.release_number) FROM endpoint_shares newest WHERE "
                          "newest.endpoint_id = s.endpoint_id) ORDER BY s.version",
       soci::use(id, "id"), soci::into(endpoint), soci::into(row.version),
       soci::into(row.percent));
  select.execute();
  while (select.fetch()) {
    if (const auto found = by_id.find(endpoint); found != by_id.end()) {
      found->second->shares.push_back(row);
    }
  }
}

std::vector<Endpoint> all_of(soci::session& session, const std::string& name) {
  std::vector<Endpoint> endpoints = endpoint_rows(session, name);
  std::map<std::string, Endpoint*> by_id;
  for (Endpoint& endpoint : endpoints) by_id[endpoint.id] = &endpoint;
  const std::string id = endpoints.size() == 1 ? endpoints.front().id : "";
  if (!endpoints.empty()) read_versions(session, id, by_id);
  if (!endpoints.empty()) read_shares(session, id, by_id);
  return endpoints;
}

Endpoint endpoint_named(soci::session& session, const std::string& name) {
  std::vector<Endpoint> found;
  if (!name.empty()) found = all_of(session, name);
  if (!found.empty()) return std::move(found.front());
  throw Error(ErrorCode::not_found, fmt::format("there is no endpoint '{}'", name.substr(0, 100)));
}

int64_t number_of(soci::session& session, const std::string& query, const std::string& id) {
  int64_t number = 0;
  session << query, soci::use(id), soci::into(number);
  return number;
}

void insert_version(soci::session& session, const std::string& id,
                    const EndpointVersion& version) {
  int64_t characters = 0;
  session << "SELECT CAST(COALESCE(SUM(LENGTH(system_prompt)), 0) AS BIGINT) FROM "
             "endpoint_versions",
      soci::into(characters);
  if (characters + static_cast<int64_t>(version.system_prompt.size()) > most_prompt_characters) {
    throw Error(ErrorCode::invalid_argument,
                "the endpoints' system prompts are too long together; remove endpoints that are no "
                "longer used",
                "system_prompt");
  }
  Nullable<double> temperature(version.temperature), top_p(version.top_p),
      min_p(version.min_p);
  Nullable<int64_t> top_k(version.top_k), max_tokens(version.max_tokens);
  session << "INSERT INTO endpoint_versions (endpoint_id, number, model, system_prompt, "
             "temperature, top_p, top_k, min_p, max_tokens, created_at_ms) VALUES (:id, :number, "
             ":model, :prompt, :temperature, :top_p, :top_k, :min_p, :max_tokens, :at)",
      soci::use(id), soci::use(version.number), soci::use(version.model),
      soci::use(version.system_prompt), soci::use(temperature.value, temperature.is),
      soci::use(top_p.value, top_p.is), soci::use(top_k.value, top_k.is),
      soci::use(min_p.value, min_p.is), soci::use(max_tokens.value, max_tokens.is),
      soci::use(version.created_at_ms);
}

// Takes away the oldest versions beyond those that are kept, but none that a release has.
void forget_versions(soci::session& session, const Endpoint& endpoint) {
  if (endpoint.versions.size() <= most_versions) return;
  std::size_t surplus = endpoint.versions.size() - most_versions;
  for (const EndpointVersion& version : endpoint.versions) {
    if (surplus == 0) return;
    int64_t releases = 0;
    session << "SELECT COUNT(*) FROM endpoint_shares WHERE endpoint_id = :id AND version = :number",
        soci::use(endpoint.id), soci::use(version.number), soci::into(releases);
    if (releases > 0) continue;
    session << "DELETE FROM endpoint_versions WHERE endpoint_id = :id AND number = :number",
        soci::use(endpoint.id), soci::use(version.number);
    --surplus;
  }
}

constexpr const char* newest_release =
    "SELECT COALESCE(MAX(release_number), 0) FROM endpoint_shares WHERE endpoint_id = :id";

void insert_release(soci::session& session, const std::string& id,
                    const std::vector<EndpointShare>& shares) {
  const int64_t release = number_of(session, newest_release, id) + 1;
  for (const EndpointShare& share : shares) {
    session << "INSERT INTO endpoint_shares (endpoint_id, release_number, version, percent) VALUES "
               "(:id, :release, :version, :percent)",
        soci::use(id), soci::use(release), soci::use(share.version), soci::use(share.percent);
  }
  const int64_t oldest = release - most_releases;
  session << "DELETE FROM endpoint_shares WHERE endpoint_id = :id AND release_number <= :oldest",
      soci::use(id), soci::use(oldest);
}

// Those of at least one percent, the older version first.
std::vector<EndpointShare> checked_shares(const Endpoint& endpoint,
                                          std::vector<EndpointShare> shares) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::invalid_argument, message, "shares");
  };
  int sum = 0;
  for (const EndpointShare& share : shares) {
    if (share.percent < 0 || share.percent > 100) {
      refuse(fmt::format("a share is {} percent; it must be from 0 to 100", share.percent));
    }
    if (endpoint.find(share.version) == nullptr) {
      refuse(fmt::format("the endpoint '{}' has no version {}", endpoint.name, share.version));
    }
    sum += share.percent;
  }
  std::erase_if(shares, [](const EndpointShare& share) { return share.percent == 0; });
  std::ranges::sort(shares, {}, &EndpointShare::version);
  const bool is_twice =
      shares.size() == 2 && shares.front().version == shares.back().version;
  if (sum != 100 || shares.empty() || shares.size() > 2 || is_twice) {
    refuse("the shares of one or two versions must be 100 percent together");
  }
  return shares;
}

// A change, counted and recorded; returns the endpoint as it is now.
Endpoint record(soci::session& session, const Endpoint& endpoint, int64_t now_ms,
                std::string_view actor, std::string_view action, Json details) {
  session << "UPDATE endpoints SET updated_at_ms = :at WHERE id = :id", soci::use(now_ms),
      soci::use(endpoint.id);
  session << "UPDATE endpoint_revision SET revision = revision + 1";
  details["name"] = endpoint.name;
  rows::record_event(session, now_ms, actor, action, endpoint.id, details.dump());
  return endpoint_named(session, endpoint.name);
}

}  // namespace

const Endpoint* EndpointTable::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(endpoints, name, {}, [](const Endpoint& endpoint) {
    return std::string_view(endpoint.name);
  });
  return found != endpoints.end() && found->name == name ? &*found : nullptr;
}

Endpoints::Endpoints(Database& database, Identity::NowMs now_ms)
    : database_(database), now_ms_(Identity::clock_of(database, std::move(now_ms))) {}

Endpoint Endpoints::create(const std::string& name, const EndpointVersion& first,
                           const std::string& moderation_url, std::string_view actor) {
  if (!is_name(name)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the name of an endpoint must be 1 to {} letters, digits, '.', '_' and "
                            "'-', and begin with a letter or digit",
                            most_endpoint_name_bytes),
                "name");
  }
  check_version(first);
  if (!moderation_url.empty()) check_moderation_url(moderation_url);
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    if (!endpoint_rows(session, name).empty()) {
      throw Error(ErrorCode::already_exists,
                  fmt::format("there is an endpoint '{}' already", name), "name");
    }
    int64_t count = 0;
    session << "SELECT COUNT(*) FROM endpoints", soci::into(count);
    if (count >= most_endpoints) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("there are {} endpoints already; remove one first", count));
    }
    const Endpoint endpoint{.id = new_id("end_"), .name = name};
    const std::string organisation = rows::organisation_id(session, now_ms);
    session << "INSERT INTO endpoints (id, organisation_id, name, is_enabled, moderation_url, "
               "created_at_ms, updated_at_ms) VALUES (:id, :organisation, :name, 1, :url, :at, "
               ":at)",
        soci::use(endpoint.id, "id"), soci::use(organisation, "organisation"),
        soci::use(name, "name"), soci::use(moderation_url, "url"), soci::use(now_ms, "at");
    EndpointVersion version = first;
    version.number = 1;
    version.created_at_ms = now_ms;
    insert_version(session, endpoint.id, version);
    insert_release(session, endpoint.id, {{.version = 1, .percent = 100}});
    Json details = {{"version", audit_details(version)}};
    if (!moderation_url.empty()) details["moderation_url"] = without_query(moderation_url);
    return record(session, endpoint, now_ms, actor, "endpoint.create", std::move(details));
  });
}

Endpoint Endpoints::change(const std::string& name, const EndpointChange& change,
                           std::string_view actor) {
  if (!change.moderation_url.value_or("").empty()) check_moderation_url(*change.moderation_url);
  return database_.write([&](soci::session& session) {
    const Endpoint endpoint = endpoint_named(session, name);
    Json details = Json::object();
    if (change.is_enabled) {
      const int64_t is_enabled = *change.is_enabled ? 1 : 0;
      session << "UPDATE endpoints SET is_enabled = :is WHERE id = :id", soci::use(is_enabled),
          soci::use(endpoint.id);
      details["is_enabled"] = *change.is_enabled;
    }
    if (change.moderation_url) {
      session << "UPDATE endpoints SET moderation_url = :url WHERE id = :id",
          soci::use(*change.moderation_url), soci::use(endpoint.id);
      const std::string& url = *change.moderation_url;
      details["moderation_url"] = url.empty() ? Json(nullptr) : Json(without_query(url));
    }
    if (details.empty()) return endpoint;
    return record(session, endpoint, now_ms_(), actor, "endpoint.change", std::move(details));
  });
}

Endpoint Endpoints::add_version(const std::string& name, const EndpointVersion& given,
                                std::string_view actor) {
  check_version(given);
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    const Endpoint endpoint = endpoint_named(session, name);
    EndpointVersion version = given;
    version.number = endpoint.versions.back().number + 1;
    version.created_at_ms = now_ms;
    insert_version(session, endpoint.id, version);
    forget_versions(session, endpoint_named(session, name));
    return record(session, endpoint, now_ms, actor, "endpoint.version", audit_details(version));
  });
}

Endpoint Endpoints::set_shares(const std::string& name, std::vector<EndpointShare> shares,
                               std::string_view actor) {
  return database_.write([&](soci::session& session) {
    const Endpoint endpoint = endpoint_named(session, name);
    const std::vector<EndpointShare> checked = checked_shares(endpoint, shares);
    if (checked == endpoint.shares) return endpoint;  // or a rollback would change nothing
    insert_release(session, endpoint.id, checked);
    return record(session, endpoint, now_ms_(), actor, "endpoint.shares",
                  {{"shares", json_of(checked)}});
  });
}

Endpoint Endpoints::roll_back(const std::string& name, std::string_view actor) {
  return database_.write([&](soci::session& session) {
    const Endpoint endpoint = endpoint_named(session, name);
    const int64_t newest = number_of(session, newest_release, endpoint.id);
    const int64_t releases = number_of(
        session,
        "SELECT COUNT(DISTINCT release_number) FROM endpoint_shares WHERE endpoint_id = :id",
        endpoint.id);
    if (releases < 2) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the endpoint '{}' has no earlier shares to go back to", name));
    }
    session << "DELETE FROM endpoint_shares WHERE endpoint_id = :id AND release_number = :release",
        soci::use(endpoint.id), soci::use(newest);
    const Json details = {{"from", json_of(endpoint.shares)},
                          {"to", json_of(endpoint_named(session, name).shares)}};
    return record(session, endpoint, now_ms_(), actor, "endpoint.rollback", details);
  });
}

void Endpoints::remove(const std::string& name, std::string_view actor) {
  database_.write([&](soci::session& session) {
    const Endpoint endpoint = endpoint_named(session, name);
    record(session, endpoint, now_ms_(), actor, "endpoint.delete", Json::object());
    for (const char* table : {"endpoint_shares", "endpoint_versions"}) {
      session << "DELETE FROM " << table << " WHERE endpoint_id = :id", soci::use(endpoint.id);
    }
    session << "DELETE FROM endpoints WHERE id = :id", soci::use(endpoint.id);
  });
}

Endpoint Endpoints::get(const std::string& name) {
  return database_.read([&](soci::session& session) { return endpoint_named(session, name); });
}

EndpointTable Endpoints::table() {
  return database_.read([](soci::session& session) {
    EndpointTable table;
    session << "SELECT revision FROM endpoint_revision", soci::into(table.revision);
    table.endpoints = all_of(session, "");
    return table;
  });
}

int64_t Endpoints::revision() {
  return database_.read([](soci::session& session) {
    int64_t revision = 0;
    session << "SELECT revision FROM endpoint_revision", soci::into(revision);
    return revision;
  });
}

}  // namespace ridge::platform
