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

}  // namespace

Answer list_projects(const Call& call) {
  const Page page = page_of(call.query);
  const auto projects = call.identity.projects();
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

}  // namespace ridge::administration
