#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/identity_access.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ProjectOptions {
  DatabaseChoice database;
  std::string name;
  double weight = 1;
};

Json json_of(const platform::Project& project) {
  return {{"id", project.id},
          {"name", project.name},
          {"weight", project.weight},
          {"created_at_ms", project.created_at_ms}};
}

void create(Context& context, const ProjectOptions& options) {
  const platform::Project project =
      IdentityAccess(context, options.database)
          .identity.create_project(options.name, options.weight, acting_user());
  if (context.json) return context.print(json_of(project).dump());
  context.note(
      fmt::format("project '{0}' is there; 'ridge key create NAME --project {0}' makes a "
                  "key for it",
                  printable(project.name)));
}

void list(Context& context, const ProjectOptions& options) {
  const auto projects = IdentityAccess(context, options.database).identity.projects();
  if (context.json) {
    Json body = {{"projects", Json::array()}};
    for (const platform::Project& project : projects) body["projects"].push_back(json_of(project));
    return context.print(body.dump(2));
  }
  if (projects.empty()) {
    return context.note(
        "No projects. The first key makes 'default'; others: ridge project create "
        "NAME");
  }
  Table table({{"NAME"}, {"WEIGHT", Alignment::right}, {"CREATED"}});
  for (const platform::Project& project : projects) {
    table.add_row({printable(project.name), fmt::format("{}", project.weight),
                   format_time_ms(project.created_at_ms)});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_project_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("project", "Create and list projects");
  command->group(team_group);
  command->require_subcommand(1);
  command->footer(
      "A project is a team or a program that shares the machine with others: its keys' requests "
      "take turns\n"
      "with other projects' by weight, and share what is computed of prompts that begin alike.\n"
      "\n"
      "  ridge project create search --weight 2     twice the share of a project with weight 1");
  auto options = std::make_shared<ProjectOptions>();
  CLI::App* creates = command->add_subcommand("create", "Make a project");
  creates->add_option("NAME", options->name, "What it is called")->required();
  creates->add_option("--weight", options->weight, "Its share against other projects'")
      ->capture_default_str();
  add_database_options(*creates, options->database);
  creates->callback([&context, options] { create(context, *options); });
  CLI::App* lists = command->add_subcommand("list", "Show the projects");
  add_database_options(*lists, options->database);
  lists->callback([&context, options] { list(context, *options); });
}

}  // namespace ridge::cli
