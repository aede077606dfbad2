#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/admin_client.h"
#include "cli/commands.h"
#include "platform/endpoints/endpoint.h"

namespace ridge::cli {
namespace {

using api::Json;

struct EndpointOptions {
  AdminChoice admin;
  std::string name;
  platform::EndpointVersion version;
  std::string system_prompt_file;
  std::string moderation_url;
  std::vector<std::string> shares;
};

// What a server lacks in its answer is null, as these are no const ones.
std::string shares_text(Json endpoint) {
  std::string text;
  for (const Json& share : endpoint["shares"]) {
    text += fmt::format("{}{}={}%", text.empty() ? "" : " ", number_of(share, "version"),
                        number_of(share, "percent"));
  }
  return text;
}

std::string models_behind(Json endpoint) {
  std::string text;
  for (const Json& share : endpoint["shares"]) {
    for (const Json& version : endpoint["versions"]) {
      if (number_of(version, "number") != number_of(share, "version")) continue;
      text += (text.empty() ? "" : " ") + text_of(version, "model");
    }
  }
  return text;
}

bool is_enabled(const Json& endpoint) { return endpoint.value("is_enabled", true); }

void print(Context& context, const Json& endpoint) {
  if (context.json) return context.print(endpoint.dump(2));
  context.print(fmt::format("{}: {}{}", printable(text_of(endpoint, "name")),
                            shares_text(endpoint), is_enabled(endpoint) ? "" : ", disabled"));
}

std::string text_of_file(const std::string& name) {
  std::ifstream file(name, std::ios::binary);
  std::string text(platform::most_system_prompt_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (file.bad() || (text.empty() && !file.eof())) {
    throw Error(ErrorCode::io, fmt::format("cannot read {}", name));
  }
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

Json version_of(const EndpointOptions& options) {
  const platform::EndpointVersion& version = options.version;
  return {{"model", version.model},
          {"system_prompt", options.system_prompt_file.empty()
                                ? version.system_prompt
                                : text_of_file(options.system_prompt_file)},
          {"temperature", api::or_null(version.temperature)},
          {"top_p", api::or_null(version.top_p)},
          {"top_k", api::or_null(version.top_k)},
          {"min_p", api::or_null(version.min_p)},
          {"max_tokens", api::or_null(version.max_tokens)}};
}

// "1=90"
Json share_of(const std::string& text) {
  int64_t version = 0;
  int percent = 0;
  const char* const end = text.data() + text.size();
  const auto number = std::from_chars(text.data(), end, version);
  if (number.ec == std::errc() && number.ptr != end && *number.ptr == '=') {
    const auto rest = std::from_chars(number.ptr + 1, end, percent);
    if (rest.ec == std::errc() && rest.ptr == end) {
      return {{"version", version}, {"percent", percent}};
    }
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("a share is '{}'; it must be VERSION=PERCENT, as 2=10", text));
}

void create(Context& context, const EndpointOptions& options) {
  Json body = version_of(options);
  body["name"] = options.name;
  body["moderation_url"] = api::or_null(options.moderation_url);
  print(context, AdminClient(context, options.admin)
                     .ask("POST", "/api/v1/endpoints", {.body = std::move(body)}));
}

void list(Context& context, const EndpointOptions& options) {
  const Json endpoints =
      AdminClient(context, options.admin).ask("GET", "/api/v1/endpoints")["data"];
  if (context.json) return context.print(Json({{"endpoints", endpoints}}).dump(2));
  if (endpoints.empty()) {
    return context.note("No endpoints. Make one with: ridge endpoint create NAME --model MODEL");
  }
  Table table({{"NAME"}, {"SHARES"}, {"MODELS"}, {"STATE"}, {"CHANGED"}});
  for (const Json& each : endpoints) {
    table.add_row({printable(text_of(each, "name")), shares_text(each),
                   printable(models_behind(each)), is_enabled(each) ? "enabled" : "disabled",
                   time_of(each, "updated_at_ms")});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void add_version(Context& context, const EndpointOptions& options) {
  Json endpoint = AdminClient(context, options.admin)
                      .ask("POST", "/api/v1/endpoints/{id}/versions",
                           {.argument = options.name, .body = version_of(options)});
  print(context, endpoint);
  const Json& versions = endpoint["versions"];
  if (!context.json && !versions.empty()) {
    context.note(fmt::format("Version {0} gets no requests yet: ridge endpoint shares {1} {0}=100",
                             number_of(versions.back(), "number"), printable(options.name)));
  }
}

void set_shares(Context& context, const EndpointOptions& options) {
  Json shares = Json::array();
  for (const std::string& text : options.shares) shares.push_back(share_of(text));
  print(context, AdminClient(context, options.admin)
                     .ask("PUT", "/api/v1/endpoints/{id}/shares",
                          {.argument = options.name, .body = {{"shares", std::move(shares)}}}));
}

void roll_back(Context& context, const EndpointOptions& options) {
  print(context, AdminClient(context, options.admin)
                     .ask("POST", "/api/v1/endpoints/{id}/rollback", {.argument = options.name}));
}

void change(Context& context, const EndpointOptions& options, Json change) {
  print(context, AdminClient(context, options.admin)
                     .ask("PATCH", "/api/v1/endpoints/{id}",
                          {.argument = options.name, .body = std::move(change)}));
}

void enable(Context& context, const EndpointOptions& options) {
  change(context, options, {{"is_enabled", true}});
}

void disable(Context& context, const EndpointOptions& options) {
  change(context, options, {{"is_enabled", false}});
}

void set_moderation(Context& context, const EndpointOptions& options) {
  const bool is_none = options.moderation_url == "none";
  change(context, options,
         {{"moderation_url", is_none ? Json(nullptr) : Json(options.moderation_url)}});
}

void remove(Context& context, const EndpointOptions& options) {
  AdminClient(context, options.admin)
      .ask("DELETE", "/api/v1/endpoints/{id}", {.argument = options.name});
  if (context.json) context.print(Json({{"removed", options.name}}).dump());
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
    return add_admin_action(*command, context, options, name, description, action);
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
