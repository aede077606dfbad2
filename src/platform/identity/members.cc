#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::json;

std::vector<Member> members_of(soci::session& session, const std::string& project_id) {
  std::vector<Member> members;
  Member row;
  std::string role, user_role;
  int64_t disabled_at_ms = 0;
  soci::indicator disabled_is;
  soci::statement select =
      (session.prepare << "SELECT u.id, u.name, m.role, u.role, m.added_at_ms, u.disabled_at_ms "
                          "FROM project_members m JOIN users u ON u.id = m.user_id WHERE "
                          "m.project_id = :project AND u.removed_at_ms IS NULL ORDER BY u.name",
       soci::use(project_id), soci::into(row.user_id), soci::into(row.user), soci::into(role),
       soci::into(user_role), soci::into(row.added_at_ms), soci::into(disabled_at_ms, disabled_is));
  select.execute();
  while (select.fetch()) {
    Member member = row;
    member.user_role = role_named(user_role).value_or(Role::viewer);
    member.role = bounded(rows::project_role_in(role), member.user_role);
    if (disabled_is == soci::i_ok) member.disabled_at_ms = disabled_at_ms;
    members.push_back(std::move(member));
  }
  return members;
}

// Where default is missing, nobody is a member of it yet, and reading makes nothing.
std::string existing_project_id(soci::session& session, const std::string& name) {
  if (auto id = rows::find_project_id(session, name)) return *id;
  throw Error(ErrorCode::not_found, fmt::format("there is no project '{}'", name));
}

Member member_named(soci::session& session, const std::string& project_id, const User& user) {
  const std::vector<Member> all = members_of(session, project_id);
  const auto found = std::ranges::find(all, user.id, &Member::user_id);
  if (found != all.end()) return *found;
  throw Error(ErrorCode::not_found, fmt::format("'{}' is no member of this project", user.name),
              "user");
}

}  // namespace

void rows::check_project_role(const std::string& user, Role of_user, ProjectRole wanted,
                              std::string_view param) {
  if (bounded(wanted, of_user) == wanted) return;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("'{0}' has the role {1}, with which one may only look, and cannot be {2} of "
                  "a project; 'ridge user change {0} --role developer' allows more",
                  user, name(of_user), name(wanted)),
      std::string(param));
}

ProjectRole rows::project_role_in(const std::string& text) {
  return project_role_named(text).value_or(ProjectRole::viewer);
}

void rows::insert_member(soci::session& session, const std::string& project_id,
                         const std::string& user_id, ProjectRole role, int64_t now_ms) {
  const std::string text(name(role));
  session << "INSERT INTO project_members (project_id, user_id, role, added_at_ms) VALUES "
             "(:project, :user, :role, :at) ON CONFLICT (project_id, user_id) DO UPDATE SET role = "
             "excluded.role",
      soci::use(project_id), soci::use(user_id), soci::use(text), soci::use(now_ms);
}

std::optional<ProjectRole> rows::membership(soci::session& session, const std::string& project_id,
                                            const std::string& user_id) {
  std::string role;
  session << "SELECT role FROM project_members WHERE project_id = :project AND user_id = :user",
      soci::use(project_id), soci::use(user_id), soci::into(role);
  if (!session.got_data()) return std::nullopt;
  return project_role_in(role);
}

void rows::add_memberships(soci::session& session, std::vector<User>& users) {
  std::map<std::string, User*> by_id;
  for (User& user : users) by_id[user.id] = &user;
  const std::string only = users.size() == 1 ? users.front().id : "";
  std::string user_id, project, role;
  soci::statement select =
      (session.prepare << "SELECT m.user_id, p.name, m.role FROM project_members m JOIN projects p "
                          "ON p.id = m.project_id WHERE '' = :only OR m.user_id = :only ORDER BY "
                          "p.name",
       soci::use(only, "only"), soci::into(user_id), soci::into(project), soci::into(role));
  select.execute();
  while (select.fetch()) {
    const auto found = by_id.find(user_id);
    if (found == by_id.end()) continue;
    User& user = *found->second;
    user.memberships.push_back({project, bounded(project_role_in(role), user.role)});
  }
}

std::vector<Member> Identity::members(const std::string& project) {
  return database_.read([&](soci::session& session) {
    return members_of(session, existing_project_id(session, project));
  });
}

Member Identity::set_member(const std::string& project, const std::string& user_name,
                            ProjectRole role, std::string_view actor) {
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    const std::string project_id = rows::project_id(session, project, now_ms);
    const User user = rows::user_named(session, user_name);
    if (user.kind == UserKind::service) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' is a service of project '{}', and a member of none", user.name,
                              user.project),
                  "user");
    }
    rows::check_project_role(user.name, user.role, role, "role");
    const auto before = rows::membership(session, project_id, user.id);
    if (before != role) {
      rows::insert_member(session, project_id, user.id, role, now_ms);
      const Json details = {
          {"name", project}, {"user", user.name}, {"user_id", user.id}, {"role", name(role)}};
      rows::record_change(session, now_ms, actor, before ? "member.change" : "member.add",
                          project_id, details.dump());
    }
    return member_named(session, project_id, user);
  });
}

Member Identity::remove_member(const std::string& project, const std::string& user_name,
                               std::string_view actor) {
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    const std::string project_id = existing_project_id(session, project);
    const User user = rows::user_named(session, user_name);
    const Member member = member_named(session, project_id, user);
    session << "DELETE FROM project_members WHERE project_id = :project AND user_id = :user",
        soci::use(project_id), soci::use(user.id);
    const bool acts_in_all = role_in_project(user.role, {}).has_value();
    if (!acts_in_all) {
      rows::end_keys(session, {.project_id = project_id, .user_id = user.id}, now_ms, actor);
    }
    const Json details = {{"name", project}, {"user", user.name}, {"user_id", user.id}};
    rows::record_change(session, now_ms, actor, "member.remove", project_id, details.dump());
    return member;
  });
}

}  // namespace ridge::platform
