#include <fmt/format.h>

#include <CLI/Error.hpp>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "platform/model_removal.h"
#include "platform/prepared_cache.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

std::string stored_name(Context& context, const platform::ModelReference& reference,
                        const std::string& text) {
  try {
    return platform::stored_name(reference, context.catalog(), context.store());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    // The catalog would be named, in which nobody who removes a model looks.
    throw Error(ErrorCode::not_found,
                fmt::format("'{}' is not in the store; 'ridge list' shows what is", text));
  }
}

void remove_models(Context& context, const std::vector<std::string>& names) {
  nlohmann::ordered_json removed = nlohmann::ordered_json::array();
  for (const std::string& text : names) {
    const auto reference = platform::ModelReference::parse(text);
    if (reference.kind == platform::ReferenceKind::path) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("{} is a file of yours; ridge removes only models that it pulled", text));
    }
    const std::string name = stored_name(context, reference, text);
    const int64_t freed_bytes = platform::remove_model(context.store(), name);
    removed.push_back({{"name", name}, {"freed_bytes", freed_bytes}});
    context.note(fmt::format("removed {}, {} freed", name, format_bytes(freed_bytes)));
  }
  if (context.json) context.print(nlohmann::ordered_json({{"removed", removed}}).dump());
}

// Of the models named, or of all; the models stay.
void remove_prepared(Context& context, const std::vector<std::string>& names) {
  const platform::PreparedCache cache(context.store().prepared());
  int64_t freed_bytes = 0;
  if (names.empty()) freed_bytes = cache.remove_all();
  for (const std::string& text : names) {
    const auto reference = platform::ModelReference::parse(text);
    if (reference.kind == platform::ReferenceKind::path) {
      freed_bytes += cache.remove_titled(std::filesystem::absolute(reference.path).string());
    } else {
      const std::string name = stored_name(context, reference, text);
      freed_bytes += cache.remove({platform::model_digest(context.store().get(name))});
    }
  }
  context.note(fmt::format("removed prepared weights, {} freed", format_bytes(freed_bytes)));
  if (context.json) {
    context.print(nlohmann::ordered_json({{"removed_prepared_bytes", freed_bytes}}).dump());
  }
}

}  // namespace

void add_rm_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("rm", "Remove models from this machine");
  command->group(model_group);
  command->footer(
      "Examples:\n"
      "  ridge rm deepseek-r1:7b                     its files go, unless another model shares "
      "them\n"
      "  ridge rm smollm2:135m deepseek-r1:1.5b      several at once\n"
      "  ridge rm --prepared                         what --prepared-cache has kept, of all "
      "models\n"
      "\n"
      "A model's prepared weights go with it; 'ridge list' shows them.");
  auto names = std::make_shared<std::vector<std::string>>();
  auto prepared = std::make_shared<bool>(false);
  command->add_option("MODEL", *names, "Names as 'ridge list' shows them");
  command->add_flag(
      "--prepared", *prepared,
      "Only the prepared weights: of these models, or of all; a path to a file will do");
  command->callback([&context, names, prepared] {
    if (*prepared) return remove_prepared(context, *names);
    if (names->empty()) throw CLI::RequiredError("MODEL");
    remove_models(context, *names);
  });
}

}  // namespace ridge::cli
