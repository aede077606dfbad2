#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/identity_access.h"
#include "cli/secret_input.h"
#include "platform/identity/sessions.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct UserOptions {
  DatabaseChoice database;
  std::string name;
  std::string role = "developer";
  std::string service_of;
};

std::string kind_name(const platform::User& user) {
  return user.kind == platform::UserKind::service ? "service" : "person";
}

Json json_of(const platform::User& user) {
  return {{"id", user.id},
          {"name", user.name},
          {"kind", kind_name(user)},
          {"role", platform::name(user.role)},
          {"project", user.project.empty() ? Json(nullptr) : Json(user.project)},
          {"created_at_ms", user.created_at_ms},
          {"disabled_at_ms", user.disabled_at_ms ? Json(*user.disabled_at_ms) : Json(nullptr)}};
}

void create(Context& context, const UserOptions& options) {
  const auto role = platform::role_named(options.role);
  if (!role) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--role: '{}' is none of {}", options.role, platform::role_names()));
  }
  const auto kind =
      options.service_of.empty() ? platform::UserKind::person : platform::UserKind::service;
  const platform::User user =
      IdentityAccess(context, options.database)
          .identity.create_user(options.name, kind, *role, options.service_of, acting_user());
  if (context.json) return context.print(json_of(user).dump());
  context.note(fmt::format("{} '{}' is there, with the role {}", kind_name(user),
                           printable(user.name), platform::name(user.role)));
}

void disable(Context& context, const UserOptions& options) {
  const platform::User user =
      IdentityAccess(context, options.database).identity.disable_user(options.name, acting_user());
  if (context.json) return context.print(json_of(user).dump());
  context.note(fmt::format("'{}' is disabled; servers refuse its keys within a second",
                           printable(user.name)));
}

void set_password(Context& context, const UserOptions& options) {
  IdentityAccess access(context, options.database);
  const auto users = access.identity.users();
  if (std::ranges::find(users, options.name, &platform::User::name) == users.end()) {
    throw Error(
        ErrorCode::not_found,
        fmt::format("there is no user '{0}'; 'ridge user create {0}' makes it", options.name));
  }
  const std::string password = read_new_password(context, options.name);
  platform::Sessions(access.database).set_password(options.name, password, "", acting_user());
  if (context.json) return context.print(Json({{"name", options.name}}).dump());
  context.note(
      fmt::format("'{}' has a new password; whoever was signed in with the old one is not "
                  "any more",
                  printable(options.name)));
}

void list(Context& context, const UserOptions& options) {
  const auto users = IdentityAccess(context, options.database).identity.users();
  if (context.json) {
    Json body = {{"users", Json::array()}};
    for (const platform::User& user : users) body["users"].push_back(json_of(user));
    return context.print(body.dump(2));
  }
  if (users.empty()) return context.note("No users. Make one with: ridge user create NAME");
  Table table({{"NAME"}, {"KIND"}, {"ROLE"}, {"PROJECT"}, {"STATE"}, {"CREATED"}});
  for (const platform::User& user : users) {
    table.add_row({printable(user.name), kind_name(user), std::string(platform::name(user.role)),
                   printable(user.project), user.disabled_at_ms ? "disabled" : "active",
                   format_time_ms(user.created_at_ms)});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_user_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("user", "Users and services: create, list, disable, set passwords");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "A key may belong to a user, whose role bounds what the key may do, and with whom it is "
      "disabled:\n"
      "viewers look at metrics, developers also ask models, admins and owners administer.\n"
      "\n"
      "  ridge user create ann --role admin\n"
      "  ridge user create nightly --service-of search     an account for a program\n"
      "  ridge key create laptop --user ann");
  auto options = std::make_shared<UserOptions>();
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const UserOptions&)) {
    return add_action(*command, context, options, name, description, action);
  };
  CLI::App* creates = add("create", "Make a user", create);
  creates->add_option("NAME", options->name, "What it is called")->required();
  creates->add_option("--role", options->role, platform::role_names())->capture_default_str();
  creates->add_option("--service-of", options->service_of,
                      "An account of this project's for a program, not for a person");
  add("list", "Show the users", list);
  CLI::App* disables = add("disable", "End all keys of a user, now and in future", disable);
  disables->add_option("NAME", options->name, "Its name")->required();
  CLI::App* password =
      add("password", "Give a person a new password to sign in with", set_password);
  password->add_option("NAME", options->name, "Whose")->required();
}

}  // namespace ridge::cli
