#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/identity_access.h"
#include "platform/endpoints/endpoints.h"
#include "server/endpoint_json.h"

namespace ridge::cli {
namespace {

using platform::Endpoint;
using platform::EndpointShare;

struct EndpointOptions {
  DatabaseChoice database;
  std::string name;
  platform::EndpointVersion version;
  std::string system_prompt_file;
  std::string moderation_url;
  std::vector<std::string> shares;
};

struct EndpointAccess : IdentityAccess {
  EndpointAccess(Context& context, const EndpointOptions& options)
      : IdentityAccess(context, options.database), endpoints(database) {}

  platform::Endpoints endpoints;
};

std::string shares_text(const std::vector<EndpointShare>& shares) {
  std::string text;
  for (const EndpointShare& share : shares) {
    text += fmt::format("{}{}={}%", text.empty() ? "" : " ", share.version, share.percent);
  }
  return text;
}

void print(Context& context, const Endpoint& endpoint) {
  if (context.json) return context.print(server::endpoint_json(endpoint, server::EndpointView::whole).dump(2));
  context.print(fmt::format("{}: {}{}", printable(endpoint.name), shares_text(endpoint.shares),
                            endpoint.is_enabled ? "" : ", disabled"));
}

platform::EndpointVersion version_of(const EndpointOptions& options) {
  platform::EndpointVersion version = options.version;
  if (options.system_prompt_file.empty()) return version;
  std::ifstream file(options.system_prompt_file, std::ios::binary);
  std::string text(platform::most_system_prompt_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (file.bad() || (text.empty() && !file.eof())) {
    throw Error(ErrorCode::io, fmt::format("cannot read {}", options.system_prompt_file));
  }
  while (text.ends_with('\n')) text.pop_back();
  version.system_prompt = text;
  return version;
}

// "1=90"
EndpointShare share_of(const std::string& text) {
  EndpointShare share;
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data(), end, share.version);
  if (number.ec == std::errc() && number.ptr != end && *number.ptr == '=') {
    const auto percent = std::from_chars(number.ptr + 1, end, share.percent);
    if (percent.ec == std::errc() && percent.ptr == end) return share;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("a share is '{}'; it must be VERSION=PERCENT, as 2=10", text));
}

void create(Context& context, const EndpointOptions& options) {
  if (context.catalog().find(options.name)) {
    throw Error(ErrorCode::already_exists,
                fmt::format("'{}' is the name of a model in the catalog", options.name));
  }
  EndpointAccess access(context, options);
  print(context, access.endpoints.create(options.name, version_of(options), options.moderation_url,
                                         acting_user()));
}

void list(Context& context, const EndpointOptions& options) {
  EndpointAccess access(context, options);
  const auto endpoints = access.endpoints.table().endpoints;
  if (context.json) {
    nlohmann::ordered_json body = {{"endpoints", nlohmann::ordered_json::array()}};
    for (const Endpoint& each : endpoints) {
      body["endpoints"].push_back(server::endpoint_json(each, server::EndpointView::whole));
    }
    return context.print(body.dump(2));
  }
  if (endpoints.empty()) {
    return context.note("No endpoints. Make one with: ridge endpoint create NAME --model MODEL");
  }
  Table table({{"NAME"}, {"SHARES"}, {"MODELS"}, {"STATE"}, {"CHANGED"}});
  for (const Endpoint& each : endpoints) {
    std::string models;
    for (const EndpointShare& share : each.shares) {
      models += (models.empty() ? "" : " ") + each.find(share.version)->model;
    }
    table.add_row({printable(each.name), shares_text(each.shares), printable(models),
                   each.is_enabled ? "enabled" : "disabled", format_time_ms(each.updated_at_ms)});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void add_version(Context& context, const EndpointOptions& options) {
  EndpointAccess access(context, options);
  const Endpoint endpoint =
      access.endpoints.add_version(options.name, version_of(options), acting_user());
  print(context, endpoint);
  if (!context.json) {
    context.note(fmt::format("Version {0} gets no requests yet: ridge endpoint shares {1} {0}=100",
                             endpoint.versions.back().number, printable(endpoint.name)));
  }
}

void set_shares(Context& context, const EndpointOptions& options) {
  std::vector<EndpointShare> shares;
  for (const std::string& text : options.shares) shares.push_back(share_of(text));
  EndpointAccess access(context, options);
  print(context, access.endpoints.set_shares(options.name, shares, acting_user()));
}

void roll_back(Context& context, const EndpointOptions& options) {
  EndpointAccess access(context, options);
  print(context, access.endpoints.roll_back(options.name, acting_user()));
}

void change(Context& context, const EndpointOptions& options,
            const platform::EndpointChange& change) {
  EndpointAccess access(context, options);
  print(context, access.endpoints.change(options.name, change, acting_user()));
}

void enable(Context& context, const EndpointOptions& options) {
  change(context, options, {.is_enabled = true, .moderation_url = {}});
}

void disable(Context& context, const EndpointOptions& options) {
  change(context, options, {.is_enabled = false, .moderation_url = {}});
}

void set_moderation(Context& context, const EndpointOptions& options) {
  const bool is_none = options.moderation_url == "none";
  change(context, options,
         {.is_enabled = {}, .moderation_url = is_none ? std::string() : options.moderation_url});
}

void remove(Context& context, const EndpointOptions& options) {
  EndpointAccess access(context, options);
  access.endpoints.remove(options.name, acting_user());
  if (context.json) context.print(nlohmann::json({{"removed", options.name}}).dump());
}

void add_version_options(CLI::App& command, EndpointOptions& options) {
  platform::EndpointVersion& version = options.version;
  command.add_option("--model", version.model, "The model behind it, as it is served")->required();
  command.add_option("--system-prompt", version.system_prompt, "Stands before the client's own");
  command.add_option("--system-prompt-file", options.system_prompt_file, "The same from a file")
      ->type_name("FILE")
      ->excludes("--system-prompt");
  command.add_option("--temperature", version.temperature, "Where the client says nothing");
  command.add_option("--top-p", version.top_p, "The same");
  command.add_option("--top-k", version.top_k, "The same; 0 for all tokens");
  command.add_option("--min-p", version.min_p, "The same");
  command.add_option("--max-tokens", version.max_tokens,
                     "Of an answer, where the client says nothing");
}

}  // namespace

void add_endpoint_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("endpoint", "Names of your own for models with a system prompt");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "Clients put the name in 'model'. Servers see a change within a second.\n"
      "\n"
      "  ridge endpoint create helper --model smollm2:135m --system-prompt 'Be brief.'\n"
      "  ridge endpoint version helper --model deepseek-r1:1.5b     a second version\n"
      "  ridge endpoint shares helper 1=90 2=10                     of the conversations\n"
      "  ridge endpoint rollback helper                             to the shares before");
  auto options = std::make_shared<EndpointOptions>();
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const EndpointOptions&)) {
    CLI::App* added = command->add_subcommand(name, description);
    add_database_options(*added, options->database);
    added->callback([&context, options, action] { action(context, *options); });
    return added;
  };
  const auto add_named = [&](const char* name, const char* description,
                             void (*action)(Context&, const EndpointOptions&)) {
    CLI::App* added = add(name, description, action);
    added->add_option("NAME", options->name, "The endpoint's name")->required();
    return added;
  };
  CLI::App* creates = add_named("create", "Make an endpoint with its first version", create);
  add_version_options(*creates, *options);
  creates->add_option("--moderation-url", options->moderation_url,
                      "Who judges what is asked, in the form of OpenAI's /v1/moderations");
  add("list", "Show the endpoints", list);
  add_version_options(
      *add_named("version", "Add a version, which gets no requests yet", add_version), *options);
  add_named("shares", "Share the requests among one or two versions", set_shares)
      ->add_option("SHARES", options->shares, "VERSION=PERCENT, 100 together")
      ->required();
  add_named("rollback", "Go back to the shares before the last change", roll_back);
  add_named("enable", "Answer again", enable);
  add_named("disable", "Answer 403 from now on", disable);
  add_named("moderation", "Change who judges what is asked", set_moderation)
      ->add_option("URL", options->moderation_url, "https, or http on this machine; or none")
      ->required();
  add_named("remove", "Take an endpoint away with all of its versions", remove);
}

}  // namespace ridge::cli
