#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "platform/identity/records.h"

namespace ridge::platform {

// On whose behalf a request comes: what is known of its key, or of the person who has signed in.
struct Principal {
  std::string key_id;  // of a person: the user's, by which what is used is counted
  std::string key_name;
  // By which limits of the key count: the first key's of those that rotation made of one another.
  std::string allowance_id;
  bool is_session = false;
  std::string user_id, user_name;  // of its owner; empty where a project owns it
  // What it may do for the organisation: the owner's role as far as the scopes go.
  Role role = Role::viewer;
  std::string project_id;
  std::string project_name;
  std::string organisation_id;
  double project_weight = 1;
  bool keeps_requests = false;  // the project does: prompts and answers
  KeyRights rights;  // without what the owner's role does not allow
  std::optional<int64_t> expires_at_ms;
  bool is_revoked = false;  // the key, or its owner disabled
  int64_t revision = -1;  // of identity, as of which all this is; below 0: nobody noted it
  // An admin, an admin's key or one with the scope admin, which may know what other projects use.
  bool sees_all_projects = false;
};

}  // namespace ridge::platform
