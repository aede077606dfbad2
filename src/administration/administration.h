#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/json_text.h"
#include "api/served_model.h"
#include "platform/database/database.h"
#include "platform/endpoints/endpoint.h"
#include "platform/endpoints/endpoint_directory.h"
#include "platform/identity/caller.h"
#include "platform/identity/identity.h"
#include "platform/identity/role.h"

namespace ridge::administration {

using api::Json;

using platform::Caller;

// What a server that answers knows beside the database.
struct Serving {
  std::span<const api::ServedModel> models;
  platform::EndpointDirectory* endpoint_directory = nullptr;  // null: it has no endpoints
};

// One request to a route, and what it works on. Whether the caller's role is enough for the route
// has been checked; what else it bounds is checked by the operation.
struct Call {
  platform::Database& database;
  platform::Identity& identity;
  const Caller& caller;
  std::string argument;  // what stands for {id} in the path, decoded
  std::string query;     // what stands behind "?" in the address
  Json body;             // an object; an empty one where there is none
  const Serving* serving = nullptr;  // null: a command works on the database itself
};

struct Answer {
  int status = 200;
  std::string body;
  std::string_view content_type = "application/json";
  // What comes behind the body, one piece at a time up to an empty one, of an answer that may be
  // long; empty where that is all. Uses the call's database, and waits and throws as the operation.
  std::function<std::string()> more = {};
};

struct Route {
  std::string_view method, path;  // {id} stands for one part that varies
  platform::Role least_role;      // that may use it
  // Throws invalid_argument that names the field, not_found, already_exists, permission_denied, and
  // as Database.
  Answer (*operation)(const Call& call);
  std::size_t most_body_bytes = 64u << 10;  // that a server takes
};

// projects.cc
Answer list_projects(const Call& call);
Answer create_project(const Call& call);
Answer change_project(const Call& call);
Answer remove_project(const Call& call);
Answer list_members(const Call& call);
Answer set_member(const Call& call);
// users.cc
Answer list_users(const Call& call);
Answer create_user(const Call& call);
Answer change_user(const Call& call);
Answer remove_user(const Call& call);
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
// endpoints.cc
Answer list_endpoints(const Call& call);
Answer create_endpoint(const Call& call);
Answer show_endpoint(const Call& call);
Answer change_endpoint(const Call& call);
Answer delete_endpoint(const Call& call);
Answer add_endpoint_version(const Call& call);
Answer set_endpoint_shares(const Call& call);
Answer roll_back_endpoint(const Call& call);
// usage.cc
Answer read_usage(const Call& call);
Answer read_usage_records(const Call& call);
Answer forget_usage(const Call& call);
// kept_requests.cc
Answer list_kept_requests(const Call& call);
Answer read_kept_request(const Call& call);
Answer remove_kept_request(const Call& call);
// audit.cc
Answer read_audit(const Call& call);

// A system prompt, each byte of it perhaps written as \u00ff.
inline constexpr std::size_t most_endpoint_body_bytes =
    6 * platform::most_system_prompt_bytes + (16u << 10);

inline constexpr Route routes[] = {
    {"GET", "/api/v1/projects", platform::Role::project_admin, list_projects},
    {"POST", "/api/v1/projects", platform::Role::admin, create_project},
    {"PATCH", "/api/v1/projects/{id}", platform::Role::admin, change_project},
    {"DELETE", "/api/v1/projects/{id}", platform::Role::admin, remove_project},
    {"GET", "/api/v1/projects/{id}/members", platform::Role::project_admin, list_members},
    {"PUT", "/api/v1/projects/{id}/members", platform::Role::project_admin, set_member},
    {"GET", "/api/v1/users", platform::Role::admin, list_users},
    {"POST", "/api/v1/users", platform::Role::admin, create_user},
    {"PATCH", "/api/v1/users/{id}", platform::Role::admin, change_user},
    {"DELETE", "/api/v1/users/{id}", platform::Role::admin, remove_user},
    {"GET", "/api/v1/keys", platform::Role::developer, list_keys},
    {"POST", "/api/v1/keys", platform::Role::developer, create_key},
    {"POST", "/api/v1/keys/{id}/rotate", platform::Role::developer, rotate_key},
    {"DELETE", "/api/v1/keys/{id}", platform::Role::developer, revoke_key},
    {"GET", "/api/v1/limits", platform::Role::admin, list_limits},
    {"PUT", "/api/v1/limits", platform::Role::admin, set_limit},
    {"GET", "/api/v1/prices", platform::Role::admin, list_prices},
    {"PUT", "/api/v1/prices", platform::Role::admin, set_price},
    {"GET", "/api/v1/endpoints", platform::Role::viewer, list_endpoints},
    {"POST", "/api/v1/endpoints", platform::Role::admin, create_endpoint, most_endpoint_body_bytes},
    {"GET", "/api/v1/endpoints/{id}", platform::Role::viewer, show_endpoint},
    {"PATCH", "/api/v1/endpoints/{id}", platform::Role::admin, change_endpoint},
    {"DELETE", "/api/v1/endpoints/{id}", platform::Role::admin, delete_endpoint},
    {"POST", "/api/v1/endpoints/{id}/versions", platform::Role::admin, add_endpoint_version,
     most_endpoint_body_bytes},
    {"PUT", "/api/v1/endpoints/{id}/shares", platform::Role::admin, set_endpoint_shares},
    {"POST", "/api/v1/endpoints/{id}/rollback", platform::Role::admin, roll_back_endpoint},
    {"GET", "/api/v1/usage", platform::Role::viewer, read_usage},
    {"DELETE", "/api/v1/usage", platform::Role::admin, forget_usage},
    {"GET", "/api/v1/usage/records", platform::Role::viewer, read_usage_records},
    {"GET", "/api/v1/requests/kept", platform::Role::developer, list_kept_requests},
    {"GET", "/api/v1/requests/kept/{id}", platform::Role::developer, read_kept_request},
    {"DELETE", "/api/v1/requests/kept/{id}", platform::Role::admin, remove_kept_request},
    {"GET", "/api/v1/audit", platform::Role::admin, read_audit},
};

// The route for a path as it stands in `routes`; null where there is none.
const Route* find_route(std::string_view method, std::string_view path);

}  // namespace ridge::administration
