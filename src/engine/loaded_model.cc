#include "engine/loaded_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/registry.h"
#include "base/clock.h"
#include "base/error.h"

namespace ridge::engine {

std::unique_ptr<LoadedModel> LoadedModel::load(const std::filesystem::path& path,
                                               const LoadOptions& options) {
  const SteadyClock clock;
  const auto start = clock.now();
  std::unique_ptr<LoadedModel> loaded(new LoadedModel(format::GgufFile::open(path)));
  // The text side first: it is quick to load, and to fail.
  loaded->tokenizer_ = text::Tokenizer::from_gguf(loaded->file_);
  loaded->chat_template_ = text::ChatTemplate::from_gguf(loaded->file_, *loaded->tokenizer_);
  loaded->device_ = backend::open_device(options.device, options.device_options);
  loaded->model_ = model::Model::load(
      loaded->file_, *loaded->device_,
      {.mixed_precision = options.mixed_precision, .progress = options.progress});
  loaded->load_ms_ = std::chrono::duration<double, std::milli>(clock.now() - start).count();
  return loaded;
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
