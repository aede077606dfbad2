#pragma once

#include "platform/identity/principal.h"
#include "platform/identity/role.h"

namespace ridge::server {

// What a route asks for. People who have signed in are asked for a role, keys for a scope.
struct Access {
  platform::Role least_role = platform::Role::admin;
  platform::Scope scope = platform::Scope::admin;
  bool is_open = false;            // answered to anyone
  bool looks_for_session = false;  // of one that is open: it wants to know who has signed in

  bool allows(const platform::Principal& principal) const {
    if (is_open) return true;
    return principal.is_session ? principal.role <= least_role : principal.rights.has(scope);
  }
};

inline constexpr Access open_access{.is_open = true};
inline constexpr Access admin_access{};
// By a key only with the scope admin, as it is for the organisation and not for a project.
inline constexpr Access developer_access{.least_role = platform::Role::developer};
// For what asks models, or keeps what they are asked.
inline constexpr Access inference_access{.least_role = platform::Role::developer,
                                         .scope = platform::Scope::inference};
inline constexpr Access viewer_access{.least_role = platform::Role::viewer};

}  // namespace ridge::server
