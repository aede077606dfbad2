#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "engine/step_runner.h"
#include "format/gguf.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::engine {

inline constexpr int default_context_tokens = 32768;  // at most, where nobody asks for more

// An adapter's file, how much of it counts.
struct AdapterSource {
  std::filesystem::path path;
  float scale = 1;
};

struct LoadOptions {
  std::string device = "auto";  // as backend::open_device
  backend::DeviceOptions device_options;
  std::optional<bool> mixed_precision;  // as model::ModelOptions
  bool guesses = false;                 // likewise
  std::optional<uint64_t> expert_bytes; // as model::PagingOptions
  // Bytes of weights that are ready, and of all.
  std::function<void(int64_t done_bytes, int64_t total_bytes)> progress;
  std::vector<AdapterSource> adapters;
  // Where the device finds and keeps prepared weights; may be nullptr.
  std::shared_ptr<backend::PreparedStore> prepared;
};

// `wanted` tokens, or with 0 the model's own context, at most default_context_tokens. Throws
// invalid_argument where the model was not made for so many.
int served_context_tokens(const model::ModelConfig& config, int wanted);

// What a model file becomes: its weights on a device, and its text side.
class LoadedModel {
 public:
  // With its adapters. Throws not_found, invalid_file, unsupported, out_of_memory.
  static std::unique_ptr<LoadedModel> load(const std::filesystem::path& path,
                                           const LoadOptions& options);

  const format::GgufFile& file() const { return file_; }
  backend::Device& device() const { return *device_; }
  const model::Model& model() const { return *model_; }
  const std::vector<std::unique_ptr<model::Adapter>>& adapters() const { return adapters_; }
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return tokenizer_; }
  const std::shared_ptr<const text::ChatTemplate>& chat_template() const { return chat_template_; }
  double load_ms() const { return load_ms_; }

  // As served_context_tokens.
  int context_tokens(int wanted) const { return served_context_tokens(model_->config(), wanted); }

  // How keys and values are kept: as asked, one of DeviceInfo::kv_dtypes; else float16, or in mixed precision what the
  // device is faster with. Results that do not depend on other requests (backend::StepLimits) stay with float16.
  DType kv_dtype(std::optional<DType> asked, bool batch_invariant = false) const;

 private:
  explicit LoadedModel(format::GgufFile file) : file_(std::move(file)) {}

  format::GgufFile file_;
  std::unique_ptr<backend::Device> device_;
  std::shared_ptr<backend::PreparedStore> prepared_;
  std::unique_ptr<model::Model> model_;  // after what must outlive its weights
  std::vector<std::unique_ptr<model::Adapter>> adapters_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::shared_ptr<const text::ChatTemplate> chat_template_;
  double load_ms_ = 0;
};

}  // namespace ridge::engine
