#pragma once

#include <string>

#include "platform/identity/role.h"

namespace ridge::platform {

// On whose behalf something is administered.
struct Caller {
  Role role = Role::viewer;
  std::string user_id, user_name;        // empty: a project's key, or nobody is asked who they are
  std::string project_id, project_name;  // of the key or session; empty where nobody is asked
  std::string key_id;                    // likewise; of a session the user's id
  std::string actor;                     // for the audit log: "user:ann", "key:ci", "local"
  bool is_session = false;               // the user has signed in, and shows no key

  // "admin" is for owners as well.
  bool is_at_least(Role least) const { return role <= least; }
};

}  // namespace ridge::platform
