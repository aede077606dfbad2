#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "backend/weight.h"
#include "format/gguf.h"
#include "model/config.h"

namespace ridge::model {

// The tensors of one layer, as the device will receive them. Q, K and V are one weight, and so are
// gate and up, so that a step reads the activations once for each.
struct LayerTensors {
  backend::WeightSource attention_norm;  // [H]
  backend::WeightSource qkv;             // [heads · key_dim + kv_heads · (key + value_dim), H]
  std::optional<backend::WeightSource> qkv_bias;               // one value for each of its rows
  backend::WeightSource attention_output;                      // [H, heads · value_dim]
  std::optional<backend::WeightSource> attention_output_bias;  // [H]
  backend::WeightSource feed_forward_norm;                     // [H]
  backend::WeightSource gate_up;                               // [2F, H]
  backend::WeightSource down;                                  // [H, F]
};

struct DecoderTensors {
  backend::WeightSource embedding;  // [vocab, H]; linear as well where tied
  std::vector<LayerTensors> layers;
  backend::WeightSource output_norm;            // [H]
  std::optional<backend::WeightSource> output;  // [vocab, H], unless tied
  uint64_t bytes = 0;                           // of all
};

// Calls `visit` with each weight, once.
void for_each_source(const DecoderTensors& tensors,
                     const std::function<void(const backend::WeightSource&)>& visit);

// Finds every tensor of the family and checks its shape against the configuration; allocates
// nothing of their size. The file must outlive the result. Throws invalid_file naming a tensor that
// is missing or of another shape, unsupported for one that the family has no use for: to leave a
// weight out would give wrong answers without a word.
DecoderTensors find_tensors(const format::GgufFile& file, const ModelConfig& config);

}  // namespace ridge::model
