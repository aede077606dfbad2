#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/pages.h"
#include "administration/records_json.h"

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
  const auto weight = weight_of(api::Fields(call.body, ""));
  if (!weight) api::refuse_missing("weight");
  const auto project = named_or_id(call.identity.projects(), call.argument, "project");
  return json_answer(json_of(call.identity.set_weight(project.name, *weight, call.caller.actor)));
}

}  // namespace ridge::administration
