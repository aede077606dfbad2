#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

void check_weight(double weight) {
  if (weight >= Identity::least_weight && weight <= Identity::most_weight) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the weight is {}; it must be from {} to {}", weight,
                          Identity::least_weight, Identity::most_weight));
}

Project insert_project(soci::session& session, const std::string& name, double weight,
                       int64_t now_ms, std::string_view actor) {
  const Project project{new_id("proj_"), name, weight, now_ms};
  const std::string organisation = rows::organisation_id(session, now_ms);
  session << "INSERT INTO projects (id, organisation_id, name, weight, created_at_ms) "
             "VALUES (:id, :organisation, :name, :weight, :at)",
      soci::use(project.id), soci::use(organisation), soci::use(name), soci::use(weight),
      soci::use(now_ms);
  rows::record_change(session, now_ms, actor, "project.create", project.id,
                      nlohmann::json({{"name", name}, {"weight", weight}}).dump());
  return project;
}

std::vector<Project> all_projects(soci::session& session) {
  std::vector<Project> projects;
  Project row;
  int64_t keep_days = 0;
  soci::statement select =
      (session.prepare << "SELECT id, name, weight, created_at_ms, keep_days, kept_bytes FROM "
                          "projects WHERE removed_at_ms IS NULL ORDER BY name",
       soci::into(row.id), soci::into(row.name), soci::into(row.weight),
       soci::into(row.created_at_ms), soci::into(keep_days), soci::into(row.kept_bytes));
  select.execute();
  while (select.fetch()) {
    row.keep_days = static_cast<int>(keep_days);
    projects.push_back(row);
  }
  return projects;
}

}  // namespace

std::string rows::organisation_id(soci::session& session, int64_t now_ms) {
  std::string id;
  session << "SELECT id FROM organisations", soci::into(id);
  if (session.got_data()) return id;
  id = new_id("org_");
  const std::string name = "default";
  session << "INSERT INTO organisations (id, name, created_at_ms) VALUES (:id, :name, :at)",
      soci::use(id), soci::use(name), soci::use(now_ms);
  return id;
}

std::optional<std::string> rows::find_project_id(soci::session& session, const std::string& name) {
  if (!Identity::is_name(name)) return std::nullopt;  // or PostgreSQL would not read it
  std::string id;
  session << "SELECT id FROM projects WHERE name = :name AND removed_at_ms IS NULL",
      soci::use(name), soci::into(id);
  return session.got_data() ? std::optional(id) : std::nullopt;
}

std::string rows::project_id(soci::session& session, const std::string& name, int64_t now_ms) {
  if (auto id = find_project_id(session, name)) return *id;
  if (name == default_project) return insert_project(session, name, 1, now_ms, "ridge").id;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no project '{0}'; 'ridge project create {0}' makes it", name));
}

Project Identity::create_project(const std::string& name, double weight, std::string_view actor) {
  rows::check_name(name, "a project");
  check_weight(weight);
  return database_.write([&](soci::session& session) {
    if (rows::find_project_id(session, name)) {
      throw Error(ErrorCode::already_exists, fmt::format("there is a project '{}' already", name));
    }
    return insert_project(session, name, weight, now_ms_(), actor);
  });
}

Project Identity::set_weight(const std::string& name, double weight, std::string_view actor) {
  check_weight(weight);
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_();
    const std::string id = rows::project_id(session, name, now_ms);
    session << "UPDATE projects SET weight = :weight WHERE id = :id", soci::use(weight),
        soci::use(id);
    rows::record_change(session, now_ms, actor, "project.change", id,
                        nlohmann::json({{"name", name}, {"weight", weight}}).dump());
    const std::vector<Project> all = all_projects(session);
    return *std::ranges::find(all, id, &Project::id);
  });
}

Project Identity::set_keep_days(const std::string& name, int days, std::string_view actor) {
  if (days < 0 || days > most_keep_days) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("prompts and answers are kept for 0 to {} days", most_keep_days),
                "keep_days");
  }
  return database_.write([&](soci::session& session) {
    const int64_t now_ms = now_ms_(), wanted = days;
    const std::string id = rows::project_id(session, name, now_ms);
    session << "UPDATE projects SET keep_days = :days WHERE id = :id", soci::use(wanted),
        soci::use(id);
    rows::record_change(session, now_ms, actor, "project.change", id,
                        nlohmann::json({{"name", name}, {"keep_days", days}}).dump());
    const std::vector<Project> all = all_projects(session);
    return *std::ranges::find(all, id, &Project::id);
  });
}

std::vector<Project> Identity::projects() { return database_.read(all_projects); }

bool Identity::has_had_project(const std::string& name) {
  return database_.read([&](soci::session& session) {
    int64_t projects = 0;
    session << "SELECT COUNT(*) FROM projects WHERE name = :name", soci::use(name),
        soci::into(projects);
    return projects > 0;
  });
}

std::string Identity::default_project_id() {
  const std::string name(default_project);
  const auto known = database_.read(
      [&](soci::session& session) { return rows::find_project_id(session, name); });
  if (known) return *known;
  return database_.write(
      [&](soci::session& session) { return rows::project_id(session, name, now_ms_()); });
}

}  // namespace ridge::platform
