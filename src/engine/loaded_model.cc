#include "engine/loaded_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "backend/registry.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "format/model_folder.h"

namespace ridge::engine {

std::unique_ptr<LoadedModel> LoadedModel::load(const std::filesystem::path& path,
                                               const LoadOptions& options) {
  const SteadyClock clock;
  const auto start = clock.now();
  std::unique_ptr<LoadedModel> loaded(
      new LoadedModel(format::open_model(path, options.device_options.threads)));
  loaded->prepared_ = options.prepared;
  // Beside the weights: a vocabulary takes as long as weights that need no preparing.
  const std::shared_future<void> text = std::async(std::launch::async, [&loaded] {
    loaded->tokenizer_ = text::Tokenizer::from_gguf(loaded->file_);
    loaded->chat_template_ = text::ChatTemplate::from_gguf(loaded->file_, *loaded->tokenizer_);
  });
  // Before minutes of loading, not after.
  const model::ModelConfig config = model::read_config(loaded->file_);
  std::vector<model::AdapterFile> adapters;
  for (const AdapterSource& source : options.adapters) {
    adapters.push_back(model::read_adapter(source.path));
    model::fit_adapter(adapters.back(), config);
  }
  loaded->device_ = backend::open_device(options.device, options.device_options);
  const auto progress = [&](int64_t done_bytes, int64_t total_bytes) {
    // A vocabulary that is no good ends the load at once.
    if (text.wait_for(std::chrono::seconds(0)) == std::future_status::ready) text.get();
    if (options.progress) options.progress(done_bytes, total_bytes);
  };
  loaded->model_ = model::Model::load(loaded->file_, *loaded->device_,
                                      {.mixed_precision = options.mixed_precision,
                                       .guesses = options.guesses,
                                       .paging = {.expert_bytes = options.expert_bytes},
                                       .progress = progress,
                                       .prepared = options.prepared.get()});
  if (const auto& paged = loaded->model_->paged_experts()) {
    log::warning("{}: {}{}", path.filename().string(),
                 paged->is_chosen ? "" : "the model is larger than the free memory. ",
                 model::summary(*paged));
  }
  for (size_t i = 0; i < adapters.size(); ++i) {
    loaded->adapters_.push_back(
        model::Adapter::load(std::move(adapters[i]), options.adapters[i].scale, *loaded->device_));
  }
  text.get();
  loaded->load_ms_ = milliseconds(clock.now() - start);
  return loaded;
}

DType LoadedModel::kv_dtype(std::optional<DType> asked, bool batch_invariant) const {
  if (asked) return *asked;
  return model_->mixed_precision() && !batch_invariant ? device_->info().mixed_kv_dtype : DType::f16;
}

int served_context_tokens(const model::ModelConfig& config, int wanted) {
  const int trained = config.context_tokens;
  if (wanted == 0) return std::min(trained, default_context_tokens);
  if (wanted > trained) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("a context of {} tokens is more than this model was made for, which is {}",
                    wanted, trained),
        "context");
  }
  return wanted;
}

}  // namespace ridge::engine
