#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "backend/recorder.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/decoder_tensors.h"
#include "model/rank_share.h"

namespace ridge::model {

// A decoder of the Llama, Qwen, Gemma, DeepSeek and gpt-oss kind, its weights on one device: norms before and
// perhaps behind, attention of grouped heads or over latents with RoPE, gated feed-forward, dense or
// of experts.
class Decoder {
 public:
  using Prepare = std::function<std::unique_ptr<backend::Weight>(const backend::WeightSource&)>;

  // Prepares every tensor, of which `share` has left this rank's part (RankShare::cut). Throws what
  // `prepare` throws.
  //   mixed_precision: linears may round to int8, but those of queries, keys and values and the
  //   output head, which cost little and whose errors reach the logits most, only to bfloat16. In a
  //   model of experts int8 is for experts alone (docs/adr/0033).
  Decoder(RankShare share, DecoderTensors tensors, bool mixed_precision, const Prepare& prepare);
  Decoder(Decoder&&) = delete;  // config_ refers to its share

  const ModelConfig& config() const { return config_; }  // this rank's

  // Records one forward pass; returns the logits of the output rows, [R, vocab]. Rows whose
  // StepBuffers::adapter_of_row is i are changed by adapters[i].
  backend::Value record(backend::Recorder& ops, backend::KvCache& cache, Adapters adapters) const;
  // The same up to the output head: the normed hidden states of the output rows, [R, H].
  backend::Value record_hidden(backend::Recorder& ops, backend::KvCache& cache,
                               Adapters adapters) const;

  // Whether it has a layer for multi-token prediction; what follows is of that.
  bool guesses() const { return guessing_.has_value(); }
  // As record, and the normed hidden states of all tokens, [T, H].
  struct Predicted {
    backend::Value logits, hidden;
  };
  Predicted record_predicting(backend::Recorder& ops, backend::KvCache& cache,
                              Adapters adapters) const;
  // h′ = Layer(W [norm(E(next)); norm(h)]), arXiv 2412.19437, equations 21 and 22. Token ids are those
  // that follow; h, [T, H] as `hidden` above, is given at index 0. The layer's keys and values are
  // the cache's last. Returns h′ of the output rows, normed, [R, H]: of which record_guess makes
  // logits of the token after the next, and which may take h's place for the one behind that.
  backend::Value record_guessing(backend::Recorder& ops, backend::KvCache& cache) const;
  // Logits [R, vocab] of hidden states [R, H] given at index 0.
  backend::Value record_guess(backend::Recorder& ops) const;

  // Bytes of weights that a step of one token reads: all but an untied embedding, of which it
  // gathers a row, the experts that it does not use, and the layer for multi-token prediction.
  uint64_t step_weight_bytes() const { return step_weight_bytes_; }

 private:
  using WeightPointer = std::unique_ptr<backend::Weight>;
  struct LatentAttention {
    WeightPointer query_down, query_norm;  // null where queries are one linear
    WeightPointer query;
    WeightPointer kv_down, kv_norm;
    WeightPointer key_up, value_up;
  };
  struct Layer {
    WeightPointer attention_norm;
    std::optional<LatentAttention> latent;
    WeightPointer qkv;       // null where latent
    WeightPointer qkv_bias;  // may be null
    WeightPointer q_norm;    // may be null, as k_norm
    WeightPointer k_norm;
    WeightPointer sinks;  // may be null
    WeightPointer attention_output;
    WeightPointer attention_output_bias;  // may be null
    WeightPointer attention_post_norm;    // may be null, as feed_forward_post_norm
    WeightPointer feed_forward_norm;
    WeightPointer feed_forward_post_norm;
    WeightPointer router;         // null where dense
    WeightPointer router_bias;    // may be null, as logit_bias
    WeightPointer logit_bias;
    WeightPointer shared_gate_up; // may be null, as shared_down
    WeightPointer shared_down;
    WeightPointer gate_up;
    WeightPointer down;
    WeightPointer gate_up_bias;  // may be null, as down_bias
    WeightPointer down_bias;
  };

  // All ranks' parts of columns side by side.
  backend::Value gather(backend::Recorder& ops, backend::Value part,
                        const std::vector<int>& columns_of_rank, int groups = 1) const;
  backend::Value record_logits(backend::Recorder& ops, backend::Value hidden,
                               const backend::Weight& head) const;
  backend::Value record_latent_attention(backend::Recorder& ops, backend::Value x,
                                         backend::KvCache& cache, int layer) const;
  backend::Value record_attention(backend::Recorder& ops, backend::Value x, backend::KvCache& cache,
                                  Adapters adapters, int layer) const;
  backend::Value record_feed_forward(backend::Recorder& ops, backend::Value x, Adapters adapters,
                                     int layer) const;
  backend::Value record_experts(backend::Recorder& ops, backend::Value x, int layer) const;
  enum class Goes : uint8_t { all, outputs };  // rows that go on behind a layer's attention
  backend::Value record_layer(backend::Recorder& ops, backend::Value x, backend::Value& residual,
                              backend::KvCache& cache, Adapters adapters, int layer,
                              const backend::Weight& next_norm, Goes rows) const;
  backend::Value record_layers(backend::Recorder& ops, backend::KvCache& cache, Adapters adapters,
                               Goes rows) const;

  const RankShare share_;
  const ModelConfig& config_;  // this rank's
  backend::Precision delicate_;         // of the linears whose errors reach the logits most
  backend::Precision robust_;           // of the others
  backend::Precision outside_experts_;  // of those of the others that no expert has
  backend::RopeTable rope_;
  backend::RopeTable window_rope_;  // of layers with a window
  std::vector<std::vector<std::byte>> owned_;  // bytes that weights may read
  WeightPointer embedding_;
  std::vector<Layer> layers_;
  WeightPointer output_norm_;
  WeightPointer output_;  // null where tied
  struct Guessing {  // the layer itself is behind the others in layers_
    WeightPointer embedding;  // null where it is the model's, as output_norm and output
    WeightPointer token_norm, hidden_norm;
    WeightPointer join;
    WeightPointer output_norm;
    WeightPointer output;
  };
  std::optional<Guessing> guessing_;
  uint64_t step_weight_bytes_ = 0;
};

}  // namespace ridge::model
