#include <fmt/format.h>

#include <charconv>
#include <memory>

#include "base/error.h"
#include "cli/admin_client.h"
#include "cli/commands.h"
#include "platform/identity/identity.h"

namespace ridge::cli {
namespace {

using api::Json;

struct ProjectOptions {
  AdminChoice admin;
  std::string name;
  std::optional<double> weight;
  std::string keep_prompts;                   // of a change
  std::string key, model, request, from, to;  // of what is kept
  std::string user;
  std::string role = "developer";
};

void create(Context& context, const ProjectOptions& options) {
  const Json project =
      AdminClient(context, options.admin)
          .ask("POST", "/api/v1/projects",
               {.body = {{"name", options.name}, {"weight", options.weight.value_or(1)}}});
  if (context.json) return context.print(project.dump());
  context.note(
      fmt::format("project '{0}' is there; 'ridge key create NAME --project {0}' makes a "
                  "key for it",
                  printable(options.name)));
}

// "30", "30d" or "off".
int keep_days_of(const std::string& text) {
  if (text == "off") return 0;
  const char* const end = text.data() + text.size();
  int days = 0;
  const auto [stop, failure] = std::from_chars(text.data(), end, days);
  const bool is_days =
      failure == std::errc() &&
      (stop == end || std::string_view(stop, static_cast<std::size_t>(end - stop)) == "d");
  if (is_days && days >= 1 && days <= platform::Identity::most_keep_days) return days;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("--keep-prompts is '{}'; it must be off, or from 1 to {} days", text,
                          platform::Identity::most_keep_days));
}

std::string keeping_of(const Json& project) {
  const int64_t days = number_of(project, "keep_days");
  return days == 0 ? "no"
                   : fmt::format("{} d, {}", days, format_bytes(number_of(project, "kept_bytes")));
}

void change(Context& context, const ProjectOptions& options) {
  Json body = Json::object();
  if (options.weight) body["weight"] = *options.weight;
  if (!options.keep_prompts.empty()) body["keep_days"] = keep_days_of(options.keep_prompts);
  if (body.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "there is nothing to change: give --weight or --keep-prompts");
  }
  const Json project =
      AdminClient(context, options.admin)
          .ask("PATCH", "/api/v1/projects/{id}", {.argument = options.name, .body = body});
  if (context.json) return context.print(project.dump());
  const std::string name = printable(text_of(project, "name"));
  if (options.weight) {
    context.note(
        fmt::format("project '{}' has the weight {} now", name, text_of(project, "weight")));
  }
  if (options.keep_prompts.empty()) return;
  if (const int64_t days = number_of(project, "keep_days"); days > 0) {
    context.note(fmt::format(
        "what is asked and answered for project '{}' is kept for {} days from now on; "
        "the organisation's admins can read it, and the project's developers what programs "
        "and they themselves have asked. Tell those who use it.",
        name, days));
  } else {
    context.note(
        fmt::format("project '{}' keeps no prompts and answers; those that it had are gone", name));
  }
}

void list(Context& context, const ProjectOptions& options) {
  const auto projects = AdminClient(context, options.admin).list("/api/v1/projects", {}, "name");
  if (context.json) return context.print(Json({{"projects", projects}}).dump(2));
  if (projects.empty()) {
    return context.note(
        "No projects. The first key makes 'default'; others: ridge project create "
        "NAME");
  }
  Table table({{"NAME"}, {"WEIGHT", Alignment::right}, {"KEEPS PROMPTS"}, {"CREATED"}});
  for (const Json& project : projects) {
    table.add_row({printable(text_of(project, "name")), text_of(project, "weight"),
                   keeping_of(project), time_of(project, "created_at_ms")});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

// Page by page, as there may be much; calls `take` for each, the newest first.
template <typename Take>
void each_kept(Context& context, const ProjectOptions& options, bool with_content, Take take) {
  AdminClient client(context, options.admin);
  std::string before;
  while (true) {
    const Json page = client.ask("GET", "/api/v1/requests/kept",
                                 {.query = {{"project", options.name},
                                            {"key", options.key},
                                            {"model", options.model},
                                            {"request", options.request},
                                            {"from", options.from},
                                            {"to", options.to},
                                            {"content", with_content ? "true" : ""},
                                            {"before", before}}});
    for (const Json& request : page["data"]) {
      before = text_of(request, "number");
      take(request);
    }
    if (!page.value("has_more", false)) return;
  }
}

void show_kept(Context& context, const ProjectOptions& options) {
  if (context.json) {
    return each_kept(context, options, /*with_content=*/true,
                     [&](const Json& request) { context.print(request.dump()); });
  }
  Table table({{"NUMBER", Alignment::right},
               {"TIME"},
               {"PROJECT"},
               {"KEY"},
               {"MODEL"},
               {"END"},
               {"SIZE", Alignment::right},
               {"REQUEST"}});
  bool is_empty = true;
  each_kept(context, options, /*with_content=*/false, [&](const Json& request) {
    is_empty = false;
    table.add_row({text_of(request, "number"), time_of(request, "at_ms"),
                   printable(text_of(request, "project")), printable(text_of(request, "key")),
                   printable(text_of(request, "model")), text_of(request, "finish_reason"),
                   format_bytes(number_of(request, "bytes")),
                   printable(text_of(request, "request_id"))});
  });
  if (is_empty) {
    return context.note(
        "Nothing is kept. A project keeps prompts and answers where an admin has chosen that: "
        "ridge "
        "project change NAME --keep-prompts 30");
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

void remove(Context& context, const ProjectOptions& options) {
  const Json project = AdminClient(context, options.admin)
                           .ask("DELETE", "/api/v1/projects/{id}", {.argument = options.name});
  if (context.json) return context.print(project.dump());
  context.note(
      fmt::format("project '{}' is gone; servers refuse its keys within a second, and what it used "
                  "stays in 'ridge usage' as '{} (removed {})'",
                  printable(text_of(project, "name")), printable(text_of(project, "name")),
                  text_of(project, "id")));
}

constexpr const char* members_path = "/api/v1/projects/{id}/members";

void list_members(Context& context, const ProjectOptions& options) {
  const Json members = AdminClient(context, options.admin)
                           .ask("GET", members_path, {.argument = options.name})
                           .at("data");
  if (context.json) return context.print(Json({{"members", members}}).dump(2));
  if (members.empty()) {
    return context.note(
        fmt::format("Nobody is a member; owners and admins act in all projects. Add others with: "
                    "ridge project members {} add USER",
                    printable(options.name)));
  }
  Table table({{"USER"}, {"ROLE"}, {"ROLE OF THE USER"}, {"STATE"}, {"ADDED"}});
  for (const Json& member : members) {
    table.add_row({printable(text_of(member, "user")), text_of(member, "role"),
                   text_of(member, "user_role"),
                   member["disabled_at_ms"].is_null() ? "active" : "disabled",
                   time_of(member, "added_at_ms")});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

Json set_member(Context& context, const ProjectOptions& options, const Json& role) {
  return AdminClient(context, options.admin)
      .ask("PUT", members_path,
           {.argument = options.name, .body = {{"user", options.user}, {"role", role}}});
}

void add_member(Context& context, const ProjectOptions& options) {
  const Json member = set_member(context, options, options.role);
  if (context.json) return context.print(member.dump());
  context.note(fmt::format("'{}' is {} of project '{}'", printable(text_of(member, "user")),
                           text_of(member, "role"), printable(options.name)));
}

void remove_member(Context& context, const ProjectOptions& options) {
  const Json member = set_member(context, options, nullptr);
  if (context.json) return context.print(member.dump());
  context.note(fmt::format("'{}' is no member of project '{}' any more; keys there end with it",
                           printable(text_of(member, "user")), printable(options.name)));
}

// `ridge project members NAME`, and behind that `add USER` or `remove USER`.
void add_members_command(CLI::App& command, Context& context,
                         const std::shared_ptr<ProjectOptions>& options) {
  CLI::App* members = command.add_subcommand("members", "Show, add and remove a project's members");
  add_admin_options(*members, options->admin);
  members->add_option("NAME", options->name, "The project's name or id")->required();
  members->require_subcommand(0, 1);
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const ProjectOptions&)) {
    CLI::App* added = add_admin_action(*members, context, options, name, description, action);
    added->add_option("USER", options->user, "Whom")->required();
    return added;
  };
  add("add", "Make a user a member, or give a member another role", add_member)
      ->add_option("--role", options->role, platform::project_role_names())
      ->capture_default_str();
  add("remove", "End what a user may do in the project, and the user's keys there", remove_member);
  members->callback([&context, options, members] {
    if (members->get_subcommands().empty()) list_members(context, *options);
  });
}

}  // namespace

void add_project_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("project", "Create, change, list and remove projects, and their members");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "A project is a team or a program that shares the machine with others: its keys' requests "
      "take turns\n"
      "with other projects' by weight, and share what is computed of prompts that begin alike.\n"
      "\n"
      "  ridge project create search --weight 2             twice the share of a project with "
      "weight 1\n"
      "  ridge project change search --keep-prompts 30      keep what is asked and answered for 30 "
      "days\n"
      "  ridge project change search --keep-prompts off     keep it no more, and remove what is "
      "there\n"
      "  ridge project kept search --json > kept.jsonl      all of it, a request a line\n"
      "  ridge project members search                       who may act for it, beside owners and "
      "admins\n"
      "  ridge project members search add ann --role admin  ann manages its members and keys");
  auto options = std::make_shared<ProjectOptions>();
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const ProjectOptions&)) {
    return add_admin_action(*command, context, options, name, description, action);
  };
  constexpr const char* weight = "Its share against other projects'";
  CLI::App* creates = add("create", "Make a project", create);
  creates->add_option("NAME", options->name, "What it is called")->required();
  creates->add_option("--weight", options->weight, weight)->default_str("1");
  CLI::App* changes =
      add("change", "Change a project's share of the machine, and what it keeps", change);
  changes->add_option("NAME", options->name, "Its name or id")->required();
  changes->add_option("--weight", options->weight, weight);
  changes
      ->add_option(
          "--keep-prompts", options->keep_prompts,
          "Keep prompts and answers for so many days; off also removes those that are there")
      ->type_name("DAYS|off");
  CLI::App* kept =
      add("kept", "Show which prompts and answers are kept, or with --json these", show_kept);
  kept->add_option("NAME", options->name, "Of this project alone");
  kept->add_option("--key", options->key, "Of this key, or who had signed in");
  kept->add_option("--model", options->model, "Of this model");
  kept->add_option("--request", options->request, "Of the request with this id");
  kept->add_option("--from", options->from, "The first day")->type_name("DATE");
  kept->add_option("--to", options->to, "The last day")->type_name("DATE");
  add("list", "Show the projects", list);
  add("remove", "End a project with its keys, files and templates; its usage stays", remove)
      ->add_option("NAME", options->name, "Its name or id")
      ->required();
  add_members_command(*command, context, options);
}

}  // namespace ridge::cli
