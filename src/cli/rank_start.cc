#include "cli/rank_start.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/cpu_count.h"
#include "base/error.h"
#include "engine/ranked_engine.h"
#include "format/model_folder.h"
#include "model/rank_share.h"

namespace ridge::cli {

namespace {

void check_ranks(const std::vector<Choice>& models, const ModelLoading& loading,
                 const RankChoice& choice) {
  const auto refuse = [](bool holds, const char* message) {
    if (holds) throw Error(ErrorCode::invalid_argument, message, "ranks");
  };
  refuse(models.size() != 1, "--ranks goes with one model");
  refuse(loading.is_on_demand(), "--ranks goes with a model that is loaded at the start, not with "
                                 "--model-memory-mib or --sleep-after-s");
  refuse(!models.front().adapters.empty(), "--ranks does not go with --lora yet");
  refuse(loading.prepared_cache, "--ranks does not go with --prepared-cache yet");
  refuse(loading.engine.expert_bytes.has_value(),
         "--ranks does not go with --expert-memory-mib: ranks page no experts");
  refuse(loading.engine.pin_threads == backend::Toggle::on,
         "--ranks does not go with --pin-threads on: all ranks would take the same processors");
  const std::string& device = loading.engine.device;
  refuse(device != "auto" && device != "cpu" && device != "reference",
         "--ranks goes with --device cpu; Ascend's devices compute alone");
  refuse(static_cast<int>(choice.hosts.size()) > choice.ranks,
         "--hosts names more machines than there are ranks");
  const model::ModelConfig config =
      model::read_config(format::open_model(models.front().model.path));
  const model::RankShare share(config, {0, choice.ranks});  // throws where it cannot be shared
}

}  // namespace

std::shared_ptr<RankProcesses> start_ranks(Context& context, const std::vector<Choice>& models,
                                           const ModelLoading& loading, const RankChoice& choice,
                                           const std::string& precision,
                                           const std::string& log_level) {
  check_ranks(models, loading, choice);
  const engine::EngineOptions& engine = loading.engine;
  const int hosts = std::max(1, static_cast<int>(choice.hosts.size()));
  const int together = (choice.ranks + hosts - 1) / hosts;  // ranks of a machine
  const int cpus = available_cpus();
  const int threads = engine.threads > 0 ? engine.threads : std::max(1, cpus / together);
  RankProcesses::Plan plan{.ranks = choice.ranks, .hosts = choice.hosts};
  std::vector<std::string>& words = plan.arguments;
  words = {"--device",    engine.device, "--threads",  std::to_string(threads), "--precision",
           precision,     "--log-level", log_level,    "--pin-threads",         "off",
           "--huge-pages"};
  words.emplace_back(engine.huge_pages == backend::Toggle::on    ? "on"
                     : engine.huge_pages == backend::Toggle::off ? "off"
                                                                 : "auto");
  if (!engine.isa.empty()) words.insert(words.end(), {"--cpu-isa", engine.isa});
  if (engine::wants_guessing_layer(engine)) words.emplace_back("--guesses");
  if (threads * together > cpus) words.emplace_back("--crowded");
  words.push_back(std::filesystem::absolute(models.front().model.path).string());
  context.note(fmt::format("starting {} ranks of {} threads each{}", choice.ranks, threads,
                           hosts > 1 ? fmt::format(" on {} machines", hosts) : ""));
  return std::make_shared<RankProcesses>(plan);
}

}  // namespace ridge::cli
