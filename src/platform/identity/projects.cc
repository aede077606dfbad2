#include <fmt/format.h>
#include <soci/soci.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

constexpr double least_weight = 0.01, most_weight = 100;

std::optional<std::string> find_id(soci::session& session, const std::string& name) {
  std::string id;
  session << "SELECT id FROM projects WHERE name = :name", soci::use(name), soci::into(id);
  return session.got_data() ? std::optional(id) : std::nullopt;
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

std::string rows::project_id(soci::session& session, const std::string& name, int64_t now_ms) {
  if (auto id = find_id(session, name)) return *id;
  if (name == default_project) return insert_project(session, name, 1, now_ms, "ridge").id;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no project '{0}'; 'ridge project create {0}' makes it", name));
}

Project Identity::create_project(const std::string& name, double weight, std::string_view actor) {
  rows::check_name(name, "a project");
  if (!(weight >= least_weight && weight <= most_weight)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the weight is {}; it must be from {} to {}", weight, least_weight,
                            most_weight));
  }
  return database_.write([&](soci::session& session) {
    if (find_id(session, name)) {
      throw Error(ErrorCode::already_exists, fmt::format("there is a project '{}' already", name));
    }
    return insert_project(session, name, weight, now_ms_(), actor);
  });
}

std::vector<Project> Identity::projects() {
  return database_.read([](soci::session& session) {
    std::vector<Project> projects;
    Project row;
    soci::statement select = (session.prepare << "SELECT id, name, weight, created_at_ms FROM "
                                                 "projects ORDER BY name",
                              soci::into(row.id), soci::into(row.name), soci::into(row.weight),
                              soci::into(row.created_at_ms));
    select.execute();
    while (select.fetch()) projects.push_back(row);
    return projects;
  });
}

}  // namespace ridge::platform
