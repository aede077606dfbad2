#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/machine.h"
#include "platform/prepared_cache.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const platform::Manifest& manifest) {
  Json digests = Json::array();
  for (const platform::StoredFile& file : manifest.files)
    digests.push_back(file.digest.to_string());
  return {{"name", manifest.name},
          {"title", manifest.title},
          {"quantization", manifest.quantization},
          {"size_bytes", manifest.size_bytes()},
          {"license", manifest.license},
          {"source", manifest.source},
          {"pulled_at_s", manifest.pulled_at_s},
          {"sha256", digests}};
}

platform::Fit fit_of(Context& context, const platform::CatalogChoice& choice,
                     const platform::MachineRoom& room) {
  const bool is_here = context.store().find(choice.name()).has_value();
  return platform::fit_of(choice.quantization->size_bytes, is_here, room).fit;
}

Json to_json(Context& context, const platform::CatalogModel& model,
             const platform::MachineRoom& room) {
  Json quantizations = Json::array();
  for (const platform::CatalogQuantization& each : model.quantizations) {
    const platform::CatalogChoice choice{&model, &each};
    quantizations.push_back({{"name", each.name},
                             {"model", choice.name()},
                             {"size_bytes", each.size_bytes},
                             {"size_is_exact", each.size_is_exact},
                             {"fits", platform::name(fit_of(context, choice, room))}});
  }
  Json sources = Json::array();
  for (const platform::CatalogSource& source : model.sources) sources.push_back(source.to_string());
  return {{"name", model.name},
          {"title", model.title},
          {"parameters", model.parameters},
          {"context_tokens", model.context_tokens},
          {"license", model.license},
          {"license_note", model.license_note},
          {"default_quantization", model.default_quantization},
          {"quantizations", quantizations},
          {"sources", sources}};
}

std::string format_time(int64_t time_s) {
  const std::time_t time = time_s;
  std::tm local{};
  localtime_r(&time, &local);
  return fmt::format("{:%Y-%m-%d %H:%M}", local);
}

std::vector<platform::PreparedCache::Entry> prepared_entries(Context& context) {
  try {
    return platform::PreparedCache(context.store().prepared()).list();
  } catch (const platform::DiskError&) {
    return {};  // a store that may only be read, and has none
  }
}

Json to_json(const platform::PreparedCache::Entry& entry) {
  Json json = {{"file", entry.file_name}, {"size_bytes", entry.size_bytes}};
  if (entry.title) {
    json["model"] = entry.title->title;
    json["layout"] = entry.title->identity.layout;
    json["sha256"] = entry.title->identity.model.to_string();
  }
  return json;
}

void print_json(Context& context, bool all) {
  Json models = Json::array();
  for (const platform::Manifest& manifest : context.store().list())
    models.push_back(to_json(manifest));
  Json body = {{"models", models}, {"prepared", Json::array()}};
  for (const platform::PreparedCache::Entry& entry : prepared_entries(context)) {
    body["prepared"].push_back(to_json(entry));
  }
  if (all) {
    body["catalog"] = Json::array();
    const platform::MachineRoom room = room_of(context, look_at_machine());
    for (const platform::CatalogModel& model : context.catalog().models()) {
      body["catalog"].push_back(to_json(context, model, room));
    }
  }
  context.print(body.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_stored(Context& context) {
  Table table({{"NAME"}, {"SIZE", Alignment::right}, {"QUANTISATION"}, {"MODIFIED"}});
  const auto manifests = context.store().list();
  if (manifests.empty()) {
    context.note("No models yet. Fetch one with: ridge pull smollm2:135m");
    return;
  }
  for (const platform::Manifest& manifest : manifests) {
    table.add_row({manifest.name, format_bytes(manifest.size_bytes()),
                   printable(manifest.quantization), format_time(manifest.pulled_at_s)});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

// Nothing where there are none: most people keep none.
void print_prepared(Context& context) {
  Table table({{"PREPARED WEIGHTS OF"}, {"SIZE", Alignment::right}, {"LAYOUT"}});
  const auto entries = prepared_entries(context);
  for (const platform::PreparedCache::Entry& entry : entries) {
    table.add_row({entry.title ? printable(entry.title->title) : "(damaged or unfinished)",
                   format_bytes(entry.size_bytes),
                   entry.title ? printable(entry.title->identity.layout) : ""});
  }
  if (!entries.empty()) fmt::print("\n{}", table.to_string(context.terminal(), Stream::output));
}

void print_catalog(Context& context) {
  const platform::MachineRoom room = room_of(context, look_at_machine());
  Table table({{"CAN BE PULLED"},
               {"SIZE", Alignment::right},
               {"FITS"},
               {"QUANTISATIONS"},
               {"LICENCE"}});
  for (const platform::CatalogModel& model : context.catalog().models()) {
    std::string quantizations = model.default_quantization;
    for (const platform::CatalogQuantization& each : model.quantizations) {
      if (each.name != model.default_quantization) quantizations += " " + each.name;
    }
    const auto* preferred = model.find(model.default_quantization);
    table.add_row({model.name,
                   (preferred->size_is_exact ? "" : "~") + format_bytes(preferred->size_bytes),
                   std::string(platform::name(fit_of(context, {&model, preferred}, room))),
                   quantizations, model.license});
  }
  fmt::print("{}", table.to_string(context.terminal(), Stream::output));
}

}  // namespace

void add_list_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("list", "List the models on this machine");
  command->alias("ls");
  command->group(model_group);
  command->footer(
      "With --all, sizes of the catalog are those of the first quantisation named; '~' marks an\n"
      "estimate. Another quantisation is written after the name: deepseek-r1:7b-q8_0.");
  auto all = std::make_shared<bool>(false);
  command->add_flag("-a,--all", *all, "Also what the catalog offers");
  command->callback([&context, all] {
    if (context.json) return print_json(context, *all);
    print_stored(context);
    print_prepared(context);
    if (!*all) return;
    fmt::print("\n");
    print_catalog(context);
  });
}

}  // namespace ridge::cli
