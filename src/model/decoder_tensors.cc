#include "model/decoder_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>

#include "base/error.h"

namespace ridge::model {

namespace {

using backend::WeightSource;
using backend::WeightUse;

class Finder {
 public:
  explicit Finder(const format::GgufFile& file) : file_(file) {}

  TensorView matrix(const std::string& name, int64_t rows, int64_t columns) {
    const TensorView& view = file_.tensor(name).view;
    if (view.shape != Shape{rows, columns}) refuse_shape(name, view.shape, Shape{rows, columns});
    return take(name, view);
  }
  // [experts, rows, columns].
  TensorView matrices(const std::string& name, int64_t experts, int64_t rows, int64_t columns) {
    const TensorView& view = file_.tensor(name).view;
    const Shape expected{experts, rows, columns};
    if (view.shape != expected) refuse_shape(name, view.shape, expected);
    return take(name, view);
  }
  TensorView vector(const std::string& name, int64_t size) {
    const TensorView& view = file_.tensor(name).view;
    if (view.shape.elements() != size || view.shape.columns() != size) {
      refuse_shape(name, view.shape, Shape{size});
    }
    return take(name, view);
  }
  // A vector for each expert, [experts, size].
  TensorView vectors(const std::string& name, int64_t experts, int64_t size) {
    const TensorView& view = file_.tensor(name).view;
    const Shape expected{experts, size};
    if (view.shape != expected) refuse_shape(name, view.shape, expected);
    return take(name, view);
  }
  // Nothing of the file's that begins so is used, on purpose.
  void leave_out(const std::string& prefix) { left_out_.push_back(prefix); }

  bool contains(const std::string& name) const { return file_.find(name) != nullptr; }
  void ready(const TensorView& view) const { file_.ready(view); }

  void refuse_unused() const {
    for (const format::GgufTensor& tensor : file_.tensors()) check_used(tensor.name);
    for (const format::GgufUnsupportedTensor& tensor : file_.unsupported_tensors()) {
      check_used(tensor.name);
    }
  }

 private:
  TensorView take(const std::string& name, const TensorView& view) {
    used_.insert(name);
    return view;
  }
  [[noreturn]] static void refuse_shape(const std::string& name, const Shape& shape,
                                        const Shape& expected) {
    throw Error(ErrorCode::invalid_file, fmt::format("tensor {} has shape {}; {} is expected", name,
                                                     to_string(shape), to_string(expected)));
  }
  void check_used(const std::string& name) const {
    // RoPE frequencies: the first is read with the configuration, the others repeat the metadata.
    const bool is_rope = name == "rope_freqs.weight" || name.ends_with(".attn_rot_embd.weight") ||
                         name.ends_with(".attn_rot_embd.freqs") ||
                         name.ends_with(".rope_freqs.weight");
    const bool is_left_out = std::ranges::any_of(
        left_out_, [&](const std::string& prefix) { return name.starts_with(prefix); });
    if (is_rope || is_left_out || used_.contains(name)) return;
    throw Error(
        ErrorCode::unsupported,
        fmt::format("the file has a tensor '{}', which the architecture '{}' has no use for "
                    "in this build",
                    name.substr(0, 80), file_.architecture()));
  }

  const format::GgufFile& file_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> left_out_;
};

WeightSource source(std::string name, std::vector<TensorView> segments,
                    WeightUse use = WeightUse::linear) {
  return {.name = std::move(name), .segments = std::move(segments), .use = use};
}

// [heads, rows, columns], each head's for its own run of x.
WeightSource source_by_heads(std::string name, TensorView heads) {
  WeightSource made = source(std::move(name), {std::move(heads)});
  made.by_heads = true;
  return made;
}

// Rows [first, first + rows) of a matrix.
TensorView rows_of(const TensorView& view, int64_t first, int64_t rows) {
  const size_t row = row_bytes(view.dtype, view.shape.columns());
  return {view.dtype, Shape{rows, view.shape.columns()},
          view.bytes.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(rows) * row)};
}

// Of each of `heads` equal runs of rows, the rows [first, first + rows), copied: [heads, rows,
// columns].
TensorView gather_heads(const TensorView& view, int heads, int64_t first, int64_t rows,
                        std::vector<std::vector<std::byte>>& owned) {
  const int64_t head_rows = view.shape.rows() / heads;
  std::vector<std::byte> bytes;
  for (int head = 0; head < heads; ++head) {
    const std::span<const std::byte> part = rows_of(view, head * head_rows + first, rows).bytes;
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  owned.push_back(std::move(bytes));
  return {view.dtype, Shape{heads, rows, view.shape.columns()}, owned.back()};
}

WeightSource find_vector(Finder& find, const std::string& name, int size) {
  return source(name, {find.vector(name, size)}, WeightUse::vector);
}

LatentTensors find_latent(Finder& find, const ModelConfig& c, const std::string& blk,
                          std::vector<std::vector<std::byte>>& owned) {
  const LatentConfig& l = *c.latent;
  const int nope = c.key_dim - l.rope_dim;
  const auto vector = [&](const std::string& name, int size) {
    return find_vector(find, blk + name, size);
  };
  LatentTensors t;
  std::string query = "attn_q.weight";
  if (l.query_rank > 0) {
    query = "attn_q_b.weight";
    t.query_down =
        source(blk + "attn_q_a", {find.matrix(blk + "attn_q_a.weight", l.query_rank, c.hidden)});
    t.query_norm = vector("attn_q_a_norm.weight", l.query_rank);
  }
  const TensorView heads = find.matrix(blk + query, int64_t{c.heads} * c.key_dim,
                                       l.query_rank > 0 ? l.query_rank : c.hidden);
  t.query = source(blk + query, {});
  for (int head = 0; head < c.heads; ++head) {
    t.query.segments.push_back(rows_of(heads, int64_t{head} * c.key_dim, nope));
  }
  for (int head = 0; head < c.heads; ++head) {
    t.query.segments.push_back(rows_of(heads, int64_t{head} * c.key_dim + nope, l.rope_dim));
  }
  t.kv_down = source(blk + "attn_kv_a_mqa",
                     {find.matrix(blk + "attn_kv_a_mqa.weight", l.rank + l.rope_dim, c.hidden)});
  t.kv_norm = vector("attn_kv_a_norm.weight", l.rank);
  const std::string both = blk + "attn_kv_b.weight";
  if (!find.contains(both) || find.contains(blk + "attn_k_b.weight")) {
    find.leave_out(both);  // the same weights in the older convention, where a file has both
    t.key_up = source_by_heads(blk + "attn_k_b",
                               find.matrices(blk + "attn_k_b.weight", c.heads, l.rank, nope));
    t.value_up = source_by_heads(
        blk + "attn_v_b", find.matrices(blk + "attn_v_b.weight", c.heads, c.value_dim, l.rank));
    return t;
  }
  const TensorView kv = find.matrix(both, int64_t{c.heads} * (nope + c.value_dim), l.rank);
  find.ready(kv);
  t.key_up = source_by_heads(blk + "attn_k_b", gather_heads(kv, c.heads, 0, nope, owned));
  t.key_up.transposed = true;
  t.value_up =
      source_by_heads(blk + "attn_v_b", gather_heads(kv, c.heads, nope, c.value_dim, owned));
  return t;
}

// What several linears of each expert add to their rows, expert by expert as the rows are.
WeightSource find_expert_biases(Finder& find, const std::string& blk,
                                std::initializer_list<const char*> roles, int experts, int size) {
  std::vector<TensorView> biases;
  for (const char* role : roles) biases.push_back(find.vectors(blk + role, experts, size));
  WeightSource joined = source(blk + *roles.begin(), {}, WeightUse::vector);
  for (int expert = 0; expert < experts; ++expert) {
    for (const TensorView& each : biases) joined.segments.push_back(rows_of(each, expert, 1));
  }
  return joined;
}

void find_feed_forward(Finder& find, const ModelConfig& c, const FamilyTraits& family, int layer,
                       LayerTensors& t) {
  const std::string blk = fmt::format("blk.{}.", layer);
  if (!c.has_experts(layer)) {
    t.gate_up =
        source(blk + "ffn_gate_up", {find.matrix(blk + "ffn_gate.weight", c.feed_forward, c.hidden),
                                     find.matrix(blk + "ffn_up.weight", c.feed_forward, c.hidden)});
    t.down =
        source(blk + "ffn_down", {find.matrix(blk + "ffn_down.weight", c.hidden, c.feed_forward)});
    return;
  }
  const int experts = c.experts->router.experts;
  const int inner = c.experts->feed_forward;
  t.router =
      source(blk + "ffn_gate_inp", {find.matrix(blk + "ffn_gate_inp.weight", experts, c.hidden)});
  t.gate_up = source(blk + "ffn_gate_up_exps",
                     {find.matrices(blk + "ffn_gate_exps.weight", experts, inner, c.hidden),
                      find.matrices(blk + "ffn_up_exps.weight", experts, inner, c.hidden)});
  t.down = source(blk + "ffn_down_exps",
                  {find.matrices(blk + "ffn_down_exps.weight", experts, c.hidden, inner)});
  if (find.contains(blk + "exp_probs_b.bias")) {
    t.router_bias = find_vector(find, blk + "exp_probs_b.bias", experts);
  }
  if (family.has_expert_bias) {
    t.logit_bias = find_vector(find, blk + "ffn_gate_inp.bias", experts);
    t.gate_up_bias = find_expert_biases(find, blk, {"ffn_gate_exps.bias", "ffn_up_exps.bias"},
                                        experts, inner);
    t.down_bias = find_expert_biases(find, blk, {"ffn_down_exps.bias"}, experts, c.hidden);
  }
  const int shared = c.experts->shared_feed_forward;
  if (shared == 0) return;
  t.shared_gate_up = source(blk + "ffn_gate_up_shexp",
                            {find.matrix(blk + "ffn_gate_shexp.weight", shared, c.hidden),
                             find.matrix(blk + "ffn_up_shexp.weight", shared, c.hidden)});
  t.shared_down = source(blk + "ffn_down_shexp",
                         {find.matrix(blk + "ffn_down_shexp.weight", c.hidden, shared)});
}

LayerTensors find_layer(Finder& find, const ModelConfig& c, const FamilyTraits& family, int layer,
                        std::vector<std::vector<std::byte>>& owned) {
  const std::string blk = fmt::format("blk.{}.", layer);
  const int q = c.heads * c.key_dim;
  const int k = c.kv_heads * c.key_dim;
  const int v = c.kv_heads * c.value_dim;
  const auto vector = [&](const std::string& name, int size) {
    return find_vector(find, blk + name, size);
  };
  LayerTensors t;
  t.attention_norm = vector("attn_norm.weight", c.hidden);
  if (c.latent) {
    t.latent = find_latent(find, c, blk, owned);
  } else {
    t.qkv = source(blk + "attn_qkv", {find.matrix(blk + "attn_q.weight", q, c.hidden),
                                      find.matrix(blk + "attn_k.weight", k, c.hidden),
                                      find.matrix(blk + "attn_v.weight", v, c.hidden)});
  }
  if (family.needs_qkv_bias || (!c.latent && find.contains(blk + "attn_q.bias"))) {
    t.qkv_bias = source(blk + "attn_qkv.bias",
                        {find.vector(blk + "attn_q.bias", q), find.vector(blk + "attn_k.bias", k),
                         find.vector(blk + "attn_v.bias", v)},
                        WeightUse::vector);
  }
  if (family.has_qk_norm) {
    t.q_norm = vector("attn_q_norm.weight", c.key_dim);
    t.k_norm = vector("attn_k_norm.weight", c.key_dim);
  }
  t.attention_output =
      source(blk + "attn_output",
             {find.matrix(blk + "attn_output.weight", c.hidden, c.heads * c.value_dim)});
  if (find.contains(blk + "attn_output.bias")) {
    t.attention_output_bias = vector("attn_output.bias", c.hidden);
  }
  if (family.has_post_norms) {
    t.attention_post_norm = vector("post_attention_norm.weight", c.hidden);
    t.feed_forward_post_norm = vector("post_ffw_norm.weight", c.hidden);
  }
  if (family.has_sinks) t.sinks = vector("attn_sinks.weight", c.heads);
  t.feed_forward_norm = vector(std::string(family.feed_forward_norm), c.hidden);
  find_feed_forward(find, c, family, layer, t);
  return t;
}

void visit_layer(const LayerTensors& t, const std::function<void(const WeightSource&)>& visit) {
  if (t.latent) {
    for (const auto* each : {&t.latent->query, &t.latent->kv_down, &t.latent->kv_norm,
                             &t.latent->key_up, &t.latent->value_up}) {
      visit(*each);
    }
    for (const auto* each : {&t.latent->query_down, &t.latent->query_norm}) {
      if (*each) visit(**each);
    }
  } else {
    visit(t.qkv);
  }
  for (const auto* each :
       {&t.attention_norm, &t.attention_output, &t.feed_forward_norm, &t.gate_up, &t.down}) {
    visit(*each);
  }
  for (const auto* each :
       {&t.qkv_bias, &t.q_norm, &t.k_norm, &t.sinks, &t.attention_output_bias,
        &t.attention_post_norm, &t.feed_forward_post_norm, &t.router, &t.router_bias,
        &t.logit_bias, &t.shared_gate_up, &t.shared_down, &t.gate_up_bias, &t.down_bias}) {
    if (*each) visit(**each);
  }
}

GuessingTensors find_guessing(Finder& find, const ModelConfig& c, const FamilyTraits& family,
                              std::vector<std::vector<std::byte>>& owned) {
  const std::string nextn = fmt::format("blk.{}.nextn.", c.layers);
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns, WeightUse use) {
    return source(nextn + name, {find.matrix(nextn + name + ".weight", rows, columns)}, use);
  };
  GuessingTensors t;
  if (find.contains(nextn + "embed_tokens.weight")) {
    t.embedding = matrix("embed_tokens", c.vocab_size, c.hidden, WeightUse::embedding);
  }
  t.token_norm = find_vector(find, nextn + "enorm.weight", c.hidden);
  t.hidden_norm = find_vector(find, nextn + "hnorm.weight", c.hidden);
  t.join = matrix("eh_proj", c.hidden, int64_t{2} * c.hidden, WeightUse::linear);
  t.layer = find_layer(find, c, family, c.layers, owned);
  if (find.contains(nextn + "shared_head_norm.weight")) {
    t.output_norm = find_vector(find, nextn + "shared_head_norm.weight", c.hidden);
  }
  if (find.contains(nextn + "shared_head_head.weight")) {
    t.output = matrix("shared_head_head", c.vocab_size, c.hidden, WeightUse::linear);
  }
  return t;
}

}  // namespace

uint64_t file_bytes(const WeightSource& source) {
  uint64_t bytes = 0;
  for (const TensorView& segment : source.segments) bytes += segment.bytes.size();
  const bool is_cut = source.shard.axis != backend::Shard::Axis::none;
  return is_cut ? bytes / static_cast<uint64_t>(source.shard.ranks) : bytes;
}

void for_each_source(const DecoderTensors& tensors,
                     const std::function<void(const WeightSource&)>& visit) {
  visit(tensors.embedding);
  for (const LayerTensors& layer : tensors.layers) visit_layer(layer, visit);
  visit(tensors.output_norm);
  if (tensors.output) visit(*tensors.output);
  if (!tensors.guessing) return;
  const GuessingTensors& guessing = *tensors.guessing;
  for (const auto* each : {&guessing.token_norm, &guessing.hidden_norm, &guessing.join}) {
    visit(*each);
  }
  visit_layer(guessing.layer, visit);
  for (const auto* each : {&guessing.embedding, &guessing.output_norm, &guessing.output}) {
    if (*each) visit(**each);
  }
}

DecoderTensors find_tensors(const format::GgufFile& file, const ModelConfig& config, bool guesses) {
  Finder find(file);
  const FamilyTraits& family = find_family(config.architecture);
  DecoderTensors tensors;
  tensors.embedding = source(
      "token_embd", {find.matrix("token_embd.weight", config.vocab_size, config.hidden)},
      config.has_tied_embeddings ? WeightUse::embedding | WeightUse::linear : WeightUse::embedding);
  for (int layer = 0; layer < config.layers; ++layer) {
    tensors.layers.push_back(find_layer(find, config, family, layer, tensors.owned));
  }
  tensors.output_norm = source(
      "output_norm.weight", {find.vector("output_norm.weight", config.hidden)}, WeightUse::vector);
  if (!config.has_tied_embeddings) {
    tensors.output =
        source("output", {find.matrix("output.weight", config.vocab_size, config.hidden)});
  }
  if (guesses && config.can_guess) {
    tensors.guessing = find_guessing(find, config, family, tensors.owned);
  }
  // One is run, whose tensors are all known; those of further ones are left out.
  for (int layer = tensors.guessing ? 1 : 0; layer < config.guessing_layers; ++layer) {
    find.leave_out(fmt::format("blk.{}.", config.layers + layer));
  }
  find.refuse_unused();
  // What stacked_shape would refuse at load is refused before anything is allocated.
  for_each_source(tensors, [](const WeightSource& each) { stacked_shape(each); });
  for_each_source(tensors, [&](const WeightSource& each) { tensors.bytes += file_bytes(each); });
  return tensors;
}

std::map<std::string, std::vector<std::string>, std::less<>> names_of_parts(
    const format::GgufFile& file, const DecoderTensors& tensors) {
  std::map<const std::byte*, const format::GgufTensor*> by_address;
  for (const format::GgufTensor& tensor : file.tensors()) {
    by_address.emplace(tensor.view.bytes.data(), &tensor);
  }
  const auto tensor_at = [&](const std::byte* at) -> const format::GgufTensor* {
    const auto behind = by_address.upper_bound(at);
    if (behind == by_address.begin()) return nullptr;
    const format::GgufTensor* tensor = std::prev(behind)->second;
    return at < tensor->view.bytes.data() + tensor->view.bytes.size() ? tensor : nullptr;
  };
  std::map<std::string, std::vector<std::string>, std::less<>> names;
  for_each_source(tensors, [&](const WeightSource& source) {
    std::vector<std::string>& parts = names[source.name];
    for (const TensorView& segment : source.segments) {
      const format::GgufTensor* tensor = tensor_at(segment.bytes.data());
      if (tensor == nullptr || std::ranges::find(parts, tensor->name) != parts.end()) continue;
      parts.push_back(tensor->name);
    }
  });
  return names;
}

}  // namespace ridge::model
