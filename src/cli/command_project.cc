#include <fmt/format.h>

#include <memory>

#include "cli/admin_client.h"
#include "cli/commands.h"

namespace ridge::cli {
namespace {

using api::Json;

struct ProjectOptions {
  AdminChoice admin;
  std::string name;
  double weight = 1;
};

void create(Context& context, const ProjectOptions& options) {
  const Json project = AdminClient(context, options.admin)
                           .ask("POST", "/api/v1/projects",
                                {.body = {{"name", options.name}, {"weight", options.weight}}});
  if (context.json) return context.print(project.dump());
  context.note(
      fmt::format("project '{0}' is there; 'ridge key create NAME --project {0}' makes a "
                  "key for it",
                  printable(options.name)));
}

void change(Context& context, const ProjectOptions& options) {
  const Json project = AdminClient(context, options.admin)
                           .ask("PATCH", "/api/v1/projects/{id}",
                                {.argument = options.name, .body = {{"weight", options.weight}}});
  if (context.json) return context.print(project.dump());
  context.note(fmt::format("project '{}' has the weight {} now",
                           printable(text_of(project, "name")), text_of(project, "weight")));
}

void list(Context& context, const ProjectOptions& options) {
  const auto projects = AdminClient(context, options.admin).list("/api/v1/projects", {}, "name");
  if (context.json) return context.print(Json({{"projects", projects}}).dump(2));
  if (projects.empty()) {
    return context.note(
        "No projects. The first key makes 'default'; others: ridge project create "
        "NAME");
  }
  Table table({{"NAME"}, {"WEIGHT", Alignment::right}, {"CREATED"}});
  for (const Json& project : projects) {
    table.add_row({printable(text_of(project, "name")), text_of(project, "weight"),
                   time_of(project, "created_at_ms")});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_project_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("project", "Create, change and list projects");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "A project is a team or a program that shares the machine with others: its keys' requests "
      "take turns\n"
      "with other projects' by weight, and share what is computed of prompts that begin alike.\n"
      "\n"
      "  ridge project create search --weight 2     twice the share of a project with weight 1");
  auto options = std::make_shared<ProjectOptions>();
  const auto add = [&](const char* name, const char* description,
                       void (*action)(Context&, const ProjectOptions&)) {
    return add_admin_action(*command, context, options, name, description, action);
  };
  constexpr const char* weight = "Its share against other projects'";
  CLI::App* creates = add("create", "Make a project", create);
  creates->add_option("NAME", options->name, "What it is called")->required();
  creates->add_option("--weight", options->weight, weight)->capture_default_str();
  CLI::App* changes = add("change", "Change a project's share of the machine", change);
  changes->add_option("NAME", options->name, "Its name or id")->required();
  changes->add_option("--weight", options->weight, weight)->required();
  add("list", "Show the projects", list);
}

}  // namespace ridge::cli
