#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/recorder.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/decoder_tensors.h"

namespace ridge::model {

// A dense decoder of the Llama and Qwen2 kind, its weights on one device: pre-norm, grouped-head
// attention with RoPE, gated feed-forward.
class Decoder {
 public:
  using Prepare = std::function<std::unique_ptr<backend::Weight>(const backend::WeightSource&)>;

  // Prepares every tensor. Throws what `prepare` throws.
  //   mixed_precision: linears may round to int8, but those of queries, keys and values and the
  //   output head, which cost little and whose errors reach the logits most, only to bfloat16.
  Decoder(const ModelConfig& config, const DecoderTensors& tensors, bool mixed_precision,
          const Prepare& prepare);

  // Records one forward pass; returns the logits of the output rows, [R, vocab]. Rows whose
  // StepBuffers::adapter_of_row is i are changed by adapters[i].
  backend::Value record(backend::Recorder& ops, backend::KvCache& cache, Adapters adapters) const;
  // The same up to the output head: the normed hidden states of the output rows, [R, H].
  backend::Value record_hidden(backend::Recorder& ops, backend::KvCache& cache,
                               Adapters adapters) const;

  // Bytes of weights that a step reads: all but an untied embedding, of which it gathers a few
  // rows.
  uint64_t step_weight_bytes() const { return step_weight_bytes_; }

 private:
  using WeightPointer = std::unique_ptr<backend::Weight>;
  struct Layer {
    WeightPointer attention_norm;
    WeightPointer qkv;
    WeightPointer qkv_bias;  // may be null
    WeightPointer attention_output;
    WeightPointer attention_output_bias;  // may be null
    WeightPointer feed_forward_norm;
    WeightPointer gate_up;
    WeightPointer down;
  };

  backend::Value record_attention(backend::Recorder& ops, backend::Value x, backend::KvCache& cache,
                                  Adapters adapters, int layer) const;

  ModelConfig config_;
  backend::Precision delicate_;   // of the linears whose errors reach the logits most
  backend::Precision precision_;  // of the others
  backend::RopeTable rope_;
  WeightPointer embedding_;
  std::vector<Layer> layers_;
  WeightPointer output_norm_;
  WeightPointer output_;  // null where tied
  uint64_t step_weight_bytes_ = 0;
};

}  // namespace ridge::model
