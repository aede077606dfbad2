#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/server_record.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

int64_t now_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// What the server itself says; null where it does not answer.
Json health_of(const ServerRecord& server) {
  const auto body = ask_health(server.url);
  if (!body) return nullptr;
  Json health = Json::parse(*body, nullptr, /*allow_exceptions=*/false);
  return health.is_object() ? health : Json(nullptr);
}

Json describe(const ServerRecord& server) {
  const Json health = health_of(server);
  Json body = {{"pid", server.pid},
               {"url", server.url},
               {"status", health.is_null() ? Json("no answer") : health.value("status", Json("?"))},
               {"started_at_s", server.started_at_s}};
  body["models"] = Json::array();
  if (!health.is_null() && health.contains("models")) {
    body["models"] = health["models"];
  } else {
    for (const std::string& name : server.models) body["models"].push_back({{"name", name}});
  }
  return body;
}

void print_table(Context& context, const Json& servers) {
  if (servers.empty()) {
    context.note("No server runs; 'ridge serve MODEL' starts one.");
    return;
  }
  Table table({{"MODEL"},
               {"URL"},
               {"PID", Alignment::right},
               {"STATUS"},
               {"RUNNING", Alignment::right},
               {"WAITING", Alignment::right},
               {"TOKENS", Alignment::right},
               {"UP", Alignment::right}});
  for (const Json& server : servers) {
    for (const Json& model : server["models"]) {
      const auto figure = [&](const char* key) {
        return model.contains(key) ? fmt::format("{}", model[key].get<int64_t>())
                                   : std::string("?");
      };
      table.add_row({printable(model["name"].get<std::string>()),
                     printable(server["url"].get<std::string>()),
                     fmt::format("{}", server["pid"].get<int64_t>()),
                     printable(server["status"].get<std::string>()), figure("running"),
                     figure("waiting"), figure("generated_tokens_total"),
                     format_duration(now_s() - server["started_at_s"].get<int64_t>())});
    }
  }
  std::string text = table.to_string(context.terminal(), Stream::output);
  if (text.ends_with('\n')) text.pop_back();
  context.print(text);
}

Json show_servers(Context& context) {
  Json servers = Json::array();
  for (const ServerRecord& server : running_servers(context.store().root() / "run")) {
    servers.push_back(describe(server));
  }
  if (context.json) {
    context.print(Json({{"servers", servers}}).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_table(context, servers);
  }
  return servers;
}

bool are_all_ok(const Json& servers) {
  const auto is_ok = [](const Json& server) { return server["status"] == "ok"; };
  return !servers.empty() && std::ranges::all_of(servers, is_ok);
}

}  // namespace

void add_ps_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("ps", "Show the servers that run, and what they do");
  command->group(use_group);
  command->footer(
      "Shows the servers of this store (RIDGE_HOME, --home): address, models, and how many "
      "requests "
      "run and wait.\n"
      "With --json each server's figures are those of its /health.");
  auto checks = std::make_shared<bool>(false);
  command->add_flag("--check", *checks,
                    "Exit with 1 unless one runs and all say that they are ok, as a container's "
                    "health check");
  command->callback([&context, checks] {
    const Json servers = show_servers(context);
    if (*checks && !are_all_ok(servers)) context.exit_code = ExitCode::failure;
  });
}

}  // namespace ridge::cli
