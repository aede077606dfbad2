#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/secret_input.h"
#include "platform/identity/sessions.h"

namespace ridge::cli {
namespace {

using api::Json;

struct UserOptions {
  AdminChoice admin;
  std::string name;
  std::string role = "developer";
  std::string service_of, project, project_role;
};

void create(Context& context, const UserOptions& options) {
  Json wanted = {{"name", options.name}, {"role", options.role}};
  if (!options.service_of.empty()) {
    wanted["kind"] = "service";
    wanted["project"] = options.service_of;
  }
  if (!options.project.empty()) wanted["project"] = options.project;
  if (!options.project_role.empty()) wanted["project_role"] = options.project_role;
  const Json user =
      AdminClient(context, options.admin).ask("POST", "/api/v1/users", {.body = wanted});
  if (context.json) return context.print(user.dump());
  context.note(fmt::format("{} '{}' is there, with the role {}", text_of(user, "kind"),
                           printable(options.name), text_of(user, "role")));
}

void change(Context& context, const UserOptions& options, const Json& change) {
  const Json user =
      AdminClient(context, options.admin)
          .ask("PATCH", "/api/v1/users/{id}", {.argument = options.name, .body = change});
  if (context.json) return context.print(user.dump());
  const bool is_disabled = !user["disabled_at_ms"].is_null();
  context.note(fmt::format("'{}' has the role {}{}", printable(text_of(user, "name")),
                           text_of(user, "role"),
                           is_disabled ? ", and is disabled; servers refuse its keys within a "
                                         "second"
                                       : ""));
}

void change_role(Context& context, const UserOptions& options) {
  change(context, options, {{"role", options.role}});
}

void disable(Context& context, const UserOptions& options) {
  change(context, options, {{"disabled", true}});
}

void enable(Context& context, const UserOptions& options) {
  change(context, options, {{"disabled", false}});
}

void forget_provider(Context& context, const UserOptions& options) {
  change(context, options, {{"oidc", nullptr}});
}

void remove(Context& context, const UserOptions& options) {
  const Json user = AdminClient(context, options.admin)
                        .ask("DELETE", "/api/v1/users/{id}", {.argument = options.name});
  if (context.json) return context.print(user.dump());
  context.note(
      fmt::format("'{}' is gone, with sessions, keys and chats; what the user used stays in 'ridge "
                  "usage'",
                  printable(text_of(user, "name"))));
}

// "default, search (admin)"
std::string projects_of(const Json& user) {
  std::string text = text_of(user, "project");
  for (const Json& each : user["projects"]) {
    const std::string role = text_of(each, "role");
    text += fmt::format("{}{}{}", text.empty() ? "" : ", ", text_of(each, "project"),
                        role == text_of(user, "role") ? "" : " (" + role + ")");
  }
  return text;
}

void check_is_there(AdminClient& client, const std::string& name) {
  for (const Json& user : client.list("/api/v1/users", {}, "name")) {
    if (text_of(user, "name") == name) return;
  }
  throw Error(ErrorCode::not_found,
              fmt::format("there is no user '{0}'; 'ridge user create {0}' makes it", name));
}

void set_password(Context& context, const UserOptions& options) {
  AdminClient client(context, options.admin);
  check_is_there(client, options.name);
  const std::string password = read_new_password(context, options.name);
  if (IdentityAccess* local = client.local()) {
    platform::Sessions(local->database).set_password(options.name, password, "", acting_user());
  } else {
    client.ask("PUT", "/api/v1/users/{id}/password",
               {.argument = options.name, .body = {{"password", password}}});
  }
  if (context.json) return context.print(Json({{"name", options.name}}).dump());
  context.note(
      fmt::format("'{}' has a new password; whoever was signed in with the old one is not "
                  "any more",
                  printable(options.name)));
}

void list(Context& context, const UserOptions& options) {
  const auto users = AdminClient(context, options.admin).list("/api/v1/users", {}, "name");
  if (context.json) return context.print(Json({{"users", users}}).dump(2));
  if (users.empty()) return context.note("No users. Make one with: ridge user create NAME");
  Table table({{"NAME"}, {"KIND"}, {"ROLE"}, {"PROJECTS"}, {"STATE"}, {"CREATED"}});
  for (const Json& user : users) {
    table.add_row({printable(text_of(user, "name")), text_of(user, "kind"), text_of(user, "role"),
                   printable(projects_of(user)),
                   user["disabled_at_ms"].is_null() ? "active" : "disabled",
                   time_of(user, "created_at_ms")});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_user_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand(
      "user", "Users and services: create, list, change, disable, remove, set passwords");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "A key may belong to a user, whose role bounds what the key may do, and with whom it is "
      "disabled:\n"
      "viewers look at metrics, developers also ask models, admins and owners administer.\n"
      "\n"
      "  ridge user create ann --role admin\n"
      "  ridge user create ben --project search            a member of that project alone\n"
      "  ridge user create nightly --service-of search     an account for a program\n"
      "  ridge key create laptop --user ann");
  auto options = std::make_shared<UserOptions>();
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const UserOptions&)) {
    return add_admin_action(*command, context, options, name, description, action);
  };
  CLI::App* creates = add("create", "Make a user", create);
  creates->add_option("NAME", options->name, "What it is called")->required();
  creates->add_option("--role", options->role, platform::role_names())->capture_default_str();
  creates->add_option("--service-of", options->service_of,
                      "An account of this project's for a program, not for a person");
  creates
      ->add_option("--project", options->project,
                   "Whose member the person is; without it, of 'default'")
      ->excludes("--service-of");
  creates
      ->add_option("--project-role", options->project_role,
                   "The role there: " + platform::project_role_names())
      ->excludes("--service-of");
  add("list", "Show the users", list);
  CLI::App* changes = add("change", "Give a user another role", change_role);
  changes->add_option("NAME", options->name, "Its name or id")->required();
  changes->add_option("--role", options->role, platform::role_names())->required();
  CLI::App* disables =
      add("disable", "End a user's sessions, and all keys while it lasts", disable);
  disables->add_option("NAME", options->name, "Its name or id")->required();
  CLI::App* enables = add("enable", "Let a disabled user's keys work again", enable);
  enables->add_option("NAME", options->name, "Its name or id")->required();
  add("remove", "End a user with sessions, keys and chats; the name is free then, usage stays",
      remove)
      ->add_option("NAME", options->name, "Its name or id")
      ->required();
  add("unlink", "Forget who a user is at an OIDC provider, for another account of the same name",
      forget_provider)
      ->add_option("NAME", options->name, "Its name or id")
      ->required();
  CLI::App* password =
      add("password", "Give a person a new password to sign in with", set_password);
  password->add_option("NAME", options->name, "Whose")->required();
}

}  // namespace ridge::cli
