#include <fmt/format.h>
#include <signal.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/pull_progress.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

platform::PullResult pull_one(Context& context, const std::string& text, int attempts) {
  try {
    return pull_with_progress(context, platform::ModelReference::parse(text), attempts);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled) throw;
    throw Error(ErrorCode::cancelled,
                fmt::format("stopped; 'ridge pull {}' goes on from here", text));
  }
}

void pull(Context& context, const std::vector<std::string>& texts, int attempts) {
  // A server that closes its connection is an error to report, not the end of this process.
  signal(SIGPIPE, SIG_IGN);
  const InterruptScope interrupt;
  Json pulled = Json::array();
  for (const std::string& text : texts) {
    const auto [manifest, was_here] = pull_one(context, text, attempts);
    pulled.push_back({{"name", manifest.name},
                      {"was_here", was_here},
                      {"size_bytes", manifest.size_bytes()},
                      {"source", manifest.source},
                      {"path", context.store().open_checked(manifest.name).string()}});
    if (was_here) {
      context.note(fmt::format("{} is here already", manifest.name));
      continue;
    }
    context.note(fmt::format("{}: {} from {}, digest right", manifest.name,
                             format_bytes(manifest.size_bytes()), printable(manifest.source)));
    if (!manifest.license_note.empty()) context.note("Licence: " + manifest.license_note);
  }
  if (context.json)
    context.print(Json({{"pulled", pulled}}).dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

void add_pull_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("pull", "Fetch models into the local store");
  command->group(model_group);
  command->footer(
      "Examples:\n"
      "  ridge pull smollm2:135m                     the small default model\n"
      "  ridge pull deepseek-r1:7b-q8_0              another quantisation than the default\n"
      "  ridge pull hf:organisation/repository:Q4_K_M\n"
      "\n"
      "A download that was stopped goes on where it was. Its digest is checked against the one "
      "that the\n"
      "source states, and the model appears under its name only when it is whole and right.");
  auto names = std::make_shared<std::vector<std::string>>();
  auto attempts = std::make_shared<int>(platform::RetryPolicy{}.attempts);
  command->add_option("MODEL", *names, "Catalog names or hf:organisation/repository[:quantisation]")
      ->required();
  command->add_option("--attempts", *attempts, "Attempts without progress before giving up")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->callback([&context, names, attempts] { pull(context, *names, *attempts); });
}

}  // namespace ridge::cli
