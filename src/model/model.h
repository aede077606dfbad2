#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "backend/device.h"
#include "backend/recorder.h"
#include "format/gguf.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model/expert_paging.h"

namespace ridge::model {

// Bytes of weights that are ready, and of all.
using LoadProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

struct ModelOptions {
  // See Decoder. By default for models of a billion parameters or more: small ones are fast
  // without, and feel every rounding.
  std::optional<bool> mixed_precision;
  // Whether a layer for multi-token prediction is loaded, where the file has one (Model::guesses).
  bool guesses = false;
  PagingOptions paging;
  LoadProgress progress;
  // Where the device finds and keeps prepared weights; may be nullptr. Must outlive the model.
  backend::PreparedStore* prepared = nullptr;
  // Whose part of the model is loaded. Of several ranks, the device's communicator has as many.
  Rank rank;
};

// The cache that a model of this configuration needs, of so many blocks. guesses: as Model::guesses.
backend::KvCacheLayout kv_layout_of(const ModelConfig& config, bool guesses, int blocks,
                                    int block_tokens, DType dtype);

// A model file's weights on one device, ready to be recorded into programs.
class Model {
 public:
  // Checks the whole file first, then prepares its weights one by one. `file` and `device` must
  // outlive the model. Throws invalid_file naming a key or tensor and what would be right,
  // unsupported for a family or tensor that this build does not know, out_of_memory; and as RankShare.
  static std::unique_ptr<Model> load(const format::GgufFile& file, backend::Device& device,
                                     const ModelOptions& options = {});

  const ModelConfig& config() const { return config_; }  // of the whole model

  // The cache that record() needs, of this rank. The caller chooses `blocks` and may choose the rest.
  backend::KvCacheLayout kv_layout(int blocks = 0, int block_tokens = 16,
                                   DType dtype = DType::f16) const;

  // Records one forward pass over the step's tokens; returns the logits, [R, vocab_size], for the
  // caller to mark as output. Model, cache and adapters must outlive the program. With adapters the
  // inputs need adapter_of_row.
  backend::Value record(backend::Recorder& recorder, backend::KvCache& cache,
                        Adapters adapters = {}) const;
  // The same up to the output head: the last hidden states, normed, [R, hidden].
  backend::Value record_hidden(backend::Recorder& recorder, backend::KvCache& cache,
                               Adapters adapters = {}) const;

  // Whether it has a layer for multi-token prediction, whose keys and values are the last of the
  // cache's layers. The passes of that layer, as those of Decoder; only where it has one.
  bool guesses() const { return decoder_->guesses(); }
  Decoder::Predicted record_predicting(backend::Recorder& recorder, backend::KvCache& cache,
                                       Adapters adapters = {}) const;
  backend::Value record_guessing(backend::Recorder& recorder, backend::KvCache& cache) const;
  backend::Value record_guess(backend::Recorder& recorder) const;

  bool mixed_precision() const { return mixed_precision_; }
  // nullopt where all experts, if there are any, are held in memory.
  const std::optional<PagedExperts>& paged_experts() const { return paged_experts_; }
  // Elements of all tensors.
  uint64_t parameters() const { return parameters_; }
  // Bytes of weights that a step of one token reads; gathered embedding rows do not count.
  uint64_t step_weight_bytes() const { return decoder_->step_weight_bytes(); }

 private:
  Model() = default;

  ModelConfig config_;
  std::unique_ptr<Decoder> decoder_;
  uint64_t parameters_ = 0;
  bool mixed_precision_ = false;
  std::optional<PagedExperts> paged_experts_;
};

}  // namespace ridge::model
