#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/identity/address_range.h"
#include "platform/identity/role.h"

namespace ridge::platform {

// Times are milliseconds since 1970.

struct Project {
  std::string id;  // "proj_..."
  std::string name;
  double weight = 1;  // its share of the machine against other projects'
  int64_t created_at_ms = 0;
  int keep_days = 0;       // prompts and answers are kept for; 0: they are not
  int64_t kept_bytes = 0;  // what is kept of them
};

enum class UserKind { person, service };
std::string_view name(UserKind kind);
std::optional<UserKind> user_kind_named(std::string_view name);

// That a person is a member of a project.
struct Membership {
  std::string project;                        // its name
  ProjectRole role = ProjectRole::developer;  // as far as the user's own role allows it
};

struct User {
  std::string id;  // "user_..."
  std::string name;
  UserKind kind = UserKind::person;
  Role role = Role::developer;
  std::string project;  // the name of a service's project; empty for people
  int64_t created_at_ms = 0;
  std::optional<int64_t> disabled_at_ms;
  // Who a person is at a provider (provider_user.h); empty where nobody has signed in there yet.
  std::string oidc_issuer, oidc_subject;
  std::vector<Membership> memberships;  // of a person, by the projects' names
};

// A person in a project.
struct Member {
  std::string user_id, user;                  // the name
  ProjectRole role = ProjectRole::developer;  // as far as the user's own role allows it
  Role user_role = Role::developer;  // for the organisation; owners and admins act in all projects
  int64_t added_at_ms = 0;
  std::optional<int64_t> disabled_at_ms;  // the user
};

// What a key may do, and from where.
struct KeyRights {
  std::vector<Scope> scopes = {Scope::inference};
  std::vector<std::string> models;      // empty: all
  std::vector<AddressRange> addresses;  // empty: from anywhere

  bool has(Scope scope) const;
  bool allows_model(std::string_view name) const;
  bool allows_address(std::string_view address) const;
};

struct ApiKey {
  std::string id;  // "key_..."
  std::string name;
  std::string hint;  // "rgk_Ab3d"
  std::string project;
  std::string user;  // the owner's name; empty where the project itself owns it
  KeyRights rights;
  int64_t created_at_ms = 0;
  std::optional<int64_t> expires_at_ms;
  std::optional<int64_t> revoked_at_ms;
  std::string rotated_to;  // the id of its successor, or empty

  bool is_valid_at(int64_t now_ms) const {
    return !revoked_at_ms && (!expires_at_ms || now_ms < *expires_at_ms);
  }
};

struct AuditEvent {
  int64_t number = 0;  // counts up; what was undone leaves gaps
  int64_t at_ms = 0;
  std::string actor;    // "cli:alice"
  std::string action;   // "key.create"
  std::string subject;  // the id of what was changed
  std::string details;  // a JSON object without secrets
};

}  // namespace ridge::platform
