#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backend/weight.h"
#include "format/gguf.h"
#include "model/config.h"

namespace ridge::model {

// What latent attention has in place of `qkv`. Queries come sorted: the parts without RoPE of all
// heads, then the rotary parts of all.
struct LatentTensors {
  std::optional<backend::WeightSource> query_down;  // [query_rank, H]
  std::optional<backend::WeightSource> query_norm;  // [query_rank]
  backend::WeightSource query;     // [heads · nope + heads · rope, query_rank or H]
  backend::WeightSource kv_down;   // [rank + rope, H]
  backend::WeightSource kv_norm;   // [rank]
  backend::WeightSource key_up;    // queries into the latent space: [heads, rank, nope]
  backend::WeightSource value_up;  // [heads, value_dim, rank]
};

// The tensors of one layer, as the device will receive them. Q, K and V are one weight, and so are
// gate and up, so that a step reads the activations once for each.
struct LayerTensors {
  backend::WeightSource attention_norm;  // [H]
  std::optional<LatentTensors> latent;
  backend::WeightSource qkv;  // [heads · key_dim + kv_heads · (key + value_dim), H]; unless latent
  std::optional<backend::WeightSource> qkv_bias;                // one value for each of its rows
  std::optional<backend::WeightSource> q_norm, k_norm;          // [key_dim]
  std::optional<backend::WeightSource> sinks;                   // [heads]
  backend::WeightSource attention_output;                       // [H, heads · value_dim]
  std::optional<backend::WeightSource> attention_output_bias;   // [H]
  std::optional<backend::WeightSource> attention_post_norm;     // [H]
  backend::WeightSource feed_forward_norm;                      // [H]
  std::optional<backend::WeightSource> feed_forward_post_norm;  // [H]
  std::optional<backend::WeightSource> router;                  // [E, H], of E experts
  std::optional<backend::WeightSource> router_bias;             // [E], of the choice alone
  std::optional<backend::WeightSource> logit_bias;              // [E], of the router's logits
  std::optional<backend::WeightSource> shared_gate_up;          // [2S, H], of experts all use
  std::optional<backend::WeightSource> shared_down;             // [H, S]
  backend::WeightSource gate_up;                                // [2F, H] or [E, 2F, H]
  backend::WeightSource down;                                   // [H, F] or [E, H, F]
  std::optional<backend::WeightSource> gate_up_bias;            // [E · 2F]
  std::optional<backend::WeightSource> down_bias;               // [E · H]
};

// The layer for multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2), which guesses
// the token after the next from a token's hidden state and the next token. What is not there is the
// model's own.
struct GuessingTensors {
  std::optional<backend::WeightSource> embedding;  // [vocab, H]
  backend::WeightSource token_norm, hidden_norm;   // [H]
  backend::WeightSource join;  // [H, 2H]: of the normed token, then the hidden state
  LayerTensors layer;
  std::optional<backend::WeightSource> output_norm;  // [H]
  std::optional<backend::WeightSource> output;       // [vocab, H]
};

struct DecoderTensors {
  backend::WeightSource embedding;  // [vocab, H]; linear as well where tied
  std::vector<LayerTensors> layers;
  backend::WeightSource output_norm;            // [H]
  std::optional<backend::WeightSource> output;  // [vocab, H], unless tied
  std::optional<GuessingTensors> guessing;
  uint64_t bytes = 0;  // of all
  // What had to be put together anew from the file's bytes; segments may point into it.
  std::vector<std::vector<std::byte>> owned;
};

// Calls `visit` with each weight, once.
void for_each_source(const DecoderTensors& tensors,
                     const std::function<void(const backend::WeightSource&)>& visit);

// Bytes that a source has in the file; of one that is cut, a rank's share of them.
uint64_t file_bytes(const backend::WeightSource& source);

// Finds every tensor of the family and checks its shape against the configuration; allocates
// nothing of their size but what `owned` says. The file must outlive the result. Throws
// invalid_file naming a tensor that is missing or of another shape, unsupported for one that the
// family has no use for: to leave a weight out would give wrong answers without a word. Those of a
// layer for multi-token prediction are looked at where `guesses`, and part of the result where the
// file has one.
DecoderTensors find_tensors(const format::GgufFile& file, const ModelConfig& config, bool guesses);

// By each weight's name, the names of the file's tensors that it is made of; those that were put
// together anew (DecoderTensors::owned) are not among them. `tensors` are of that file.
std::map<std::string, std::vector<std::string>, std::less<>> names_of_parts(
    const format::GgufFile& file, const DecoderTensors& tensors);

}  // namespace ridge::model
