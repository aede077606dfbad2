#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "cli/admin_client.h"
#include "cli/commands.h"

namespace ridge::cli {
namespace {

using api::Json;

struct KeyOptions {
  AdminChoice admin;
  std::string name;
  std::string project = std::string(platform::default_project);
  std::string user;
  std::string expires;
  std::vector<std::string> scopes = {"inference"};
  std::vector<std::string> models;
  std::vector<std::string> addresses;
  std::string grace = "0m";
  bool all = false;
};

std::string joined(const Json& words) {
  std::string text;
  for (const Json& word : words) text += (text.empty() ? "" : ",") + word.get<std::string>();
  return text;
}

bool works(const Json& key) {
  const std::string state = text_of(key, "state");
  return state == "active" || state == "ending";
}

Json wanted_key(const KeyOptions& options) {
  Json wanted = {{"name", options.name},
                 {"project", options.project},
                 {"scopes", options.scopes},
                 {"models", options.models},
                 {"addresses", options.addresses}};
  if (!options.user.empty()) wanted["user"] = options.user;
  if (!options.expires.empty()) wanted["lifetime_ms"] = duration_ms(options.expires, "--expires");
  return wanted;
}

void show_created(const Context& context, const Json& created) {
  if (context.json) return context.print(created.dump());
  context.print(text_of(created, "key"));
  context.note(fmt::format("Key '{}' of project '{}'. Keep it now: it is not shown again.",
                           printable(text_of(created, "name")),
                           printable(text_of(created, "project"))));
}

void create(Context& context, const KeyOptions& options) {
  const Json wanted = wanted_key(options);
  show_created(context,
               AdminClient(context, options.admin).ask("POST", "/api/v1/keys", {.body = wanted}));
}

// The keys that are meant and are not revoked, the oldest first: of an id, or of a name in the
// project.
std::vector<Json> unrevoked_keys(AdminClient& client, const KeyOptions& options) {
  std::vector<Json> keys = client.list("/api/v1/keys", {}, "id");
  std::erase_if(keys, [](const Json& key) { return text_of(key, "state") == "revoked"; });
  std::vector<Json> found;
  for (const Json& key : keys) {
    if (text_of(key, "id") == options.name) return {key};
    if (text_of(key, "name") == options.name && text_of(key, "project") == options.project) {
      found.push_back(key);
    }
  }
  if (!found.empty()) return found;
  throw Error(ErrorCode::not_found,
              fmt::format("there is no key '{}' in project '{}' that is not revoked; 'ridge key "
                          "list' shows the keys",
                          options.name, options.project));
}

void rotate(Context& context, const KeyOptions& options) {
  const int64_t grace_ms = duration_ms(options.grace, "--grace");
  AdminClient client(context, options.admin);
  std::vector<Json> keys = unrevoked_keys(client, options);
  std::ranges::stable_partition(
      keys, [](const Json& key) { return !text_of(key, "rotated_to").empty(); });
  const std::string id = text_of(keys.back(), "id");  // others of the name have expired
  show_created(context, client.ask("POST", "/api/v1/keys/{id}/rotate",
                                   {.argument = id, .body = {{"grace_ms", grace_ms}}}));
}

void revoke(Context& context, const KeyOptions& options) {
  AdminClient client(context, options.admin);
  Json body = {{"revoked", Json::array()}};
  for (const Json& key : unrevoked_keys(client, options)) {
    body["revoked"].push_back(
        client.ask("DELETE", "/api/v1/keys/{id}", {.argument = text_of(key, "id")}));
    context.note(fmt::format("revoked {} ({}...); servers refuse it within a second",
                             printable(text_of(key, "name")), text_of(key, "hint")));
  }
  if (context.json) context.print(body.dump());
}

void list(Context& context, const KeyOptions& options) {
  auto keys = AdminClient(context, options.admin).list("/api/v1/keys", {}, "id");
  std::erase_if(keys, [&](const Json& key) { return !options.all && !works(key); });
  if (context.json) return context.print(Json({{"keys", keys}}).dump(2));
  if (keys.empty()) return context.note("No keys. Make one with: ridge key create NAME");
  Table table({{"NAME"}, {"PROJECT"}, {"KEY"}, {"SCOPES"}, {"STATE"}, {"CREATED"}, {"EXPIRES"}});
  for (const Json& key : keys) {
    const bool ends = !text_of(key, "expires_at_ms").empty();
    table.add_row({printable(text_of(key, "name")), printable(text_of(key, "project")),
                   text_of(key, "hint") + "...", joined(key["scopes"]), text_of(key, "state"),
                   time_of(key, "created_at_ms"), ends ? time_of(key, "expires_at_ms") : "never"});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

using Action = void (*)(Context&, const KeyOptions&);

void add_project_option(CLI::App& command, KeyOptions& options) {
  command.add_option("--project", options.project, "The key's project")->capture_default_str();
}

void add_list_option(CLI::App& command, const char* flag, std::vector<std::string>& list,
                     const std::string& description) {
  command.add_option(flag, list, description)->delimiter(',')->allow_extra_args(false);
}

}  // namespace

void add_key_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("key", "Create, list, rotate and revoke API keys");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "Examples:\n"
      "  ridge key create laptop                              of the project 'default'\n"
      "  ridge key create ci --project search --expires 90d   ends by itself\n"
      "  ridge key create prometheus --scopes metrics --addresses 10.1.0.0/16\n"
      "  ridge key rotate ci --project search --grace 1d      the old one works for a day more\n"
      "  ridge key revoke laptop\n"
      "\n"
      "Works beside a running server, which takes new keys at once and refuses revoked ones within "
      "a second.\n"
      "A key is shown once; only a hash of it is kept.");
  auto options = std::make_shared<KeyOptions>();
  const auto add = [&](const char* name, const char* description, Action action) {
    return add_admin_action(*command, context, options, name, description, action);
  };

  CLI::App* creates = add("create", "Make a key and show it, once", create);
  creates->add_option("NAME", options->name, "What it is called")->required();
  add_project_option(*creates, *options);
  creates->add_option("--user", options->user, "Its owner, whose role bounds it; else the project");
  creates->add_option("--expires", options->expires, "When it ends: 12h, 30d, 1y; else never");
  add_list_option(*creates, "--scopes", options->scopes,
                  "What it may be used for: " + platform::scope_names() + " (inference)");
  add_list_option(*creates, "--models", options->models, "The only models that it may use");
  add_list_option(*creates, "--addresses", options->addresses,
                  "The only addresses that it may come from, as 10.1.0.0/16");

  CLI::App* lists = add("list", "Show the keys that work", list);
  lists->add_flag("-a,--all", options->all, "Also those that were revoked or have expired");

  CLI::App* rotates = add("rotate", "Replace a key by a new one with the same rights", rotate);
  rotates->add_option("NAME", options->name, "Its name or id")->required();
  add_project_option(*rotates, *options);
  rotates->add_option("--grace", options->grace, "How long the old one still works: 1h, 1d")
      ->capture_default_str();

  CLI::App* revokes = add("revoke", "End a key now", revoke);
  revokes->add_option("NAME", options->name, "Its name or id")->required();
  add_project_option(*revokes, *options);
}

}  // namespace ridge::cli
