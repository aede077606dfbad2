// Signing in and out, and passwords.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "api/error_body.h"
#include "api/fields.h"
#include "base/error.h"
#include "base/log.h"
#include "platform/identity/password.h"
#include "server/handler_route.h"
#include "server/service.h"
#include "server/session_cookie.h"

namespace ridge::server {

void record_refused_sign_in(const HandlerRequest& request, const std::string& name,
                            std::string_view by) {
  const auto others = request.service.refusals.take();
  if (!others) return;
  try {
    request.sessions().record_refusal(name, by, request.address, *others);
  } catch (const Error& error) {
    log::warning("a refused sign-in from {} is in no audit log: {}", request.address,
                 error.message());
  }
}

namespace {

using api::Json;

constexpr std::size_t most_token_bytes = 200;

// With the projects that the user may act for, the roles there, and for how many days they keep what
// is asked ({"search": 30}), which who writes to models is told; `project` is the one that this
// request is of.
Json json_of_user(std::string_view name, std::string_view project,
                  const std::vector<platform::ProjectOfUser>& projects, bool has_keeper) {
  Json names = Json::array(), roles = Json::object(), keeping = Json::object();
  platform::Role role = platform::Role::viewer;
  for (const platform::ProjectOfUser& each : projects) {
    names.push_back(each.name);
    roles[each.name] = platform::name(each.role);
    if (has_keeper && each.keep_days > 0) keeping[each.name] = each.keep_days;
    if (each.name == project) role = each.role;
  }
  return {{"name", name},
          {"role", platform::name(role)},
          {"project", project},
          {"projects", std::move(names)},
          {"roles", std::move(roles)},
          {"keeping", std::move(keeping)}};
}

Json json_of_session(const HandlerRequest& request, Json user, Json csrf_token) {
  const bool asks_for_keys = request.service.authenticator != nullptr;
  const auto& sessions = request.service.platform.sessions;
  return {{"authentication", asks_for_keys ? "keys" : "none"},
          {"set_up_needed", asks_for_keys && sessions != nullptr && sessions->needs_set_up()},
          {"oidc", asks_for_keys && request.service.platform.oidc != nullptr},
          {"user", std::move(user)},
          {"csrf_token", std::move(csrf_token)},
          {"version", RIDGE_VERSION}};
}

HandlerAnswer show_session(HandlerRequest& request) {
  if (request.service.authenticator == nullptr) {
    const std::string project(platform::default_project);
    const Json user =
        json_of_user("local", project, {{project, platform::Role::owner}}, /*has_keeper=*/false);
    return json_answer(json_of_session(request, user, nullptr));
  }
  if (!request.caller.is_session) return json_answer(json_of_session(request, nullptr, nullptr));
  const Caller& caller = request.caller;
  const auto projects = request.sessions().projects_of(caller.user_id);
  Json user = json_of_user(caller.user_name, caller.project_name, projects,
                           request.service.platform.keeper != nullptr);
  user["role"] = platform::name(caller.role);  // also of a project beyond the end of the list
  return json_answer(
      json_of_session(request, user, platform::Sessions::csrf_token(request.session_token)));
}

HandlerAnswer begin_session(const HandlerRequest& request, const platform::NewSession& session) {
  // Never the one that the browser had before: somebody else may have put it there.
  if (!request.session_token.empty()) {
    request.sessions().sign_out(request.session_token, request.address);
  }
  const auto projects = request.sessions().projects_of(session.user.id);
  const Json user = json_of_user(
      session.user.name, projects.empty() ? platform::default_project : projects.front().name,
      projects, request.service.platform.keeper != nullptr);
  HandlerAnswer answer =
      json_answer(json_of_session(request, user, platform::Sessions::csrf_token(session.token)));
  answer.headers.emplace_back("Set-Cookie",
                              session_cookie(session.token, request.is_secure, session_lives));
  return answer;
}

// Null where the password may be tried.
std::optional<HandlerAnswer> throttle(const HandlerRequest& request, const std::string& name) {
  const auto wait = request.service.sign_ins.begin(request.address, name);
  if (!wait) return std::nullopt;
  HandlerAnswer answer{.status = 429};
  answer.body = api::error_body(429, "rate_limit_exceeded",
                                "too many attempts; wait before the next one", "");
  answer.headers.emplace_back("Retry-After", std::to_string((wait->count() + 999) / 1000));
  answer.headers.emplace_back("retry-after-ms", std::to_string(wait->count()));
  return answer;
}

void check_has_sessions(const HandlerRequest& request) {
  if (request.service.authenticator != nullptr) return;
  throw Error(ErrorCode::invalid_argument,
              "this server asks nobody who they are (--no-auth), so that nobody can sign in");
}

HandlerAnswer sign_in(HandlerRequest& request) {
  check_has_sessions(request);
  const Json body = request.json();
  const api::Fields fields(body, "");
  const std::string name = fields.required_string("name", platform::Identity::most_name_bytes);
  const std::string password = fields.required_string("password", platform::most_password_bytes);
  if (auto refusal = throttle(request, name)) return std::move(*refusal);
  platform::NewSession session;
  try {
    session = request.sessions().sign_in(name, password, request.address);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::unauthenticated)
      record_refused_sign_in(request, name, "password");
    throw;
  }
  request.service.sign_ins.succeeded(request.address, name);
  return begin_session(request, session);
}

HandlerAnswer sign_out(HandlerRequest& request) {
  if (!request.session_token.empty()) {
    request.sessions().sign_out(request.session_token, request.address);
  }
  HandlerAnswer answer = no_content();
  answer.headers.emplace_back("Set-Cookie", ended_session_cookie(request.is_secure));
  return answer;
}

HandlerAnswer set_up(HandlerRequest& request) {
  check_has_sessions(request);
  const Json body = request.json();
  const api::Fields fields(body, "");
  const std::string token = fields.required_string("token", most_token_bytes);
  const std::string name = fields.required_string("name", platform::Identity::most_name_bytes);
  const std::string password = fields.required_string("password", platform::most_password_bytes);
  return begin_session(request, request.sessions().set_up(token, name, password, request.address));
}

// Whoever has come by a session must not be able to keep it by a new password.
std::optional<HandlerAnswer> check_old_password(const HandlerRequest& request,
                                                const api::Fields& fields) {
  const std::string& name = request.caller.user_name;
  const std::string old = fields.required_string("old_password", platform::most_password_bytes);
  if (auto refusal = throttle(request, name)) return refusal;
  if (!request.sessions().is_password(name, old)) {
    throw Error(ErrorCode::permission_denied, "the old password is wrong", "old_password");
  }
  request.service.sign_ins.succeeded(request.address, name);
  return std::nullopt;
}

void check_may_administer(const HandlerRequest& request, const std::string& name) {
  const auto users = request.identity().users();
  const auto user = std::ranges::find(users, name, &platform::User::name);
  const Caller& caller = request.caller;
  if (!caller.is_at_least(platform::Role::admin)) {
    throw Error(ErrorCode::permission_denied, "passwords of others are for admins to change");
  }
  if (user != users.end() && user->role < caller.role) {
    throw Error(ErrorCode::permission_denied, "an owner's password is for owners to change");
  }
}

HandlerAnswer change_password(HandlerRequest& request) {
  const Json body = request.json();
  const api::Fields fields(body, "");
  const std::string password = fields.required_string("password", platform::most_password_bytes);
  const std::string& name = request.argument;
  const bool is_own = request.caller.is_session && request.caller.user_name == name;
  if (!is_own) {
    check_may_administer(request, name);
  } else if (auto refusal = check_old_password(request, fields)) {
    return std::move(*refusal);
  }
  request.sessions().set_password(name, password, is_own ? request.session_token : "",
                                  request.caller.actor);
  return no_content();
}

constexpr Access session_access{.is_open = true, .looks_for_session = true};

constexpr std::size_t most_session_bytes = 16u << 10;

constexpr HandlerRoute session_table[] = {
    {"GET", "/api/v1/session", session_access, show_session},
    {"POST", "/api/v1/session", open_access, sign_in, most_session_bytes, RunsOn::password_pool},
    {"DELETE", "/api/v1/session", viewer_access, sign_out},
    {"POST", "/api/v1/set-up", open_access, set_up, most_session_bytes, RunsOn::password_pool},
    {"PUT", "/api/v1/users/{id}/password", viewer_access, change_password, most_session_bytes,
     RunsOn::password_pool},
};

}  // namespace

std::span<const HandlerRoute> session_routes() { return session_table; }

}  // namespace ridge::server
