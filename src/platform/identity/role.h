#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::platform {

// What somebody is in an organisation, the most powerful first.
enum class Role { owner, admin, developer, viewer };

// What a key may be used for.
enum class Scope {
  inference,  // every route that asks a model, and the list of models
  metrics,    // /metrics
  admin,      // keys, users, projects, usage
};

std::string_view name(Role role);
std::string_view name(Scope scope);
std::optional<Role> role_named(std::string_view name);
std::optional<Scope> scope_named(std::string_view name);

// The names, with commas, for messages.
std::string role_names();
std::string scope_names();

// Whether keys of a user with this role may have the scope: viewers only look, and only owners and
// admins administer.
bool may_have(Role role, Scope scope);

}  // namespace ridge::platform
