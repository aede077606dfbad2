// What ends and goes with a user or a project. The rows themselves, keys and usage stay: they are
// what reports and the audit log read names from.
#include <fmt/format.h>
#include <soci/soci.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

// How the row is called from now on; nobody else can be called so, as ids are random.
std::string name_of_removed(const std::string& name, const std::string& id) {
  return fmt::format("{} (removed {})", name, id);
}

void forget_limits(soci::session& session, const std::string& subject) {
  for (const char* table : {"limits", "rate_levels"}) {
    session << fmt::format("DELETE FROM {} WHERE subject = :subject", table), soci::use(subject);
  }
}

// Of the project's keys, whose limits are under the first key of each that was rotated.
void forget_limits_of_keys(soci::session& session, const std::string& project_id) {
  for (const char* table : {"limits", "rate_levels"}) {
    session << fmt::format(
        "DELETE FROM {} WHERE subject IN (SELECT COALESCE(NULLIF(allowance_id, "
        "''), id) FROM api_keys WHERE project_id = :project)",
        table),
        soci::use(project_id);
  }
}

void end_user(soci::session& session, const User& user, int64_t now_ms, std::string_view actor) {
  const int64_t keys = rows::end_keys(session, {.user_id = user.id}, now_ms, actor);
  for (const char* table : {"sessions", "project_members", "chats"}) {
    session << fmt::format("DELETE FROM {} WHERE user_id = :id", table), soci::use(user.id);
  }
  forget_limits(session, user.id);
  const std::string name = name_of_removed(user.name, user.id);
  session << "UPDATE users SET name = :name, removed_at_ms = :at, disabled_at_ms = :at, "
             "password_hash = NULL, oidc_issuer = NULL, oidc_subject = NULL WHERE id = :id",
      soci::use(name, "name"), soci::use(now_ms, "at"), soci::use(user.id, "id");
  rows::record_change(session, now_ms, actor, "user.remove", user.id,
                      Json({{"name", user.name}, {"keys", keys}}).dump());
}

}  // namespace

int64_t rows::end_keys(soci::session& session, const EndingKeys& which, int64_t now_ms,
                       std::string_view actor) {
  struct Key {
    std::string id, name, project;
  };
  std::vector<Key> keys;
  Key row;
  const int64_t any_member = which.without_membership ? 0 : 1;
  soci::statement select =
      (session.prepare
           << "SELECT k.id, k.name, p.name FROM api_keys k JOIN projects p ON p.id = k.project_id "
              "WHERE k.revoked_at_ms IS NULL AND ('' = :project OR k.project_id = :project) AND "
              "('' "
              "= :user OR k.user_id = :user) AND (1 = :any OR NOT EXISTS (SELECT 1 FROM "
              "project_members m WHERE m.project_id = k.project_id AND m.user_id = k.user_id)) "
              "ORDER BY k.created_at_ms, k.id",
       soci::use(which.project_id, "project"), soci::use(which.user_id, "user"),
       soci::use(any_member, "any"), soci::into(row.id), soci::into(row.name),
       soci::into(row.project));
  select.execute();
  while (select.fetch()) keys.push_back(row);
  for (const Key& key : keys) {
    session << "UPDATE api_keys SET revoked_at_ms = :at WHERE id = :id", soci::use(now_ms),
        soci::use(key.id);
    record_change(session, now_ms, actor, "key.revoke", key.id,
                  Json({{"name", key.name}, {"project", key.project}}).dump());
  }
  return static_cast<int64_t>(keys.size());
}

User Identity::remove_user(const std::string& name, std::string_view actor) {
  return database_.write([&](soci::session& session) {
    const User user = rows::user_named(session, name);
    if (!user.disabled_at_ms) rows::check_owner_remains(session, user);
    end_user(session, user, now_ms_(), actor);
    return user;
  });
}

Project Identity::remove_project(const std::string& name, std::string_view actor) {
  if (name == default_project) {
    throw Error(ErrorCode::invalid_argument,
                "the project 'default' stays: it is that of all who name no other");
  }
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    Project project{.id = rows::project_id(session, name, now_ms), .name = name};
    session << "SELECT weight, created_at_ms FROM projects WHERE id = :id", soci::use(project.id),
        soci::into(project.weight), soci::into(project.created_at_ms);
    const int64_t keys = rows::end_keys(session, {.project_id = project.id}, now_ms, actor);
    for (const User& user : rows::users(session)) {
      if (user.kind == UserKind::service && user.project == name) {
        end_user(session, user, now_ms, actor);
      }
    }
    for (const char* table : {"project_members", "prompt_templates"}) {
      session << fmt::format("DELETE FROM {} WHERE project_id = :id", table), soci::use(project.id);
    }
    forget_limits(session, project.id);
    forget_limits_of_keys(session, project.id);
    // Servers end them, and then sweep them and the project's files away.
    session
        << "UPDATE batches SET status = 'cancelling', cancelling_at_ms = :at WHERE project_id = "
           ":id AND status IN ('validating', 'in_progress')",
        soci::use(now_ms), soci::use(project.id);
    const std::string removed = name_of_removed(name, project.id);
    // Without days nobody sees what is kept of its requests, and KeptRequests takes it away by
    // parts.
    session << "UPDATE projects SET name = :name, removed_at_ms = :at, keep_days = 0 WHERE id = "
               ":id",
        soci::use(removed), soci::use(now_ms), soci::use(project.id);
    rows::record_change(session, now_ms, actor, "project.remove", project.id,
                        Json({{"name", name}, {"keys", keys}}).dump());
    return project;
  });
}

}  // namespace ridge::platform
