#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::platform {

// What somebody may do, the most powerful first. Users have one of these for the organisation, but
// project_admin, which comes of a membership and holds in that project alone.
enum class Role { owner, admin, project_admin, developer, viewer };

// What a member may do in a project, the most powerful first.
enum class ProjectRole { admin, developer, viewer };

// What a key may be used for.
enum class Scope {
  inference,  // every route that asks a model, and the list of models
  metrics,    // /metrics
  admin,      // keys, users, projects, usage
};

std::string_view name(Role role);  // "project_admin" is what clients read of a session
std::string_view name(ProjectRole role);
std::string_view name(Scope scope);
std::optional<Role> role_named(std::string_view name);  // that a user may have
std::optional<ProjectRole> project_role_named(std::string_view name);
std::optional<Scope> scope_named(std::string_view name);

// The names, with commas, for messages.
std::string role_names();
std::string project_role_names();
std::string scope_names();

// Whether keys of a user with this role may have the scope: viewers only look, and only owners and
// admins administer.
bool may_have(Role role, Scope scope);

// What a membership with `wanted` is worth to a user of this role: viewers look, wherever they are.
ProjectRole bounded(ProjectRole wanted, Role of_user);

// What a person of this role may do in a project; null where that is nothing, as there is no
// membership. Owners and admins act in all.
std::optional<Role> role_in_project(Role of_user, std::optional<ProjectRole> membership);

}  // namespace ridge::platform
