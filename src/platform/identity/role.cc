#include "platform/identity/role.h"

#include <array>
#include <span>
#include <utility>

namespace ridge::platform {
namespace {

constexpr std::pair<Role, std::string_view> roles[] = {{Role::owner, "owner"},
                                                       {Role::admin, "admin"},
                                                       {Role::developer, "developer"},
                                                       {Role::viewer, "viewer"}};
constexpr std::pair<ProjectRole, std::string_view> project_roles[] = {
    {ProjectRole::admin, "admin"},
    {ProjectRole::developer, "developer"},
    {ProjectRole::viewer, "viewer"}};
constexpr std::pair<Scope, std::string_view> scopes[] = {
    {Scope::inference, "inference"}, {Scope::metrics, "metrics"}, {Scope::admin, "admin"}};

template <typename Value>
std::string_view name_in(std::span<const std::pair<Value, std::string_view>> names, Value wanted) {
  for (const auto& [value, name] : names) {
    if (value == wanted) return name;
  }
  return {};
}

template <typename Value>
std::optional<Value> value_in(std::span<const std::pair<Value, std::string_view>> names,
                              std::string_view wanted) {
  for (const auto& [value, name] : names) {
    if (name == wanted) return value;
  }
  return std::nullopt;
}

template <typename Value>
std::string joined(std::span<const std::pair<Value, std::string_view>> names) {
  std::string text;
  for (const auto& [value, name] : names) (text += text.empty() ? "" : ", ") += name;
  return text;
}

}  // namespace

std::string_view name(Role role) {
  return role == Role::project_admin ? "project_admin" : name_in<Role>(roles, role);
}
std::string_view name(ProjectRole role) { return name_in<ProjectRole>(project_roles, role); }
std::string_view name(Scope scope) { return name_in<Scope>(scopes, scope); }
std::optional<Role> role_named(std::string_view name) { return value_in<Role>(roles, name); }
std::optional<ProjectRole> project_role_named(std::string_view name) {
  return value_in<ProjectRole>(project_roles, name);
}
std::optional<Scope> scope_named(std::string_view name) { return value_in<Scope>(scopes, name); }
std::string role_names() { return joined<Role>(roles); }
std::string project_role_names() { return joined<ProjectRole>(project_roles); }
std::string scope_names() { return joined<Scope>(scopes); }

bool may_have(Role role, Scope scope) {
  switch (scope) {
    case Scope::inference:
      return role != Role::viewer;
    case Scope::metrics:
      return true;
    case Scope::admin:
      return role == Role::owner || role == Role::admin;
  }
  return false;
}

ProjectRole bounded(ProjectRole wanted, Role of_user) {
  return of_user == Role::viewer ? ProjectRole::viewer : wanted;
}

std::optional<Role> role_in_project(Role of_user, std::optional<ProjectRole> membership) {
  if (of_user <= Role::admin) return of_user;
  if (!membership) return std::nullopt;
  switch (bounded(*membership, of_user)) {
    case ProjectRole::admin:
      return Role::project_admin;
    case ProjectRole::developer:
      return Role::developer;
    case ProjectRole::viewer:
      break;
  }
  return Role::viewer;
}

}  // namespace ridge::platform
