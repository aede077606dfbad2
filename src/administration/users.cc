#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/pages.h"
#include "administration/records_json.h"
#include "base/error.h"

namespace ridge::administration {
namespace {

using platform::Role;
using platform::UserKind;

UserKind kind_of(const api::Fields& fields) {
  const std::string text = fields.string("kind", 100).value_or("person");
  const auto kind = platform::user_kind_named(text);
  if (!kind) refuse_choice("kind", text, "person, service");
  return *kind;
}

// {"oidc": null}
bool forgets_provider(const Json& body, const api::Fields& fields) {
  if (const Json* found = fields.find("oidc")) {
    api::refuse_field("oidc", *found,
                      "null, which takes it away; it is set when the person signs in");
  }
  return body.contains("oidc");
}

void check_may_make(const Caller& caller, Role role) {
  if (role != Role::owner || caller.role == Role::owner) return;
  throw Error(ErrorCode::permission_denied, "only an owner makes owners", "role");
}

// Admins do everything but to owners.
void check_may_change(const Caller& caller, const platform::User& user) {
  if (user.role == Role::owner && caller.role != Role::owner) {
    throw Error(ErrorCode::permission_denied,
                fmt::format("'{}' is an owner, whom only an owner changes", user.name));
  }
}

}  // namespace

Answer list_users(const Call& call) {
  const Page page = page_of(call.query);
  const auto users = call.identity.users();
  return page_answer(by_name(users, page, [](const auto& each) { return json_of(each); }), page);
}

Answer create_user(const Call& call) {
  const api::Fields fields(call.body, "");
  const std::string name = required_name(fields, "name");
  const UserKind kind = kind_of(fields);
  const Role role = role_field(fields, "role").value_or(Role::developer);
  const std::string project = name_field(fields, "project").value_or("");
  if (kind == UserKind::service && project.empty()) {
    api::refuse("project", "'project' is missing; a service belongs to a project");
  }
  const auto project_role = project_role_field(fields, "project_role");
  check_may_make(call.caller, role);
  return json_answer(json_of(call.identity.create_user(name, kind, role, project, call.caller.actor,
                                                       project_role)),
                     201);
}

Answer change_user(const Call& call) {
  const api::Fields fields(call.body, "");
  const platform::UserChange change{.role = role_field(fields, "role"),
                                    .is_disabled = fields.boolean("disabled"),
                                    .forgets_provider = forgets_provider(call.body, fields)};
  if (!change.role && !change.is_disabled && !change.forgets_provider) {
    api::refuse("role", "there is nothing to change: give 'role', 'disabled' or 'oidc'");
  }
  const auto user = named_or_id(call.identity.users(), call.argument, "user");
  check_may_change(call.caller, user);
  if (change.role) check_may_make(call.caller, *change.role);
  return json_answer(json_of(call.identity.change_user(user.name, change, call.caller.actor)));
}

Answer remove_user(const Call& call) {
  const auto user = named_or_id(call.identity.users(), call.argument, "user");
  check_may_change(call.caller, user);
  return json_answer(json_of(call.identity.remove_user(user.name, call.caller.actor)));
}

}  // namespace ridge::administration
