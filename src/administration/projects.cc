#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/pages.h"
#include "administration/records_json.h"
#include "platform/kept/kept_requests.h"

namespace ridge::administration {
namespace {

constexpr double usual_weight = 1;

std::optional<double> weight_of(const api::Fields& fields) {
  return fields.number("weight", platform::Identity::least_weight, platform::Identity::most_weight);
}

// Those that the caller administers: all, or the one that a project's admin acts for, to whom the
// others are as if they were not there.
std::vector<platform::Project> administered(const Call& call) {
  auto projects = call.identity.projects();
  if (call.caller.is_at_least(platform::Role::admin)) return projects;
  std::erase_if(projects, [&](const auto& each) { return each.id != call.caller.project_id; });
  return projects;
}

std::string project_in_path(const Call& call) {
  return named_or_id(administered(call), call.argument, "project").name;
}

// Nullopt for null, which takes the membership away.
std::optional<platform::ProjectRole> project_role_or_null(const Call& call,
                                                          const api::Fields& fields) {
  if (!call.body.contains("role")) api::refuse_missing("role");
  return project_role_field(fields, "role");
}

}  // namespace

Answer list_projects(const Call& call) {
  const Page page = page_of(call.query);
  const auto projects = administered(call);
  return page_answer(by_name(projects, page, [](const auto& each) { return json_of(each); }), page);
}

Answer create_project(const Call& call) {
  const api::Fields fields(call.body, "");
  const std::string name = required_name(fields, "name");
  const double weight = weight_of(fields).value_or(usual_weight);
  return json_answer(json_of(call.identity.create_project(name, weight, call.caller.actor)), 201);
}

Answer change_project(const Call& call) {
  const api::Fields fields(call.body, "");
  const auto weight = weight_of(fields);
  const auto keep_days = fields.integer("keep_days", 0, platform::Identity::most_keep_days);
  if (!weight && !keep_days) {
    api::refuse("weight", "there is nothing to change: give 'weight' or 'keep_days'");
  }
  auto project = named_or_id(call.identity.projects(), call.argument, "project");
  const std::string& actor = call.caller.actor;
  if (weight) project = call.identity.set_weight(project.name, *weight, actor);
  if (keep_days) {
    const auto days = static_cast<int>(*keep_days);
    project = call.identity.set_keep_days(project.name, days, actor);
    // What it does not keep any more goes at once, and not when somebody looks the next time.
    if (platform::KeptRequests(call.database).forget_unkept(project.id, actor) > 0) {
      project = named_or_id(call.identity.projects(), project.id, "project");
    }
  }
  return json_answer(json_of(project));
}

Answer remove_project(const Call& call) {
  const auto removed = call.identity.remove_project(project_in_path(call), call.caller.actor);
  platform::KeptRequests(call.database).forget_unkept(removed.id, call.caller.actor);
  return json_answer(json_of(removed));
}

Answer list_members(const Call& call) {
  Json data = Json::array();
  for (const auto& member : call.identity.members(project_in_path(call))) {
    data.push_back(json_of(member));
  }
  return list_answer(std::move(data));
}

Answer set_member(const Call& call) {
  const std::string project = project_in_path(call);
  const api::Fields fields(call.body, "");
  const std::string user = required_name(fields, "user");
  if (const auto role = project_role_or_null(call, fields)) {
    return json_answer(json_of(call.identity.set_member(project, user, *role, call.caller.actor)));
  }
  Json member = json_of(call.identity.remove_member(project, user, call.caller.actor));
  member["role"] = nullptr;
  return json_answer(member);
}

}  // namespace ridge::administration
