#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

// Empty where the model is whole, else what is wrong with it.
std::string fault_of(Context& context, const std::string& name) {
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  try {
    context.store().verify(name, [&](int64_t done_bytes, int64_t total_bytes) {
      progress.update(name, done_bytes, total_bytes);
      return !InterruptScope::requested();
    });
    return {};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_file) throw;
    return std::string(error.message());
  }
}

void verify(Context& context, std::vector<std::string> texts) {
  std::vector<std::string> names;
  for (const std::string& text : texts) {
    const auto reference = platform::ModelReference::parse(text);
    if (reference.kind == platform::ReferenceKind::path) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{} is a file of yours, of which no digest is known", text));
    }
    names.push_back(platform::stored_name(reference, context.catalog(), context.store()));
  }
  if (texts.empty()) {
    for (const platform::Manifest& manifest : context.store().list())
      names.push_back(manifest.name);
  }
  const InterruptScope interrupt;
  Json results = Json::array();
  std::string faults;
  for (const std::string& name : names) {
    const std::string fault = fault_of(context, name);
    results.push_back({{"name", name}, {"ok", fault.empty()}});
    if (!fault.empty()) {
      results.back()["fault"] = fault;
      faults += (faults.empty() ? "" : "; ") + fault;
    } else {
      context.note(fmt::format("{}: ok", name));
    }
  }
  if (context.json) {
    context.print(
        Json({{"verified", results}}).dump(2, ' ', false, Json::error_handler_t::replace));
    if (!faults.empty()) context.exit_code = ExitCode::failure;
    return;
  }
  if (!faults.empty()) throw Error(ErrorCode::invalid_file, faults);
}

}  // namespace

void add_verify_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("verify", "Check the digests of models on this machine");
  command->group(model_group);
  command->footer(
      "Reads every byte again. A file that no longer has its digest is moved to the quarantine "
      "folder\n"
      "of the store and is not used; 'ridge pull' fetches it again. Exit code 1 where any was "
      "damaged.");
  auto names = std::make_shared<std::vector<std::string>>();
  command->add_option("MODEL", *names, "All models where none is named");
  command->callback([&context, names] { verify(context, *names); });
}

}  // namespace ridge::cli
