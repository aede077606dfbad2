#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

User with_memberships(soci::session& session, User user) {
  std::vector<User> one = {std::move(user)};
  rows::add_memberships(session, one);
  return std::move(one.front());
}

}  // namespace

std::vector<User> rows::users(soci::session& session) {
  std::vector<User> users;
  User row;
  std::string kind, role;
  int64_t disabled_at_ms = 0;
  soci::indicator project_is, disabled_is;
  soci::statement select =
      (session.prepare
           << "SELECT u.id, u.name, u.kind, u.role, p.name, u.created_at_ms, "
              "u.disabled_at_ms, COALESCE(u.oidc_issuer, ''), "
              "COALESCE(u.oidc_subject, '') FROM users u LEFT JOIN projects p ON p.id = "
              "u.project_id WHERE u.removed_at_ms IS NULL ORDER BY u.name",
       soci::into(row.id), soci::into(row.name), soci::into(kind), soci::into(role),
       soci::into(row.project, project_is), soci::into(row.created_at_ms),
       soci::into(disabled_at_ms, disabled_is), soci::into(row.oidc_issuer),
       soci::into(row.oidc_subject));
  select.execute();
  while (select.fetch()) {
    User user = row;
    user.kind = user_kind_named(kind).value_or(UserKind::person);
    user.role = role_named(role).value_or(Role::viewer);
    if (project_is == soci::i_null) user.project.clear();
    if (disabled_is == soci::i_ok) user.disabled_at_ms = disabled_at_ms;
    users.push_back(std::move(user));
  }
  return users;
}

User rows::user_named(soci::session& session, const std::string& name) {
  const std::vector<User> all = users(session);
  const auto found = std::ranges::find(all, name, &User::name);
  if (found != all.end()) return *found;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no user '{0}'; 'ridge user create {0}' makes it", name));
}

User rows::insert_user(soci::session& session, User user, ProjectRole project_role, int64_t now_ms,
                       std::string_view actor) {
  user.id = new_id("user_");
  user.created_at_ms = now_ms;
  const bool is_service = user.kind == UserKind::service;
  const std::string organisation = organisation_id(session, now_ms);
  const std::string kind = is_service ? "service" : "person";
  const std::string role(platform::name(user.role));
  if (user.project.empty()) user.project = default_project;
  const std::string project = project_id(session, user.project, now_ms);
  soci::indicator project_is = is_service ? soci::i_ok : soci::i_null;
  session << "INSERT INTO users (id, organisation_id, project_id, kind, name, role, "
             "created_at_ms) VALUES (:id, :organisation, :project, :kind, :name, :role, :at)",
      soci::use(user.id), soci::use(organisation), soci::use(project, project_is), soci::use(kind),
      soci::use(user.name), soci::use(role), soci::use(now_ms);
  nlohmann::json details = {
      {"name", user.name}, {"kind", kind}, {"role", role}, {"project", user.project}};
  if (!is_service) {
    insert_member(session, project, user.id, project_role, now_ms);
    const ProjectRole in_project = bounded(project_role, user.role);
    details["project_role"] = platform::name(in_project);
    user.memberships = {{user.project, in_project}};
    user.project.clear();
  }
  record_change(session, now_ms, actor, "user.create", user.id, details.dump());
  return user;
}

void rows::check_owner_remains(soci::session& session, const User& without) {
  if (without.role != Role::owner || without.kind != UserKind::person) return;
  const std::vector<User> all = users(session);
  const bool has_other = std::ranges::any_of(all, [&](const User& user) {
    return user.id != without.id && user.role == Role::owner && user.kind == UserKind::person &&
           !user.disabled_at_ms;
  });
  if (has_other) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("'{}' is the only owner; make another one first", without.name));
}

User Identity::create_user(const std::string& name, UserKind kind, Role role,
                           const std::string& project, std::string_view actor,
                           std::optional<ProjectRole> project_role) {
  rows::check_name(name, "a user");
  if (kind == UserKind::service && project.empty()) {
    throw Error(ErrorCode::invalid_argument, "a service belongs to a project: name that",
                "project");
  }
  if (kind == UserKind::service && project_role) {
    throw Error(ErrorCode::invalid_argument,
                "a service has one role alone, and no other in its project", "project_role");
  }
  if (project_role) rows::check_project_role(name, role, *project_role, "project_role");
  return database_.write([&](soci::session& session) {
    const std::vector<User> all = rows::users(session);
    if (std::ranges::find(all, name, &User::name) != all.end()) {
      throw Error(ErrorCode::already_exists, fmt::format("there is a user '{}' already", name));
    }
    return rows::insert_user(session,
                             {.name = name, .kind = kind, .role = role, .project = project},
                             project_role.value_or(ProjectRole::developer), now_ms_(), actor);
  });
}

User Identity::change_user(const std::string& name, const UserChange& change,
                           std::string_view actor) {
  return database_.write([&](soci::session& session) {
    User user = rows::user_named(session, name);
    const User before = user;
    const int64_t now_ms = now_ms_();
    if (change.role) user.role = *change.role;
    if (change.is_disabled && *change.is_disabled != before.disabled_at_ms.has_value()) {
      user.disabled_at_ms = *change.is_disabled ? std::optional(now_ms) : std::nullopt;
    }
    const bool changes_state = user.disabled_at_ms.has_value() != before.disabled_at_ms.has_value();
    const bool unlinks = change.forgets_provider && !before.oidc_subject.empty();
    if (!changes_state && user.role == before.role && !unlinks) {
      return with_memberships(session, std::move(user));
    }
    const bool ends_owner = user.role != Role::owner || user.disabled_at_ms;
    if (ends_owner && !before.disabled_at_ms) rows::check_owner_remains(session, before);
    const std::string role(platform::name(user.role));
    const int64_t disabled_at_ms = user.disabled_at_ms.value_or(0);
    soci::indicator disabled_is = user.disabled_at_ms ? soci::i_ok : soci::i_null;
    session << "UPDATE users SET role = :role, disabled_at_ms = :at WHERE id = :id",
        soci::use(role), soci::use(disabled_at_ms, disabled_is), soci::use(user.id);
    if (unlinks) {
      session << "UPDATE users SET oidc_issuer = NULL, oidc_subject = NULL WHERE id = :id",
          soci::use(user.id);
      user.oidc_issuer.clear();
      user.oidc_subject.clear();
    }
    if (user.disabled_at_ms || unlinks) {
      session << "DELETE FROM sessions WHERE user_id = :id", soci::use(user.id);
    }
    const char* action = !changes_state        ? "user.change"
                         : user.disabled_at_ms ? "user.disable"
                                               : "user.enable";
    nlohmann::json details = {{"name", name}};
    if (user.role != before.role) details["role"] = role;
    if (unlinks) details["forgets"] = before.oidc_issuer + " " + before.oidc_subject;
    rows::record_change(session, now_ms, actor, action, user.id, details.dump());
    const bool acts_for_fewer = before.role <= Role::admin && user.role > Role::admin;
    if (acts_for_fewer && user.kind == UserKind::person) {
      rows::end_keys(session, {.user_id = user.id, .without_membership = true}, now_ms, actor);
    }
    return with_memberships(session, std::move(user));
  });
}

std::vector<User> Identity::users() {
  return database_.read([](soci::session& session) {
    std::vector<User> all = rows::users(session);
    rows::add_memberships(session, all);
    return all;
  });
}

std::optional<User> Identity::find_user(const std::string& name) {
  return database_.read([&](soci::session& session) -> std::optional<User> {
    const std::vector<User> all = rows::users(session);
    const auto found = std::ranges::find(all, name, &User::name);
    if (found == all.end()) return std::nullopt;
    return with_memberships(session, *found);
  });
}

}  // namespace ridge::platform
