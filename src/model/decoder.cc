#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/rope.h"

namespace ridge::model {

using backend::KvCache;
using backend::Precision;
using backend::Recorder;
using backend::Value;

Decoder::Decoder(RankShare share, DecoderTensors tensors, bool mixed_precision,
                 const Prepare& prepare)
    : share_(std::move(share)),
      config_(share_.config()),
      delicate_(mixed_precision ? Precision::bf16 : Precision::full),
      robust_(mixed_precision ? Precision::int8 : Precision::full),
      outside_experts_(config_.experts ? delicate_ : robust_),
      rope_(make_rope_table(config_.rope)),
      window_rope_(config_.window > 0 ? make_rope_table(config_.window_rope)
                                      : backend::RopeTable{}),
      owned_(std::move(tensors.owned)) {
  const auto read_each_step = [&](const backend::WeightSource& source) {
    WeightPointer weight = prepare(source);
    step_weight_bytes_ += weight->size_bytes();
    return weight;
  };
  const auto count_chosen = [&](const backend::Weight& weight, int64_t experts) {
    const int64_t used = experts == 1 ? 1 : config_.experts->router.top_k;
    step_weight_bytes_ += weight.size_bytes() / static_cast<uint64_t>(experts) *
                          static_cast<uint64_t>(used);
  };
  const auto read_by_tokens = [&](const backend::WeightSource& source) {
    WeightPointer weight = prepare(source);
    count_chosen(*weight, weight->experts());
    return weight;
  };
  const auto expert_bias = [&](const std::optional<backend::WeightSource>& source) {
    WeightPointer bias = source ? prepare(*source) : nullptr;
    if (bias) count_chosen(*bias, config_.experts->router.experts);
    return bias;
  };
  const auto optional = [&](const std::optional<backend::WeightSource>& source) {
    return source ? read_each_step(*source) : nullptr;
  };
  embedding_ =
      config_.has_tied_embeddings ? read_each_step(tensors.embedding) : prepare(tensors.embedding);
  const auto add_layer = [&](const LayerTensors& t) {
    std::optional<LatentAttention> latent;
    if (t.latent) {
      latent = LatentAttention{.query_down = optional(t.latent->query_down),
                               .query_norm = optional(t.latent->query_norm),
                               .query = read_each_step(t.latent->query),
                               .kv_down = read_each_step(t.latent->kv_down),
                               .kv_norm = read_each_step(t.latent->kv_norm),
                               .key_up = read_each_step(t.latent->key_up),
                               .value_up = read_each_step(t.latent->value_up)};
    }
    layers_.push_back({.attention_norm = read_each_step(t.attention_norm),
                       .latent = std::move(latent),
                       .qkv = t.latent ? nullptr : read_each_step(t.qkv),
                       .qkv_bias = optional(t.qkv_bias),
                       .q_norm = optional(t.q_norm),
                       .k_norm = optional(t.k_norm),
                       .sinks = optional(t.sinks),
                       .attention_output = read_each_step(t.attention_output),
                       .attention_output_bias = optional(t.attention_output_bias),
                       .attention_post_norm = optional(t.attention_post_norm),
                       .feed_forward_norm = read_each_step(t.feed_forward_norm),
                       .feed_forward_post_norm = optional(t.feed_forward_post_norm),
                       .router = optional(t.router),
                       .router_bias = optional(t.router_bias),
                       .logit_bias = optional(t.logit_bias),
                       .shared_gate_up = optional(t.shared_gate_up),
                       .shared_down = optional(t.shared_down),
                       .gate_up = read_by_tokens(t.gate_up),
                       .down = read_by_tokens(t.down),
                       .gate_up_bias = expert_bias(t.gate_up_bias),
                       .down_bias = expert_bias(t.down_bias)});
  };
  for (const LayerTensors& t : tensors.layers) add_layer(t);
  output_norm_ = read_each_step(tensors.output_norm);
  output_ = optional(tensors.output);
  if (tensors.guessing) {
    const uint64_t step_bytes = step_weight_bytes_;
    const GuessingTensors& t = *tensors.guessing;
    add_layer(t.layer);
    guessing_ = Guessing{.embedding = optional(t.embedding),
                         .token_norm = prepare(t.token_norm),
                         .hidden_norm = prepare(t.hidden_norm),
                         .join = prepare(t.join),
                         .output_norm = optional(t.output_norm),
                         .output = optional(t.output)};
    step_weight_bytes_ = step_bytes;
  }
  const bool reads_owned = std::ranges::any_of(layers_, [](const Layer& layer) {
    return layer.latent &&
           (layer.latent->key_up->keeps_source() || layer.latent->value_up->keeps_source());
  });
  if (!reads_owned) owned_.clear();
}

Value Decoder::gather(Recorder& ops, Value part, const std::vector<int>& columns_of_rank,
                      int groups) const {
  return share_.is_whole() ? part : ops.all_gather(part, columns_of_rank, groups);
}

// [rows, vocab]
Value Decoder::record_logits(Recorder& ops, Value hidden, const backend::Weight& head) const {
  return gather(ops, ops.linear(hidden, head, nullptr, delicate_), share_.vocab());
}

namespace {

// Adds what the adapters change of a linear to its output.
void adapt(Recorder& ops, Adapters adapters, int layer, AdaptedLinear linear, Value x, Value out) {
  std::vector<backend::Adapter> each = adapters_at(adapters, layer, linear);
  if (!each.empty()) ops.lora_linear(x, std::move(each), out);
}

}  // namespace

// Absorbed: queries are taken into the latents' space, and what attention gives out of it.
Value Decoder::record_latent_attention(Recorder& ops, Value x, KvCache& cache, int layer) const {
  const LatentAttention& w = *layers_[layer].latent;
  const LatentConfig& l = *config_.latent;
  const int nope_columns = config_.heads * (config_.key_dim - l.rope_dim);
  const int rope_columns = config_.heads * l.rope_dim;

  Value query_input = x;
  if (w.query_down) {
    const Value down = ops.linear(x, *w.query_down, nullptr, delicate_);
    query_input = ops.rms_norm(down, *w.query_norm, config_.rms_epsilon);  // [T, query_rank]
  }
  const Value query = ops.linear(query_input, *w.query, nullptr, delicate_);
  const Value q_nope = query.slice(0, nope_columns);                         // [T, heads, nope]
  const Value q_rope = query.slice(nope_columns, rope_columns);              // [T, heads, rope]
  const Value kv = ops.linear(x, *w.kv_down, nullptr, delicate_);            // [T, rank + rope]
  const Value k_rope = kv.slice(l.rank, l.rope_dim);
  const Value latent = ops.rms_norm(kv.slice(0, l.rank), *w.kv_norm, config_.rms_epsilon);
  const Value q_latent = ops.head_linear(q_nope, *w.key_up, delicate_);      // [T, heads, rank]
  ops.rope(q_rope, k_rope, l.rope_dim, rope_);
  ops.store_latent(latent, k_rope, cache, layer);
  const Value mixed =
      ops.mla_attention(q_latent, q_rope, cache, layer, config_.heads, config_.score_scale);
  return ops.head_linear(mixed, *w.value_up, outside_experts_);              // [T, heads, value]
}

Value Decoder::record_attention(Recorder& ops, Value x, KvCache& cache, Adapters adapters,
                                int layer) const {
  const Layer& w = layers_[layer];
  if (w.latent) return record_latent_attention(ops, x, cache, layer);
  const int q_columns = config_.heads * config_.key_dim;
  const int k_columns = config_.kv_heads * config_.key_dim;
  const int v_columns = config_.kv_heads * config_.value_dim;

  const Value qkv = ops.linear(x, *w.qkv, w.qkv_bias.get(), delicate_);  // [T, q + k + v]
  Value q = qkv.slice(0, q_columns);                                     // [T, heads, key_dim]
  Value k = qkv.slice(q_columns, k_columns);                             // [T, kv_heads, key_dim]
  const Value v = qkv.slice(q_columns + k_columns, v_columns);           // [T, kv_heads, value_dim]
  adapt(ops, adapters, layer, AdaptedLinear::query, x, q);
  adapt(ops, adapters, layer, AdaptedLinear::key, x, k);
  adapt(ops, adapters, layer, AdaptedLinear::value, x, v);
  if (w.q_norm) {
    q = ops.rms_norm(q, *w.q_norm, config_.rms_epsilon);
    k = ops.rms_norm(k, *w.k_norm, config_.rms_epsilon);
  }
  const bool has_window = config_.has_window(layer);
  ops.rope(q, k, config_.key_dim, has_window ? window_rope_ : rope_);
  ops.store_kv(k, v, cache, layer);
  return ops.attention(q, cache, layer,
                       {.heads = config_.heads,
                        .scale = config_.score_scale,
                        .window = has_window ? config_.window : 0,
                        .sinks = w.sinks.get()});
}

Value Decoder::record_experts(Recorder& ops, Value x, int layer) const {
  const Layer& w = layers_[layer];
  backend::Router router = config_.experts->router;
  router.selection_bias = w.router_bias.get();
  const Value logits = ops.linear(x, *w.router, w.logit_bias.get());  // [T, experts]
  const Recorder::Routed routed = ops.route(logits, router);  // [T, top_k]
  const Value gate_up =
      ops.expert_linear(x, *w.gate_up, routed.ids, {}, robust_,
                        w.gate_up_bias.get());  // [T, top_k · 2F]
  const Value inner = gather(
      ops, ops.gated_activation(gate_up, config_.activation, router.top_k), share_.expert(),
      router.top_k);  // [T, top_k · F]
  Value out = ops.expert_linear(inner, *w.down, routed.ids, routed.weights, robust_,
                                w.down_bias.get());  // [T, H]
  if (w.shared_gate_up) {
    const Value shared_gate_up = ops.linear(x, *w.shared_gate_up, nullptr, robust_);
    const Value shared_inner =
        gather(ops, ops.gated_activation(shared_gate_up, config_.activation), share_.shared());
    out = ops.add(out, ops.linear(shared_inner, *w.shared_down, nullptr, robust_));
  }
  return gather(ops, out, share_.hidden());
}

Value Decoder::record_feed_forward(Recorder& ops, Value x, Adapters adapters, int layer) const {
  if (config_.has_experts(layer)) return record_experts(ops, x, layer);
  const Layer& w = layers_[layer];
  const Value gate_up = ops.linear(x, *w.gate_up, nullptr, outside_experts_);  // [T, 2F]
  adapt(ops, adapters, layer, AdaptedLinear::gate, x, gate_up.slice(0, config_.feed_forward));
  adapt(ops, adapters, layer, AdaptedLinear::up, x,
        gate_up.slice(config_.feed_forward, config_.feed_forward));
  const Value inner = gather(ops, ops.gated_activation(gate_up, config_.activation),
                             share_.feed_forward());  // [T, F]
  const Value out =
      gather(ops, ops.linear(inner, *w.down, nullptr, outside_experts_), share_.hidden());  // [T, H]
  adapt(ops, adapters, layer, AdaptedLinear::down, inner, out);
  return out;
}

// Returns the next layer's normed input.
Value Decoder::record_layer(Recorder& ops, Value x, Value& residual, KvCache& cache,
                            Adapters adapters, int layer, const backend::Weight& next_norm,
                            Goes rows) const {
  const Layer& w = layers_[layer];
  Value heads = record_attention(ops, x, cache, adapters, layer);  // [T, heads · value]
  if (rows == Goes::outputs) {
    heads = ops.gather_rows(heads);        // [R, heads · value]
    residual = ops.gather_rows(residual);  // [R, H]
  }
  heads = gather(ops, heads, share_.attention());  // of all ranks
  x = gather(ops,
             ops.linear(heads, *w.attention_output, w.attention_output_bias.get(),
                        outside_experts_),
             share_.hidden());  // [T, H]
  adapt(ops, adapters, layer, AdaptedLinear::attention_output, heads, x);
  if (w.attention_post_norm) x = ops.rms_norm(x, *w.attention_post_norm, config_.rms_epsilon);
  x = ops.add_rms_norm(x, residual, *w.feed_forward_norm, config_.rms_epsilon);
  x = record_feed_forward(ops, x, adapters, layer);  // [T, H]
  if (w.feed_forward_post_norm) {
    x = ops.rms_norm(x, *w.feed_forward_post_norm, config_.rms_epsilon);
  }
  return ops.add_rms_norm(x, residual, next_norm, config_.rms_epsilon);
}

// `rows` go on behind the last layer's attention: from there on no token looks at another.
Value Decoder::record_layers(Recorder& ops, KvCache& cache, Adapters adapters, Goes rows) const {
  Value residual = ops.embed(*embedding_);  // [T, H]
  if (config_.embedding_scale != 1) residual = ops.scale(residual, config_.embedding_scale);
  Value x = ops.rms_norm(residual, *layers_[0].attention_norm, config_.rms_epsilon);
  for (int layer = 0; layer < config_.layers; ++layer) {
    const bool is_last = layer + 1 == config_.layers;
    const backend::Weight& next_norm = is_last ? *output_norm_ : *layers_[layer + 1].attention_norm;
    x = record_layer(ops, x, residual, cache, adapters, layer, next_norm,
                     is_last ? rows : Goes::all);
  }
  return x;
}

Value Decoder::record_hidden(Recorder& ops, KvCache& cache, Adapters adapters) const {
  return record_layers(ops, cache, adapters, Goes::outputs);  // [R, H]
}

Value Decoder::record(Recorder& ops, KvCache& cache, Adapters adapters) const {
  const Value hidden = record_hidden(ops, cache, adapters);
  return record_logits(ops, hidden, output_ ? *output_ : *embedding_);
}

Decoder::Predicted Decoder::record_predicting(Recorder& ops, KvCache& cache,
                                              Adapters adapters) const {
  const Value hidden = record_layers(ops, cache, adapters, Goes::all);  // [T, H]
  const Value rows = ops.gather_rows(hidden);                           // [R, H]
  return {record_logits(ops, rows, output_ ? *output_ : *embedding_), hidden};
}

Value Decoder::record_guessing(Recorder& ops, KvCache& cache) const {
  const Guessing& g = *guessing_;
  const Value hidden = ops.given(backend::Rows::tokens, config_.hidden);
  const Value both = ops.blank(backend::Rows::tokens, 2 * config_.hidden);
  const Value next = ops.embed(g.embedding ? *g.embedding : *embedding_);  // [T, H]
  ops.rms_norm(next, *g.token_norm, config_.rms_epsilon, both.slice(0, config_.hidden));
  ops.rms_norm(hidden, *g.hidden_norm, config_.rms_epsilon,
               both.slice(config_.hidden, config_.hidden));
  Value residual =
      gather(ops, ops.linear(both, *g.join, nullptr, delicate_), share_.hidden());  // [T, H]
  const int layer = config_.layers;
  const Value x = ops.rms_norm(residual, *layers_[layer].attention_norm, config_.rms_epsilon);
  return record_layer(ops, x, residual, cache, /*adapters=*/{}, layer,
                      g.output_norm ? *g.output_norm : *output_norm_, Goes::outputs);  // [R, H]
}

Value Decoder::record_guess(Recorder& ops) const {
  const Guessing& g = *guessing_;
  const backend::Weight& model_output = output_ ? *output_ : *embedding_;
  const Value hidden = ops.given(backend::Rows::outputs, config_.hidden);
  return record_logits(ops, hidden, g.output ? *g.output : model_output);
}

}  // namespace ridge::model
