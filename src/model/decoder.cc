#include "model/decoder.h"

#include <cmath>

#include "model/rope.h"

namespace ridge::model {

using backend::KvCache;
using backend::Precision;
using backend::Recorder;
using backend::Value;

Decoder::Decoder(const ModelConfig& config, const DecoderTensors& tensors, bool mixed_precision,
                 const Prepare& prepare)
    : config_(config),
      delicate_(mixed_precision ? Precision::bf16 : Precision::full),
      precision_(mixed_precision ? Precision::int8 : Precision::full),
      rope_(make_rope_table(config.rope)) {
  const auto read_each_step = [&](const backend::WeightSource& source) {
    WeightPointer weight = prepare(source);
    step_weight_bytes_ += weight->size_bytes();
    return weight;
  };
  const auto optional = [&](const std::optional<backend::WeightSource>& source) {
    return source ? read_each_step(*source) : nullptr;
  };
  embedding_ =
      config.has_tied_embeddings ? read_each_step(tensors.embedding) : prepare(tensors.embedding);
  for (const LayerTensors& t : tensors.layers) {
    layers_.push_back({.attention_norm = read_each_step(t.attention_norm),
                       .qkv = read_each_step(t.qkv),
                       .qkv_bias = optional(t.qkv_bias),
                       .attention_output = read_each_step(t.attention_output),
                       .attention_output_bias = optional(t.attention_output_bias),
                       .feed_forward_norm = read_each_step(t.feed_forward_norm),
                       .gate_up = read_each_step(t.gate_up),
                       .down = read_each_step(t.down)});
  }
  output_norm_ = read_each_step(tensors.output_norm);
  output_ = optional(tensors.output);
}

namespace {

// Adds what the adapters change of a linear to its output.
void adapt(Recorder& ops, Adapters adapters, int layer, AdaptedLinear linear, Value x, Value out) {
  std::vector<backend::Adapter> each = adapters_at(adapters, layer, linear);
  if (!each.empty()) ops.lora_linear(x, std::move(each), out);
}

}  // namespace

Value Decoder::record_attention(Recorder& ops, Value x, KvCache& cache, Adapters adapters,
                                int layer) const {
  const Layer& w = layers_[layer];
  const int q_columns = config_.heads * config_.key_dim;
  const int k_columns = config_.kv_heads * config_.key_dim;
  const int v_columns = config_.kv_heads * config_.value_dim;

  const Value qkv = ops.linear(x, *w.qkv, w.qkv_bias.get(), delicate_);  // [T, q + k + v]
  const Value q = qkv.slice(0, q_columns);                               // [T, heads, key_dim]
  const Value k = qkv.slice(q_columns, k_columns);                       // [T, kv_heads, key_dim]
  const Value v = qkv.slice(q_columns + k_columns, v_columns);           // [T, kv_heads, value_dim]
  adapt(ops, adapters, layer, AdaptedLinear::query, x, q);
  adapt(ops, adapters, layer, AdaptedLinear::key, x, k);
  adapt(ops, adapters, layer, AdaptedLinear::value, x, v);
  ops.rope(q, k, config_.key_dim, rope_);
  ops.store_kv(k, v, cache, layer);
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.key_dim));
  return ops.attention(q, cache, layer, {.heads = config_.heads, .scale = scale});
}

Value Decoder::record_hidden(Recorder& ops, KvCache& cache, Adapters adapters) const {
  Value residual = ops.embed(*embedding_);  // [T, H]
  Value x = ops.rms_norm(residual, *layers_[0].attention_norm, config_.rms_epsilon);
  for (int layer = 0; layer < config_.layers; ++layer) {
    const Layer& w = layers_[layer];
    Value heads = record_attention(ops, x, cache, adapters, layer);  // [T, heads · value]
    if (layer + 1 == config_.layers) {
      // From here on no token looks at another, so only the rows whose logits are wanted go on.
      heads = ops.gather_rows(heads);        // [R, heads · value]
      residual = ops.gather_rows(residual);  // [R, H]
    }
    x = ops.linear(heads, *w.attention_output, w.attention_output_bias.get(),
                   precision_);  // [T, H]
    adapt(ops, adapters, layer, AdaptedLinear::attention_output, heads, x);
    x = ops.add_rms_norm(x, residual, *w.feed_forward_norm, config_.rms_epsilon);
    const Value gate_up = ops.linear(x, *w.gate_up, nullptr, precision_);  // [T, 2F]
    adapt(ops, adapters, layer, AdaptedLinear::gate, x, gate_up.slice(0, config_.feed_forward));
    adapt(ops, adapters, layer, AdaptedLinear::up, x,
          gate_up.slice(config_.feed_forward, config_.feed_forward));
    const Value inner = ops.gated_activation(gate_up, backend::Activation::silu);  // [T, F]
    x = ops.linear(inner, *w.down, nullptr, precision_);                           // [T, H]
    adapt(ops, adapters, layer, AdaptedLinear::down, inner, x);
    const bool is_last = layer + 1 == config_.layers;
    const backend::Weight& next_norm = is_last ? *output_norm_ : *layers_[layer + 1].attention_norm;
    x = ops.add_rms_norm(x, residual, next_norm, config_.rms_epsilon);
  }
  return x;  // [R, H]
}

Value Decoder::record(Recorder& ops, KvCache& cache, Adapters adapters) const {
  const Value hidden = record_hidden(ops, cache, adapters);
  return ops.linear(hidden, output_ ? *output_ : *embedding_, nullptr, delicate_);  // [R, vocab]
}

}  // namespace ridge::model
