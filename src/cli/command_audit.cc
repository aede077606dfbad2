#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/identity_access.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct AuditOptions {
  DatabaseChoice database;
  int most = 50;
};

void show(Context& context, const AuditOptions& options) {
  const auto events = IdentityAccess(context, options.database).identity.audit_events(options.most);
  if (context.json) {
    Json body = {{"events", Json::array()}};
    for (const platform::AuditEvent& event : events) {
      body["events"].push_back({{"number", event.number},
                                {"at_ms", event.at_ms},
                                {"actor", event.actor},
                                {"action", event.action},
                                {"subject", event.subject},
                                {"details", Json::parse(event.details, nullptr, false)}});
    }
    return context.print(body.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  if (events.empty()) return context.note("Nothing was changed yet.");
  Table table({{"TIME"}, {"WHO"}, {"WHAT"}, {"OF"}, {"DETAILS"}});
  for (const platform::AuditEvent& event : events) {
    table.add_row({format_time_ms(event.at_ms), printable(event.actor), printable(event.action),
                   printable(event.subject), printable(event.details)});
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
  add_database_options(*command, options->database);
  command->callback([&context, options] { show(context, *options); });
}

}  // namespace ridge::cli
