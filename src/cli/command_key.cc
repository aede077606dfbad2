#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/identity_access.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct KeyOptions {
  DatabaseChoice database;
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

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

std::vector<std::string> scope_words(const platform::ApiKey& key) {
  std::vector<std::string> words;
  for (const platform::Scope scope : key.rights.scopes) words.emplace_back(platform::name(scope));
  return words;
}

std::string state_of(const platform::ApiKey& key) {
  if (key.revoked_at_ms) return "revoked";
  if (!key.is_valid_at(platform::Identity::wall_clock_ms())) return "expired";
  return key.rotated_to.empty() ? "active" : "ending";
}

Json json_of(const platform::ApiKey& key) {
  Json addresses = Json::array();
  for (const auto& range : key.rights.addresses) addresses.push_back(range.text());
  const auto or_null = [](const std::optional<int64_t>& time_ms) {
    return time_ms ? Json(*time_ms) : Json(nullptr);
  };
  return {{"id", key.id},
          {"name", key.name},
          {"hint", key.hint},
          {"project", key.project},
          {"user", key.user.empty() ? Json(nullptr) : Json(key.user)},
          {"scopes", scope_words(key)},
          {"models", key.rights.models},
          {"addresses", addresses},
          {"state", state_of(key)},
          {"created_at_ms", key.created_at_ms},
          {"expires_at_ms", or_null(key.expires_at_ms)},
          {"revoked_at_ms", or_null(key.revoked_at_ms)},
          {"rotated_to", key.rotated_to.empty() ? Json(nullptr) : Json(key.rotated_to)}};
}

platform::NewKey wanted_key(const KeyOptions& options) {
  platform::NewKey wanted{.name = options.name, .project = options.project, .user = options.user};
  wanted.rights.scopes.clear();
  for (const std::string& word : options.scopes) {
    const auto scope = platform::scope_named(word);
    if (!scope) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--scopes: '{}' is none of {}", word, platform::scope_names()));
    }
    if (!wanted.rights.has(*scope)) wanted.rights.scopes.push_back(*scope);
  }
  wanted.rights.models = options.models;
  for (const std::string& range : options.addresses) {
    wanted.rights.addresses.push_back(platform::AddressRange::parse_or_throw(range));
  }
  if (!options.expires.empty()) wanted.lifetime_ms = duration_ms(options.expires, "--expires");
  return wanted;
}

void show_created(const Context& context, const platform::CreatedKey& created) {
  if (context.json) {
    Json body = {{"key", created.text.text()}};
    body.update(json_of(created.key));
    context.print(body.dump());
    return;
  }
  context.print(created.text.text());
  context.note(fmt::format("Key '{}' of project '{}'. Keep it now: it is not shown again.",
                           printable(created.key.name), printable(created.key.project)));
}

void create(Context& context, const KeyOptions& options) {
  const platform::NewKey wanted = wanted_key(options);
  show_created(
      context,
      IdentityAccess(context, options.database).identity.create_key(wanted, acting_user()));
}

void rotate(Context& context, const KeyOptions& options) {
  const int64_t grace_ms = duration_ms(options.grace, "--grace");
  show_created(context,
               IdentityAccess(context, options.database)
                   .identity.rotate_key({options.name, options.project}, grace_ms, acting_user()));
}

void revoke(Context& context, const KeyOptions& options) {
  const auto revoked = IdentityAccess(context, options.database)
                           .identity.revoke_keys({options.name, options.project}, acting_user());
  Json body = {{"revoked", Json::array()}};
  for (const platform::ApiKey& key : revoked) {
    body["revoked"].push_back(json_of(key));
    context.note(fmt::format("revoked {} ({}...); servers refuse it within a second",
                             printable(key.name), key.hint));
  }
  if (context.json) context.print(body.dump());
}

void list(Context& context, const KeyOptions& options) {
  auto keys = IdentityAccess(context, options.database).identity.keys();
  std::erase_if(keys, [&](const platform::ApiKey& key) {
    return !options.all && (key.revoked_at_ms || state_of(key) == "expired");
  });
  if (context.json) {
    Json body = {{"keys", Json::array()}};
    for (const platform::ApiKey& key : keys) body["keys"].push_back(json_of(key));
    context.print(body.dump(2));
    return;
  }
  if (keys.empty()) return context.note("No keys. Make one with: ridge key create NAME");
  Table table({{"NAME"}, {"PROJECT"}, {"KEY"}, {"SCOPES"}, {"STATE"}, {"CREATED"}, {"EXPIRES"}});
  for (const platform::ApiKey& key : keys) {
    table.add_row({printable(key.name), printable(key.project), key.hint + "...",
                   joined(scope_words(key)), state_of(key), format_time_ms(key.created_at_ms),
                   key.expires_at_ms ? format_time_ms(*key.expires_at_ms) : "never"});
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
    return add_action(*command, context, options, name, description, action);
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
