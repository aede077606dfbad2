#include "engine/engine.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "backend/own_memory.h"
#include "base/log.h"
#include "base/machine_memory.h"
#include "engine/loaded_model.h"
#include "engine/memory_budget.h"
#include "engine/rank_runner.h"
#include "engine/ranked_engine.h"
#include "engine/resident_engine.h"
#include "engine/serving_engine.h"
#include "format/model_folder.h"
#include "format/quantization_recipe.h"

namespace ridge::engine {

// One guesser is enough beside the suffix.
bool wants_guessing_layer(const EngineOptions& options) {
  return options.speculation && options.mtp && options.draft_model.empty();
}

namespace {

// What the engine's parts refer to.
struct Owned {
  SteadyClock clock;
  std::unique_ptr<LoadedModel> loaded;
  std::unique_ptr<LoadedModel> draft;  // may be null
  std::shared_ptr<RankLink> ranks;     // likewise
};

void check_options(const EngineOptions& options) {
  const auto require = [](bool holds, const char* message) {
    if (!holds) throw Error(ErrorCode::invalid_argument, message);
  };
  require(options.max_sequences >= 1 && options.max_sequences <= 4096,
          "max_sequences must be from 1 to 4096");
  require(options.max_queued >= 1, "max_queued must be at least 1");
  require(options.step_tokens >= 1 && options.step_tokens <= 65536,
          "step_tokens must be from 1 to 65536");
  require(options.context_tokens == 0 || options.context_tokens >= 2,
          "context_tokens must be 0 (the model's own) or at least 2: one for the prompt, one for "
          "the answer");
}

uint64_t free_memory_bytes(const backend::Device& device) {
  const auto* own = dynamic_cast<const backend::OwnMemory*>(&device);
  return own == nullptr ? available_memory_bytes() : own->free_memory_bytes();
}

// Of blocks that are spilled to memory, not to a folder.
uint64_t spill_bytes_in_memory(const EngineOptions& options) {
  return options.kv_spill_folder.empty() ? options.kv_spill_bytes : 0;
}

uint64_t block_bytes(const backend::KvCacheLayout& layout) {
  return layout.bytes_per_token() * static_cast<uint64_t>(layout.block_tokens);
}

// layout: of all that caches it, of no blocks yet. draft: may be null.
RunnerLimits runner_limits(const model::ModelConfig& config, const backend::KvCacheLayout& layout,
                           uint64_t free_bytes, const LoadedModel* draft,
                           const EngineOptions& options) {
  RunnerLimits limits;
  limits.kv_dtype = layout.dtype;
  limits.batch_invariant = options.batch_invariant;
  limits.sequences = options.max_sequences;
  // Each decoding sequence has a row in every step.
  limits.tokens = std::max(options.step_tokens, options.max_sequences);
  // Guesses have rows of logits of their own, and so have prompts that are scored; as many each as
  // cost no more than 64 MB.
  const int rows = std::min({64, (16 << 20) / config.vocab_size, limits.tokens});
  const int guesses = options.speculation ? rows : 0;
  limits.scoring_outputs = rows;
  limits.outputs = options.max_sequences + guesses + limits.scoring_outputs;
  KvRequest request = {.context_tokens = served_context_tokens(config, options.context_tokens),
                       .context_fixed = options.context_tokens > 0,
                       .max_sequences = options.max_sequences,
                       .cache_bytes = options.kv_cache_bytes};
  if (draft != nullptr) {
    request.draft_block_bytes =
        block_bytes(draft->model().kv_layout(/*blocks=*/0, limits.block_tokens, limits.kv_dtype));
  }
  const KvPlan plan = plan_kv_cache(
      layout, request, free_bytes - std::min(free_bytes, spill_bytes_in_memory(options)));
  limits.context_tokens = plan.context_tokens;
  limits.blocks = plan.blocks;
  log::debug("KV cache: {} blocks of {} tokens in {}, {:.0f} MB; context {} tokens", plan.blocks,
             limits.block_tokens, name(limits.kv_dtype), static_cast<double>(plan.bytes) / 1e6,
             plan.context_tokens);
  return limits;
}

LoadOptions load_options_of(const EngineOptions& options) {
  LoadOptions load_options;
  load_options.device = options.device;
  load_options.device_options.threads = options.threads;
  load_options.device_options.isa = options.isa;
  load_options.device_options.pin_threads = options.pin_threads;
  load_options.device_options.huge_pages = options.huge_pages;
  load_options.mixed_precision = options.mixed_precision;
  load_options.guesses = wants_guessing_layer(options);
  load_options.progress = options.load_progress;
  return load_options;
}

void check_same_vocabulary(const text::Tokenizer& model, const text::Tokenizer& draft) {
  bool is_same = model.vocab_size() == draft.vocab_size();
  for (int32_t id = 0; is_same && id < model.vocab_size(); ++id) {
    is_same = model.token_bytes(id) == draft.token_bytes(id);
  }
  if (!is_same) {
    throw Error(
        ErrorCode::invalid_argument,
        "the draft model has another vocabulary than the model; both must have the same tokens",
        "draft_model");
  }
}

RunnerLimits draft_limits(const RunnerLimits& limits) {
  RunnerLimits draft = limits;
  draft.outputs = limits.sequences;
  draft.scoring_outputs = 0;
  draft.blocks = static_cast<int>(draft_blocks(static_cast<uint64_t>(limits.blocks),
                                               static_cast<uint64_t>(blocks_per_sequence(limits))));
  return draft;
}

// Null where none is wanted.
std::unique_ptr<LoadedModel> load_draft(const EngineOptions& options,
                                        const text::Tokenizer& tokenizer) {
  if (options.draft_model.empty()) return nullptr;
  auto draft = LoadedModel::load(options.draft_model, load_options_of(options));
  check_same_vocabulary(tokenizer, *draft->tokenizer());
  return draft;
}

std::unique_ptr<StepRunner> draft_runner(const LoadedModel* draft, const RunnerLimits& limits) {
  if (draft == nullptr) return nullptr;
  served_context_tokens(draft->model().config(), limits.context_tokens);
  return create_step_runner(draft->device(), draft->model(), draft_limits(limits));
}

StepLoopOptions loop_options(const EngineOptions& options) {
  return {.prefix_cache = options.prefix_cache,
          .speculation = options.speculation,
          .itl_target_ms = options.itl_target_ms,
          .spill = {options.kv_spill_bytes, options.kv_spill_folder}};
}

// The cache that ranks share: what they have together, of KV heads that several cache and of latents,
// which all do, more than one device would. As many layers more say the same.
backend::KvCacheLayout layout_of_ranks(backend::KvCacheLayout whole,
                                       std::span<const RankReport> reports, DType kv_dtype) {
  uint64_t bytes = 0;
  for (const RankReport& report : reports) bytes += report.cache_token_bytes;
  whole.layers *= static_cast<int>(bytes / whole.bytes_per_token());
  whole.dtype = kv_dtype;
  return whole;
}

// Of the machines' memory, as much as each rank can have where each has as much.
uint64_t free_memory_of_ranks(std::span<const RankReport> reports) {
  uint64_t least = std::numeric_limits<uint64_t>::max();
  for (const RankReport& report : reports) {
    const auto together = std::ranges::count(reports, report.host, &RankReport::host);
    least = std::min(least, report.available_bytes / static_cast<uint64_t>(together));
  }
  return least * reports.size();
}

// Of a model's weights in memory: those of a folder may be wider there than in its files.
uint64_t weight_bytes(const format::GgufFile& file) {
  return std::max(file.file_bytes(), file.tensor_bytes());
}

// Likewise, with experts in the memory that was given for them.
uint64_t weight_bytes(const format::GgufFile& file, const model::ModelConfig& config,
                      const EngineOptions& options) {
  uint64_t bytes = weight_bytes(file);
  if (!config.experts || !options.expert_bytes) return bytes;
  const uint64_t expert_bytes = file.expert_bytes();
  if (*options.expert_bytes < expert_bytes) bytes -= expert_bytes - *options.expert_bytes;
  return bytes;
}

// Where no model has been loaded. What LoadedModel::kv_dtype chooses takes as many bytes.
DType planned_kv_dtype(const EngineOptions& options) { return options.kv_dtype.value_or(DType::f16); }

// Weights and cache of the draft model beside a cache of so many blocks; 0 without one. Throws as
// format::open_model.
uint64_t draft_bytes(const EngineOptions& options, uint64_t blocks) {
  if (options.draft_model.empty()) return 0;
  const format::GgufFile file = format::open_model(options.draft_model);
  const auto layout = model::kv_layout_of(model::read_config(file), /*guesses=*/false, /*blocks=*/0,
                                          RunnerLimits().block_tokens, planned_kv_dtype(options));
  const int context_blocks =
      kvcache::BlockTable::blocks_for(options.context_tokens, layout.block_tokens);
  return weight_bytes(file) +
         block_bytes(layout) * draft_blocks(blocks, static_cast<uint64_t>(context_blocks));
}

std::string quantization_of(const format::GgufFile& file) {
  const auto file_type = file.metadata().optional_uint32("general.file_type");
  for (const format::QuantizationRecipe& recipe : format::quantization_recipes()) {
    if (file_type == recipe.file_type) return std::string(recipe.name);
  }
  return "";
}

ModelInfo describe(const format::GgufFile& file, const text::Tokenizer& tokenizer,
                   const std::filesystem::path& path, int context_tokens) {
  const auto name = file.metadata().optional_string("general.name");
  const model::ModelConfig config = model::read_config(file);
  return {.architecture = std::string(file.architecture()),
          .name = name && !name->empty() ? std::string(*name) : path.stem().string(),
          .parameters = file.parameters(),
          .file_bytes = file.file_bytes(),
          .context_tokens = context_tokens,
          .trained_context_tokens = config.context_tokens,
          .vocab_size = tokenizer.vocab_size(),
          .hidden_size = config.hidden,
          .quantization = quantization_of(file)};
}

// What all engines of this process have; the runner, the text and the info are there already.
std::unique_ptr<Engine> serve(ServingEngine::Parts parts, std::shared_ptr<Owned> owned,
                              const RunnerLimits& limits, const EngineOptions& options) {
  parts.draft_runner = draft_runner(owned->draft.get(), limits);
  parts.max_queued = options.max_queued;
  parts.options = loop_options(options);
  const Clock& clock = owned->clock;
  parts.owned = std::move(owned);
  return std::make_unique<ServingEngine>(std::move(parts), clock);
}

}  // namespace

std::unique_ptr<Engine> Engine::start(const std::filesystem::path& model,
                                      const EngineOptions& options) {
  check_options(options);
  auto owned = std::make_shared<Owned>();
  LoadOptions load_options = load_options_of(options);
  load_options.expert_bytes = options.expert_bytes;
  for (const AdapterOptions& adapter : options.adapters) {
    load_options.adapters.push_back({adapter.path, adapter.scale});
  }
  load_options.prepared = options.prepared;
  owned->loaded = LoadedModel::load(model, load_options);
  const LoadedModel& loaded = *owned->loaded;
  // Without the model's adapters: guesses are checked, whoever makes them.
  owned->draft = load_draft(options, *loaded.tokenizer());
  // Memory for experts is still free, but not for long.
  const uint64_t free_bytes = free_memory_bytes(loaded.device());
  const uint64_t held_bytes = loaded.device().expert_counters().held_bytes;
  const RunnerLimits limits = runner_limits(
      loaded.model().config(),
      loaded.model().kv_layout(/*blocks=*/0, RunnerLimits().block_tokens,
                               loaded.kv_dtype(options.kv_dtype, options.batch_invariant)),
      free_bytes - std::min(free_bytes, held_bytes), owned->draft.get(), options);
  ServingEngine::Parts parts;
  parts.runner = create_step_runner(loaded.device(), loaded.model(), limits, loaded.adapters());
  parts.tokenizer = loaded.tokenizer();
  parts.chat_template = loaded.chat_template();
  parts.info = describe(loaded.file(), *loaded.tokenizer(), model, limits.context_tokens);
  for (size_t i = 0; i < options.adapters.size(); ++i) {
    const AdapterOptions& adapter = options.adapters[i];
    parts.info.adapters.push_back(
        {adapter.name, loaded.adapters()[i]->size_bytes(), adapter.scale});
  }
  parts.info.load_ms = loaded.load_ms();
  if (loaded.model().paged_experts()) {
    parts.expert_counters = [&device = loaded.device()] { return device.expert_counters(); };
  }
  return serve(std::move(parts), std::move(owned), limits, options);
}

std::unique_ptr<Engine> start_over_ranks(const std::filesystem::path& path,
                                         const EngineOptions& options,
                                         std::shared_ptr<RankLink> ranks) {
  check_options(options);
  if (!options.adapters.empty() || options.prepared != nullptr || options.expert_bytes) {
    throw Error(ErrorCode::unsupported,
                "several ranks run neither adapters nor prepared weights, and page no experts");
  }
  auto owned = std::make_shared<Owned>();
  owned->ranks = std::move(ranks);
  const Clock::TimePoint start = owned->clock.now();
  const format::GgufFile file = format::open_model(path);
  const model::ModelConfig config = model::read_config(file);
  ServingEngine::Parts parts;
  parts.tokenizer = text::Tokenizer::from_gguf(file);
  parts.chat_template = text::ChatTemplate::from_gguf(file, *parts.tokenizer);
  const std::vector<RankReport> reports = await_ranks(*owned->ranks, options.load_progress);
  owned->draft = load_draft(options, *parts.tokenizer);
  const bool guesses = config.can_guess && wants_guessing_layer(options);
  const backend::KvCacheLayout layout =
      layout_of_ranks(model::kv_layout_of(config, guesses, /*blocks=*/0,
                                          RunnerLimits().block_tokens, DType::f16),
                      reports, planned_kv_dtype(options));
  const RunnerLimits limits = runner_limits(config, layout, free_memory_of_ranks(reports),
                                            owned->draft.get(), options);
  parts.runner = create_rank_runner(
      *owned->ranks,
      {.vocab_size = config.vocab_size, .hidden_size = config.hidden, .guesses = guesses}, limits);
  parts.info = describe(file, *parts.tokenizer, path, limits.context_tokens);
  parts.info.load_ms = milliseconds(owned->clock.now() - start);
  return serve(std::move(parts), std::move(owned), limits, options);
}

std::unique_ptr<Engine> Engine::on_demand(const std::filesystem::path& path,
                                          const EngineOptions& options, Residency& residency,
                                          bool is_pinned) {
  static const SteadyClock clock;
  check_options(options);
  const format::GgufFile file = format::open_model(path);
  const model::ModelConfig config = model::read_config(file);
  EngineOptions loading = options;
  loading.context_tokens = served_context_tokens(config, options.context_tokens);
  const auto layout =
      model::kv_layout_of(config, config.can_guess && wants_guessing_layer(options), /*blocks=*/0,
                          RunnerLimits().block_tokens, planned_kv_dtype(options));
  if (loading.kv_cache_bytes == 0) {
    loading.kv_cache_bytes =
        2 * layout.bytes_per_token() * static_cast<uint64_t>(loading.context_tokens);
  }
  ResidentEngine::Parts parts;
  parts.load = [path, loading] { return Engine::start(path, loading); };
  std::shared_ptr<const text::Tokenizer> tokenizer = text::Tokenizer::from_gguf(file);
  parts.chat_template = text::ChatTemplate::from_gguf(file, *tokenizer);
  parts.info = describe(file, *tokenizer, path, loading.context_tokens);
  parts.tokenizer = std::move(tokenizer);
  parts.bytes = weight_bytes(file, config, options) + loading.kv_cache_bytes + spill_bytes_in_memory(options) +
                draft_bytes(loading, loading.kv_cache_bytes / block_bytes(layout));
  for (const AdapterOptions& adapter : options.adapters) {
    model::AdapterFile adapter_file = model::read_adapter(adapter.path);
    model::fit_adapter(adapter_file, config);
    parts.info.adapters.push_back({adapter.name, adapter_file.bytes(), adapter.scale});
    parts.bytes += adapter_file.bytes();
  }
  parts.max_queued = options.max_queued;
  parts.is_pinned = is_pinned;
  return std::make_unique<ResidentEngine>(std::move(parts), residency, clock);
}

}  // namespace ridge::engine
