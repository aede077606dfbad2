#include "cli/model_loading.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "api/model_list.h"
#include "base/error.h"
#include "base/log.h"
#include "base/model_path.h"
#include "cli/commands.h"
#include "cli/lora_option.h"
#include "cli/machine.h"
#include "cli/prepared_weights.h"
#include "cli/progress.h"
#include "engine/ranked_engine.h"
#include "platform/pull.h"
#include "text/tool_style.h"

namespace ridge::cli {
namespace {

// "smollm2:135m" as it is; for a path, the file's name without folder and ending, or the folder's.
std::string served_name(const platform::ModelReference& reference,
                        const platform::ResolvedModel& resolved) {
  if (reference.kind != platform::ReferenceKind::path) return resolved.name;
  return is_model_folder(resolved.path) ? folder_name(resolved.path)
                                        : resolved.path.stem().string();
}

int64_t modified_at_s(const std::filesystem::path& path) {
  const auto time = std::chrono::file_clock::to_sys(std::filesystem::last_write_time(path));
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

std::vector<std::string> names_of(const std::vector<Choice>& choices) {
  std::vector<std::string> names;
  for (const Choice& choice : choices) names.push_back(choice.name);
  return names;
}

// The model, and behind it its adapters.
void add_served(std::vector<api::ServedModel>& models, const Choice& choice,
                std::shared_ptr<engine::Engine> engine, const std::string& tool_style) {
  api::ServedModel model =
      api::serve_model(choice.name, std::move(engine), modified_at_s(choice.model.path),
                       {"/proc/self/exe", grammar_checker_command});
  if (const auto style = text::tool_style_named(tool_style); style && !model.is_harmony()) {
    if (*style == text::ToolStyle::harmony) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--tool-style harmony: {} does not answer in messages on channels; "
                              "'auto' finds how it calls tools",
                              choice.name));
    }
    model.tool_style = *style;
  }
  // A model of several files is known by its first.
  if (!choice.model.digests.empty()) model.digest = choice.model.digests.front().to_string();
  models.push_back(model);
  for (size_t i = 0; i < choice.adapters.size(); ++i) {
    models.push_back(
        api::serve_adapter(model, static_cast<int>(i), modified_at_s(choice.adapters[i].path)));
  }
}

std::unique_ptr<engine::Engine> start_engine(Context& context, const Choice& choice,
                                             const ModelLoading& loading) {
  engine::EngineOptions options = loading.engine;
  options.prepared = prepared_store(context, choice.model, loading.prepared_cache, options.threads,
                                    NoteKept::at_once);
  options.adapters = choice.adapters;
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  options.load_progress = [&](int64_t done_bytes, int64_t total_bytes) {
    progress.update(printable(choice.name), done_bytes, total_bytes);
  };
  if (loading.ranks) {
    return engine::start_over_ranks(choice.model.path, options, loading.ranks);
  }
  return engine::Engine::start(choice.model.path, options);
}

void declare(Context& context, const ModelLoading& options, engine::EngineOptions engine,
             const Choice& choice, engine::Residency& residency,
             std::vector<api::ServedModel>& models) {
  const bool is_pinned = std::ranges::find(options.pinned, choice.name) != options.pinned.end();
  engine.prepared = prepared_store(context, choice.model, options.prepared_cache, engine.threads,
                                   NoteKept::at_once);
  engine.adapters = choice.adapters;
  add_served(models, choice,
             engine::Engine::on_demand(choice.model.path, engine, residency, is_pinned),
             options.tool_style);
}

// A model that was pulled while the server runs.
std::vector<api::ServedModel> declare_pulled(Context& context, const ModelLoading& options,
                                             const platform::Manifest& manifest,
                                             engine::Residency& residency) {
  const Choice choice{manifest.name,
                      platform::resolve(platform::ModelReference::parse(manifest.name),
                                        context.catalog(), context.store()),
                      {}};
  engine::EngineOptions engine = options.engine;
  engine.draft_model.clear();  // which goes with the model that was named
  std::vector<api::ServedModel> models;
  declare(context, options, engine, choice, residency, models);
  return models;
}

// The names of models that were pulled through a server of this store, a line each. It only grows;
// what is no longer in the store is not looked at.
std::filesystem::path pulled_list(Context& context) { return context.store().root() / "served"; }

std::vector<std::string> pulled_names(Context& context) {
  std::ifstream file(pulled_list(context));
  std::vector<std::string> names;
  for (std::string name; std::getline(file, name);) names.push_back(name);
  return names;
}

void remember_pulled(Context& context, const std::string& name) {
  const auto names = pulled_names(context);
  if (std::ranges::find(names, name) != names.end()) return;
  std::ofstream file(pulled_list(context), std::ios::app);  // other servers may add theirs
  file << name + "\n" << std::flush;
  if (file) return;
  log::warning("{} will not be served after a restart: cannot write {}", name,
               pulled_list(context).string());
}

}  // namespace

std::vector<Choice> find_models(Context& context, const std::vector<std::string>& texts) {
  if (texts.empty()) {
    throw Error(
        ErrorCode::invalid_argument,
        "no model was named; give one, as in 'ridge serve smollm2:135m', or 'models' in --config");
  }
  std::vector<Choice> choices;
  for (const std::string& text : texts) {
    const auto reference = platform::ModelReference::parse(text);
    const auto resolved = platform::resolve(reference, context.catalog(), context.store());
    const std::string name = served_name(reference, resolved);
    const auto same = [&](const Choice& choice) { return choice.name == name; };
    if (std::any_of(choices.begin(), choices.end(), same)) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("two models would be served as '{}'", name));
    }
    choices.push_back({name, resolved, {}});
  }
  return choices;
}

void add_adapters(std::vector<Choice>& choices, const std::vector<std::string>& texts) {
  std::vector<LoraChoice> adapters;
  for (const std::string& text : texts) adapters.push_back(parse_named_lora(text));
  settle_bases(adapters, names_of(choices));
  for (const LoraChoice& adapter : adapters) {
    std::ranges::find(choices, adapter.base, &Choice::name)
        ->adapters.push_back({adapter.name, adapter.path, adapter.scale});
  }
}

std::vector<api::ServedModel> load_now(Context& context, const std::vector<Choice>& choices,
                                       const ModelLoading& options) {
  std::vector<api::ServedModel> models;
  for (const Choice& choice : choices) {
    context.note(fmt::format("loading {} ...", printable(choice.name)));
    std::shared_ptr<engine::Engine> engine = start_engine(context, choice, options);
    const engine::ModelInfo& info = engine->model_info();
    context.note(
        fmt::format("loaded {} in {:.1f} s: {}, {:.2f} B parameters, {}, context {}",
                    printable(choice.name), info.load_ms / 1000, printable(info.architecture),
                    static_cast<double>(info.parameters) / 1e9,
                    format_bytes(static_cast<int64_t>(info.file_bytes)), info.context_tokens));
    for (const engine::AdapterInfo& adapter : info.adapters) {
      context.note(fmt::format("with the adapter {}, {}", printable(adapter.name),
                               format_bytes(static_cast<int64_t>(adapter.bytes))));
    }
    add_served(models, choice, std::move(engine), options.tool_style);
  }
  return models;
}

std::vector<api::ServedModel> load_on_demand(Context& context, const std::vector<Choice>& choices,
                                             const ModelLoading& options,
                                             engine::Residency& residency) {
  for (const std::string& name : options.pinned) {
    if (std::ranges::find(choices, name, &Choice::name) == choices.end()) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("--pin names '{}', which is none of the models that are served", name));
    }
  }
  std::vector<api::ServedModel> models;
  for (const Choice& choice : choices) {
    declare(context, options, options.engine, choice, residency, models);
  }
  return models;
}

std::vector<api::ServedModel> load_pulled(Context& context, const ModelLoading& options,
                                          const std::vector<api::ServedModel>& served,
                                          engine::Residency& residency) {
  std::vector<api::ServedModel> models;
  for (const std::string& name : pulled_names(context)) {
    if (api::serves(served, name) || api::serves(models, name)) continue;
    try {
      const auto manifest = context.store().find(name);
      if (!manifest) continue;
      for (api::ServedModel& model : declare_pulled(context, options, *manifest, residency)) {
        model.is_added = true;
        models.push_back(std::move(model));
      }
    } catch (const Error& error) {
      log::warning("{} is not served any more: {}", name, error.message());
    }
  }
  return models;
}

uint64_t residency_bytes(const ModelLoading& options) {
  constexpr double share = 0.9;  // the machine needs the rest
  if (options.is_on_demand()) return static_cast<uint64_t>(options.model_memory_mib) << 20;
  const auto available = static_cast<double>(look_at_machine().memory_available_bytes);
  return std::max(uint64_t{1}, static_cast<uint64_t>(available * share));  // 0 would be any
}

std::shared_ptr<const server::ModelSupply> model_supply(Context& context,
                                                        const ModelLoading& options,
                                                        engine::Residency& residency) {
  platform::Store& store = context.store();
  const platform::Catalog& catalog = context.catalog();
  return std::make_shared<const server::ModelSupply>(
      server::ModelSupply{.catalog = catalog,
                          .store = store,
                          .room = [&context] { return room_of(context, look_at_machine()); },
                          .pull =
                              [&](const platform::ModelReference& reference,
                                  const platform::DownloadOptions& download) {
                                return platform::pull(store, catalog, reference, download);
                              },
                          .declare =
                              [&](const platform::Manifest& manifest) {
                                auto models = declare_pulled(context, options, manifest, residency);
                                remember_pulled(context, manifest.name);
                                return models;
                              }});
}

}  // namespace ridge::cli
