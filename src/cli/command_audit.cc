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
  std::string text, action, from, to;
};

Json newest(AdminClient& client, const AuditOptions& options) {
  Json events = Json::array();
  std::string before;
  while (std::cmp_less(events.size(), options.most)) {
    const int wanted = std::min(options.most - static_cast<int>(events.size()), most_of_page);
    const Json page = client.ask("GET", "/api/v1/audit",
                                 {.query = {{"limit", std::to_string(wanted)},
                                            {"before", before},
                                            {"q", options.text},
                                            {"action", options.action},
                                            {"from", options.from},
                                            {"to", options.to}}})["data"];
    for (const Json& event : page) events.push_back(event);
    if (std::cmp_less(page.size(), wanted)) break;
    before = text_of(page.back(), "number");
  }
  return events;
}

void show(Context& context, const AuditOptions& options) {
  AdminClient client(context, options.admin);
  Json events = newest(client, options);
  if (context.json) return context.print(Json({{"events", std::move(events)}}).dump(2));
  if (events.empty()) return context.note("There is no such change.");
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
  command->add_option("--find", options->text, "Only those with this text in who, what, of or details");
  command->add_option("--action", options->action, "Only those of a kind, as key.create");
  command->add_option("--from", options->from, "From this day on, in UTC")->type_name("DAY");
  command->add_option("--to", options->to, "Up to this day")->type_name("DAY");
  add_admin_options(*command, options->admin);
  command->callback([&context, options] { show(context, *options); });
}

}  // namespace ridge::cli
