#include "model/model.h"

#include "format/quantization_recipe.h"

namespace ridge::model {

namespace {

// nullptr where this device keeps nothing of this model.
backend::PreparedStore* begin_store(backend::PreparedStore* store, const backend::Device& device,
                                    const DecoderTensors& tensors) {
  if (store == nullptr || device.prepared_layout().empty()) return nullptr;
  uint64_t bytes = 0;
  bool is_paged = false;
  for_each_source(tensors, [&](const backend::WeightSource& source) {
    is_paged |= source.paging.has_value();
    if (!source.paging) bytes += device.prepared_bytes(source);
  });
  if (bytes == 0) return nullptr;
  // Kept apart, since what is kept must be whole.
  store->begin(device.prepared_layout() + (tensors.guessing ? " and a layer that guesses" : "") +
                   (is_paged ? " but for experts" : ""),
               bytes);
  return store;
}

}  // namespace

std::unique_ptr<Model> Model::load(const format::GgufFile& file, backend::Device& device,
                                   const ModelOptions& options) {
  std::unique_ptr<Model> model(new Model);
  model->config_ = read_config(file);
  model->parameters_ = file.parameters();
  model->mixed_precision_ = options.mixed_precision.value_or(file.parameters() >= 1'000'000'000);
  RankShare share(model->config_, options.rank);
  DecoderTensors tensors = find_tensors(file, model->config_, options.guesses);
  share.cut(tensors);
  // Ranks have parts of every expert, which lie apart in the file.
  if (share.is_whole()) {
    model->paged_experts_ = page_experts(file, device, model->config_, options.paging, tensors);
  }

  backend::PreparedStore* const store = begin_store(options.prepared, device, tensors);
  const bool has_int8_activations =
      file.metadata().optional_boolean(format::int8_activations_key).value_or(false);
  int64_t done_bytes = 0;
  const auto total_bytes = static_cast<int64_t>(tensors.bytes);
  const auto prepare = [&](const backend::WeightSource& source) {
    if (!source.paging) {
      for (const TensorView& segment : source.segments) file.ready(segment);
    }
    backend::WeightSource given = source;
    given.int8_activations = has_int8_activations;
    std::unique_ptr<backend::Weight> weight = device.prepare_weight(given, store);
    for (const TensorView& segment : source.segments) {
      // The device has its own copy now; the file's pages would only crowd the page cache.
      if (!weight->keeps_source()) file.advise(segment, format::Access::done);
    }
    done_bytes += static_cast<int64_t>(file_bytes(source));
    if (options.progress) options.progress(done_bytes, total_bytes);
    return weight;
  };
  model->decoder_ =
      std::make_unique<Decoder>(std::move(share), std::move(tensors), model->mixed_precision_,
                                prepare);
  if (store != nullptr) store->finish();
  return model;
}

backend::KvCacheLayout kv_layout_of(const ModelConfig& config, bool guesses, int blocks,
                                    int block_tokens, DType dtype) {
  const int layers = config.layers + (guesses ? 1 : 0);
  if (config.latent) {
    return {.kind = backend::KvCacheLayout::Kind::latent,
            .layers = layers,
            .blocks = blocks,
            .block_tokens = block_tokens,
            .key_dim = config.latent->rope_dim,
            .value_dim = config.latent->rank,
            .dtype = dtype};
  }
  return {.kind = backend::KvCacheLayout::Kind::heads,
          .layers = layers,
          .blocks = blocks,
          .block_tokens = block_tokens,
          .kv_heads = config.kv_heads,
          .key_dim = config.key_dim,
          .value_dim = config.value_dim,
          .dtype = dtype};
}

backend::KvCacheLayout Model::kv_layout(int blocks, int block_tokens, DType dtype) const {
  return kv_layout_of(decoder_->config(), guesses(), blocks, block_tokens, dtype);
}

backend::Value Model::record(backend::Recorder& recorder, backend::KvCache& cache,
                             Adapters adapters) const {
  return decoder_->record(recorder, cache, adapters);
}

backend::Value Model::record_hidden(backend::Recorder& recorder, backend::KvCache& cache,
                                    Adapters adapters) const {
  return decoder_->record_hidden(recorder, cache, adapters);
}

Decoder::Predicted Model::record_predicting(backend::Recorder& recorder, backend::KvCache& cache,
                                            Adapters adapters) const {
  return decoder_->record_predicting(recorder, cache, adapters);
}

backend::Value Model::record_guessing(backend::Recorder& recorder, backend::KvCache& cache) const {
  return decoder_->record_guessing(recorder, cache);
}

backend::Value Model::record_guess(backend::Recorder& recorder) const {
  return decoder_->record_guess(recorder);
}

}  // namespace ridge::model
