#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/json_text.h"
#include "platform/database/database.h"
#include "platform/identity/caller.h"
#include "platform/identity/identity.h"
#include "platform/identity/role.h"

namespace ridge::administration {

using api::Json;

using platform::Caller;

// One request to a route, and what it works on. Whether the caller's role is enough for the route
// has been checked; what else it bounds is checked by the operation.
struct Call {
  platform::Database& database;
  platform::Identity& identity;
  const Caller& caller;
  std::string argument;  // what stands for {id} in the path, decoded
  std::string query;     // what stands behind "?" in the address
  Json body;             // an object; an empty one where there is none
};

struct Answer {
  int status = 200;
  std::string body;
  std::string_view content_type = "application/json";
};

struct Route {
  std::string_view method, path;  // {id} stands for one part that varies
  platform::Role least_role;      // that may use it
  // Throws invalid_argument that names the field, not_found, already_exists, permission_denied, and
  // as Database.
  Answer (*operation)(const Call& call);
};

// projects.cc
Answer list_projects(const Call& call);
Answer create_project(const Call& call);
Answer change_project(const Call& call);
// users.cc
Answer list_users(const Call& call);
Answer create_user(const Call& call);
Answer change_user(const Call& call);
// keys.cc
Answer list_keys(const Call& call);
Answer create_key(const Call& call);
Answer rotate_key(const Call& call);
Answer revoke_key(const Call& call);
// limits.cc
Answer list_limits(const Call& call);
Answer set_limit(const Call& call);
Answer list_prices(const Call& call);
Answer set_price(const Call& call);
// usage.cc
Answer read_usage(const Call& call);
Answer forget_usage(const Call& call);
// audit.cc
Answer read_audit(const Call& call);

inline constexpr Route routes[] = {
    {"GET", "/api/v1/projects", platform::Role::admin, list_projects},
    {"POST", "/api/v1/projects", platform::Role::admin, create_project},
    {"PATCH", "/api/v1/projects/{id}", platform::Role::admin, change_project},
    {"GET", "/api/v1/users", platform::Role::admin, list_users},
    {"POST", "/api/v1/users", platform::Role::admin, create_user},
    {"PATCH", "/api/v1/users/{id}", platform::Role::admin, change_user},
    {"GET", "/api/v1/keys", platform::Role::developer, list_keys},
    {"POST", "/api/v1/keys", platform::Role::developer, create_key},
    {"POST", "/api/v1/keys/{id}/rotate", platform::Role::developer, rotate_key},
    {"DELETE", "/api/v1/keys/{id}", platform::Role::developer, revoke_key},
    {"GET", "/api/v1/limits", platform::Role::admin, list_limits},
    {"PUT", "/api/v1/limits", platform::Role::admin, set_limit},
    {"GET", "/api/v1/prices", platform::Role::admin, list_prices},
    {"PUT", "/api/v1/prices", platform::Role::admin, set_price},
    {"GET", "/api/v1/usage", platform::Role::viewer, read_usage},
    {"DELETE", "/api/v1/usage", platform::Role::admin, forget_usage},
    {"GET", "/api/v1/audit", platform::Role::admin, read_audit},
};

// The route for a path as it stands in `routes`; null where there is none.
const Route* find_route(std::string_view method, std::string_view path);

// "2026-11-28" as that day's beginning in UTC; nullopt where it is no day.
std::optional<int64_t> day_ms(std::string_view text);

}  // namespace ridge::administration
