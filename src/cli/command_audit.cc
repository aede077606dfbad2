#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/admin_client.h"
#include "cli/commands.h"

namespace ridge::cli {
namespace {

using api::Json;

constexpr int most_of_page = 1'000;

struct AuditOptions {
  AdminChoice admin;
  int most = 50;
};

Json newest(AdminClient& client, int most) {
  Json events = Json::array();
  std::string before;
  while (std::cmp_less(events.size(), most)) {
    const int wanted = std::min(most - static_cast<int>(events.size()), most_of_page);
    const Json page =
        client.ask("GET", "/api/v1/audit",
                   {.query = {{"limit", std::to_string(wanted)}, {"before", before}}})["data"];
    for (const Json& event : page) events.push_back(event);
    if (std::cmp_less(page.size(), wanted)) break;
    before = text_of(page.back(), "number");
  }
  return events;
}

void show(Context& context, const AuditOptions& options) {
  AdminClient client(context, options.admin);
  Json events = newest(client, options.most);
  if (context.json) return context.print(Json({{"events", std::move(events)}}).dump(2));
  if (events.empty()) return context.note("Nothing was changed yet.");
  Table table({{"TIME"}, {"WHO"}, {"WHAT"}, {"OF"}, {"DETAILS"}});
  for (const Json& event : events) {
    table.add_row({time_of(event, "at_ms"), printable(text_of(event, "actor")),
                   printable(text_of(event, "action")), printable(text_of(event, "subject")),
                   printable(text_of(event, "details"))});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_audit_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("audit", "Show who changed projects, users and keys, and when");
  command->group(team_group);
  command->footer("The newest change stands first. Nothing removes a line.");
  auto options = std::make_shared<AuditOptions>();
  command->add_option("-n,--limit", options->most, "How many")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  add_admin_options(*command, options->admin);
  command->callback([&context, options] { show(context, *options); });
}

}  // namespace ridge::cli
