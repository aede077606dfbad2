#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

Json json_of(const KeyRights& rights) {
  Json json = {{"scopes", Json::array()}, {"models", rights.models}, {"addresses", Json::array()}};
  for (const Scope scope : rights.scopes) json["scopes"].push_back(name(scope));
  for (const AddressRange& range : rights.addresses) json["addresses"].push_back(range.text());
  return json;
}

// Of the three columns. What this program does not know gives no right.
KeyRights rights_of(const std::string& scopes, const std::string& models,
                    const std::string& addresses) {
  using Texts = std::vector<std::string>;
  try {
    KeyRights rights{.scopes = {}, .models = Json::parse(models).get<Texts>()};
    for (const std::string& scope : Json::parse(scopes).get<Texts>()) {
      if (const auto known = scope_named(scope)) rights.scopes.push_back(*known);
    }
    for (const std::string& range : Json::parse(addresses).get<Texts>()) {
      rights.addresses.push_back(AddressRange::parse_or_throw(range));
    }
    return rights;
  } catch (const Json::exception&) {
    throw Error(ErrorCode::invalid_file, "the rights of a key in the database are damaged");
  }
}

struct KeyRow {
  ApiKey key;
  std::string project_id, organisation_id, allowance_id;
  double project_weight = 1;
  int64_t keep_days = 0;
  std::string owner_id, owner_role, owner_kind;  // empty where a project owns it
  std::string membership;                        // the owner's role in the project; empty: none
  bool owner_is_disabled = false;
};

// The most that somebody with these rights alone may be.
Role role_by(const KeyRights& rights) {
  if (rights.has(Scope::admin)) return Role::owner;
  return rights.has(Scope::inference) ? Role::developer : Role::viewer;
}

// By their names in a query, each of which it must use.
using Values = std::map<std::string, std::string>;

// `where` begins with "WHERE"; the oldest come first.
std::vector<KeyRow> key_rows(soci::session& session, const std::string& where, const Values& values,
                             int most = std::numeric_limits<int>::max()) {
  std::vector<KeyRow> rows;
  KeyRow row;
  std::string scopes, models, addresses;
  int64_t expires_at_ms = 0, revoked_at_ms = 0, disabled_at_ms = 0;
  soci::indicator owner_is, user_is, role_is, disabled_is, expires_is, revoked_is, rotated_is;
  // A server of before that runs on makes keys without an allowance.
  const std::string query =
      "SELECT k.id, k.name, k.hint, k.scopes, k.models, k.addresses, k.created_at_ms, "
      "k.expires_at_ms, k.revoked_at_ms, k.rotated_to, p.id, p.organisation_id, p.name, p.weight, "
      "p.keep_days, "
      "u.id, u.name, u.role, u.disabled_at_ms, COALESCE(NULLIF(k.allowance_id, ''), k.id), "
      "COALESCE(u.kind, ''), COALESCE(m.role, '') "
      "FROM api_keys k JOIN projects p ON p.id = k.project_id LEFT JOIN users u "
      "ON u.id = k.user_id LEFT JOIN project_members m ON m.project_id = k.project_id AND "
      "m.user_id = k.user_id " +
      where + fmt::format(" ORDER BY k.created_at_ms, k.id LIMIT {}", most);
  soci::statement select(session);
  for (const auto& [name, value] : values) select.exchange(soci::use(value, name));
  const auto into = [&select](auto&&... column) { select.exchange(soci::into(column...)); };
  into(row.key.id);
  into(row.key.name);
  into(row.key.hint);
  into(scopes);
  into(models);
  into(addresses);
  into(row.key.created_at_ms);
  into(expires_at_ms, expires_is);
  into(revoked_at_ms, revoked_is);
  into(row.key.rotated_to, rotated_is);
  into(row.project_id);
  into(row.organisation_id);
  into(row.key.project);
  into(row.project_weight);
  into(row.keep_days);
  into(row.owner_id, owner_is);
  into(row.key.user, user_is);
  into(row.owner_role, role_is);
  into(disabled_at_ms, disabled_is);
  into(row.allowance_id);
  into(row.owner_kind);
  into(row.membership);
  select.alloc();
  select.prepare(query);
  select.define_and_bind();
  select.execute();
  while (select.fetch()) {
    KeyRow next = row;
    next.key.rights = rights_of(scopes, models, addresses);
    if (expires_is == soci::i_ok) next.key.expires_at_ms = expires_at_ms;
    if (revoked_is == soci::i_ok) next.key.revoked_at_ms = revoked_at_ms;
    if (rotated_is == soci::i_null) next.key.rotated_to.clear();
    if (user_is == soci::i_null) next.key.user.clear();
    if (owner_is == soci::i_null) next.owner_id.clear();
    if (role_is == soci::i_null) next.owner_role.clear();
    next.owner_is_disabled = disabled_is == soci::i_ok;
    rows.push_back(std::move(next));
  }
  return rows;
}

// The keys that are meant and are not revoked.
std::vector<KeyRow> unrevoked_rows(soci::session& session, const KeySelector& which) {
  std::vector<KeyRow> rows =
      key_rows(session, "WHERE k.revoked_at_ms IS NULL AND k.id = :id", {{"id", which.id_or_name}});
  if (rows.empty()) {
    rows =
        key_rows(session, "WHERE k.revoked_at_ms IS NULL AND k.name = :name AND p.name = :project",
                 {{"name", which.id_or_name}, {"project", which.project}});
  }
  if (!rows.empty()) return rows;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no key '{}' in project '{}' that is not revoked; 'ridge key "
                          "list' shows the keys",
                          which.id_or_name, which.project));
}

void check_rights(const KeyRights& rights) {
  if (rights.scopes.empty() || rights.models.size() > most_key_models ||
      rights.addresses.size() > most_key_addresses) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a key has at least one scope, at most {} models and at most {} "
                            "addresses",
                            most_key_models, most_key_addresses));
  }
  for (const std::string& model : rights.models) rows::check_name(model, "a model");
}

void check_lifetime(const std::optional<int64_t>& lifetime_ms) {
  if (lifetime_ms && (*lifetime_ms <= 0 || *lifetime_ms > longest_key_lifetime_ms)) {
    throw Error(ErrorCode::invalid_argument, "a key lives for more than 0 and at most 100 years");
  }
}

// What the owner may do in the project of `project_id`; null where that is nothing.
std::optional<Role> role_of(soci::session& session, const User& user,
                            const std::string& project_id) {
  if (user.kind == UserKind::service) return user.role;
  return role_in_project(user.role, rows::membership(session, project_id, user.id));
}

// The id of the key's owner, or empty. Throws where the owner could not use such a key.
std::string owner_id(soci::session& session, const NewKey& wanted, const std::string& project_id) {
  if (wanted.user.empty()) return {};
  const User user = rows::user_named(session, wanted.user);
  if (user.disabled_at_ms) {
    throw Error(ErrorCode::invalid_argument, fmt::format("the user '{}' is disabled", wanted.user));
  }
  if (user.kind == UserKind::service && user.project != wanted.project) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is a service of project '{}', and the key would be of '{}'",
                            wanted.user, user.project, wanted.project));
  }
  const auto role = role_of(session, user, project_id);
  if (!role) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("'{0}' is no member of project '{1}'; 'ridge project members {1} add {0}' "
                    "makes one of it",
                    wanted.user, wanted.project),
        "user");
  }
  for (const Scope scope : wanted.rights.scopes) {
    if (may_have(*role, scope)) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' has the role {}, whose keys may not have the scope {}",
                            wanted.user, name(*role), name(scope)),
                "scopes");
  }
  return user.id;
}

bool has_current_key(soci::session& session, const std::string& name, const std::string& project,
                     int64_t now_ms) {
  const std::vector<KeyRow> rows =
      key_rows(session, "WHERE k.name = :name AND p.name = :project AND k.revoked_at_ms IS NULL",
               {{"name", name}, {"project", project}});
  return std::ranges::any_of(rows, [&](const KeyRow& row) {
    return row.key.is_valid_at(now_ms) && row.key.rotated_to.empty();
  });
}

// `allowance_id`: of the key that this one comes after; empty: it is the first.
CreatedKey insert_key(soci::session& session, const NewKey& wanted, int64_t now_ms,
                      std::string allowance_id = {}) {
  const ApiKeyText text = ApiKeyText::generate();
  const std::string project_id = rows::project_id(session, wanted.project, now_ms);
  const std::string user_id = owner_id(session, wanted, project_id);
  const Json rights = json_of(wanted.rights);
  ApiKey key{.id = new_id("key_"),
             .name = wanted.name,
             .hint = text.hint(),
             .project = wanted.project,
             .user = wanted.user,
             .rights = wanted.rights,
             .created_at_ms = now_ms};
  if (allowance_id.empty()) allowance_id = key.id;
  if (wanted.lifetime_ms) key.expires_at_ms = now_ms + *wanted.lifetime_ms;
  const std::string hash = text.hash().to_string(), scopes = rights["scopes"].dump(),
                    models = rights["models"].dump(), addresses = rights["addresses"].dump();
  const int64_t expires_at_ms = key.expires_at_ms.value_or(0);
  soci::indicator expires_is = key.expires_at_ms ? soci::i_ok : soci::i_null;
  soci::indicator user_is = user_id.empty() ? soci::i_null : soci::i_ok;
  session << "INSERT INTO api_keys (id, project_id, user_id, name, hint, hash, scopes, models, "
             "addresses, created_at_ms, expires_at_ms, allowance_id) VALUES (:id, :project, :user, "
             ":name, :hint, :hash, :scopes, :models, :addresses, :created, :expires, :allowance)",
      soci::use(key.id), soci::use(project_id), soci::use(user_id, user_is), soci::use(key.name),
      soci::use(key.hint), soci::use(hash), soci::use(scopes), soci::use(models),
      soci::use(addresses), soci::use(now_ms), soci::use(expires_at_ms, expires_is),
      soci::use(allowance_id);
  return {std::move(key), text};
}

Json audit_details(const ApiKey& key) {
  Json details = json_of(key.rights);
  details["name"] = key.name;
  details["project"] = key.project;
  if (!key.user.empty()) details["user"] = key.user;
  if (key.expires_at_ms) details["expires_at_ms"] = *key.expires_at_ms;
  return details;
}

// On whose behalf the key comes.
Principal principal_in(KeyRow row) {
  Principal principal{.key_id = row.key.id,
                      .key_name = row.key.name,
                      .allowance_id = row.allowance_id,
                      .user_id = row.owner_id,
                      .user_name = row.key.user,
                      .project_id = row.project_id,
                      .project_name = row.key.project,
                      .organisation_id = row.organisation_id,
                      .project_weight = row.project_weight,
                      .keeps_requests = row.keep_days > 0,
                      .rights = std::move(row.key.rights),
                      .expires_at_ms = row.key.expires_at_ms};
  principal.is_revoked = row.key.revoked_at_ms.has_value() || row.owner_is_disabled;
  Role most = Role::admin;  // of a key that no user owns
  if (!row.owner_role.empty()) {
    most = role_named(row.owner_role).value_or(Role::viewer);
    if (row.owner_kind != "service") {
      std::optional<ProjectRole> as;
      if (!row.membership.empty()) as = rows::project_role_in(row.membership);
      const auto in_project = role_in_project(most, as);
      principal.is_revoked |= !in_project;
      most = in_project.value_or(Role::viewer);
    }
    std::erase_if(principal.rights.scopes, [&](Scope scope) { return !may_have(most, scope); });
  }
  principal.role = std::max(most, role_by(principal.rights));
  const bool is_admins = !row.owner_role.empty() && most <= Role::admin;
  principal.sees_all_projects = is_admins || principal.rights.has(Scope::admin);
  return principal;
}

}  // namespace

CreatedKey Identity::create_key(const NewKey& wanted, std::string_view actor) {
  rows::check_name(wanted.name, "a key");
  check_rights(wanted.rights);
  check_lifetime(wanted.lifetime_ms);
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    if (has_current_key(session, wanted.name, wanted.project, now_ms)) {
      throw Error(ErrorCode::already_exists,
                  fmt::format("project '{0}' has a key '{1}' already; revoke it first, or rotate "
                              "it: ridge key rotate {1} --project {0}",
                              wanted.project, wanted.name));
    }
    CreatedKey created = insert_key(session, wanted, now_ms);
    rows::record_change(session, now_ms, actor, "key.create", created.key.id,
                        audit_details(created.key).dump());
    return created;
  });
}

std::vector<ApiKey> Identity::keys(const KeyQuery& query) {
  for (const std::string& text : {query.project, query.user, query.after}) {
    // PostgreSQL would refuse what is no UTF-8, and read no further than a zero.
    if (!text.empty() && !is_name(text)) return {};
  }
  return database_.read([&](soci::session& session) {
    std::string where = "WHERE k.id <> ''";
    Values values;
    const auto restrict_to = [&](const char* name, const std::string& value, const char* to) {
      if (value.empty()) return;
      where += to;
      values[name] = value;
    };
    restrict_to("project", query.project, " AND p.name = :project");
    restrict_to("user", query.user, " AND u.name = :user");
    restrict_to("after", query.after,
                " AND (k.created_at_ms, k.id) > (SELECT created_at_ms, id FROM api_keys WHERE id = "
                ":after)");
    std::vector<ApiKey> keys;
    for (KeyRow& row : key_rows(session, where, values, query.most)) {
      keys.push_back(std::move(row.key));
    }
    return keys;
  });
}

std::optional<ApiKey> Identity::find_key(const std::string& id) {
  if (!is_name(id)) return std::nullopt;
  return database_.read([&](soci::session& session) {
    std::vector<KeyRow> rows = key_rows(session, "WHERE k.id = :id", {{"id", id}});
    return rows.empty() ? std::nullopt : std::optional(std::move(rows.front().key));
  });
}

std::vector<ApiKey> Identity::revoke_keys(const KeySelector& which, std::string_view actor) {
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    std::vector<ApiKey> revoked;
    for (KeyRow& row : unrevoked_rows(session, which)) {
      session << "UPDATE api_keys SET revoked_at_ms = :at WHERE id = :id", soci::use(now_ms),
          soci::use(row.key.id);
      rows::record_change(session, now_ms, actor, "key.revoke", row.key.id,
                          Json({{"name", row.key.name}, {"project", row.key.project}}).dump());
      row.key.revoked_at_ms = now_ms;
      revoked.push_back(std::move(row.key));
    }
    return revoked;
  });
}

CreatedKey Identity::rotate_key(const KeySelector& which, int64_t grace_ms,
                                std::string_view actor) {
  if (grace_ms < 0 || grace_ms > longest_key_lifetime_ms) {
    throw Error(ErrorCode::invalid_argument, "the grace is from 0 to 100 years");
  }
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    std::vector<KeyRow> rows = unrevoked_rows(session, which);
    std::erase_if(rows, [](const KeyRow& row) { return !row.key.rotated_to.empty(); });
    if (rows.empty()) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the key '{}' was rotated already", which.id_or_name));
    }
    const ApiKey& old = rows.back().key;  // others of the name have expired
    NewKey wanted{old.name, old.project, old.user, old.rights, {}};
    if (old.expires_at_ms) wanted.lifetime_ms = *old.expires_at_ms - old.created_at_ms;
    CreatedKey created = insert_key(session, wanted, now_ms, rows.back().allowance_id);
    const int64_t ends_at_ms =
        std::min(now_ms + grace_ms, old.expires_at_ms.value_or(now_ms + grace_ms));
    soci::indicator revoked_is = grace_ms == 0 ? soci::i_ok : soci::i_null;
    session << "UPDATE api_keys SET rotated_to = :next, expires_at_ms = :ends, revoked_at_ms = "
               ":revoked WHERE id = :id",
        soci::use(created.key.id), soci::use(ends_at_ms), soci::use(now_ms, revoked_is),
        soci::use(old.id);
    Json details = audit_details(created.key);
    details["rotated_to"] = created.key.id;
    details["old_ends_at_ms"] = ends_at_ms;
    rows::record_change(session, now_ms, actor, "key.rotate", old.id, details.dump());
    return created;
  });
}

Identity::Found Identity::find_principal(const Digest& key_hash) {
  return database_.read([&](soci::session& session) {
    Found found;
    session << "SELECT revision FROM identity_revision", soci::into(found.revision);
    std::vector<KeyRow> rows =
        key_rows(session, "WHERE k.hash = :hash", {{"hash", key_hash.to_string()}});
    if (!rows.empty()) {
      found.principal = principal_in(std::move(rows.front()));
      found.principal->revision = found.revision;
    }
    return found;
  });
}

std::optional<Principal> Identity::principal_of(const std::string& key_id) {
  const int64_t now_ms = now_ms_();
  return database_.read([&](soci::session& session) -> std::optional<Principal> {
    std::vector<KeyRow> rows = key_rows(session, "WHERE k.id = :id", {{"id", key_id}});
    if (rows.empty()) return std::nullopt;
    Principal principal = principal_in(std::move(rows.front()));
    const bool has_expired = principal.expires_at_ms && *principal.expires_at_ms <= now_ms;
    if (principal.is_revoked || has_expired) return std::nullopt;
    return principal;
  });
}

}  // namespace ridge::platform
