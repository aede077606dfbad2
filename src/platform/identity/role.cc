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

std::string_view name(Role role) { return name_in<Role>(roles, role); }
std::string_view name(Scope scope) { return name_in<Scope>(scopes, scope); }
std::optional<Role> role_named(std::string_view name) { return value_in<Role>(roles, name); }
std::optional<Scope> scope_named(std::string_view name) { return value_in<Scope>(scopes, name); }
std::string role_names() { return joined<Role>(roles); }
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

}  // namespace ridge::platform
