#include "model/decoder_tensors.h"

#include <fmt/format.h>

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
  TensorView vector(const std::string& name, int64_t size) {
    const TensorView& view = file_.tensor(name).view;
    if (view.shape.elements() != size || view.shape.columns() != size) {
      refuse_shape(name, view.shape, Shape{size});
    }
    return take(name, view);
  }
  bool contains(const std::string& name) const { return file_.find(name) != nullptr; }

  uint64_t bytes() const { return bytes_; }

  void refuse_unused() const {
    for (const format::GgufTensor& tensor : file_.tensors()) check_used(tensor.name);
    for (const format::GgufUnsupportedTensor& tensor : file_.unsupported_tensors()) {
      check_used(tensor.name);
    }
  }

 private:
  TensorView take(const std::string& name, const TensorView& view) {
    used_.insert(name);
    bytes_ += view.bytes.size();
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
    if (is_rope || used_.contains(name)) return;
    throw Error(
        ErrorCode::unsupported,
        fmt::format("the file has a tensor '{}', which the architecture '{}' has no use for "
                    "in this build",
                    name.substr(0, 80), file_.architecture()));
  }

  const format::GgufFile& file_;
  std::set<std::string, std::less<>> used_;
  uint64_t bytes_ = 0;
};

WeightSource source(std::string name, std::vector<TensorView> segments,
                    WeightUse use = WeightUse::linear) {
  return {.name = std::move(name), .segments = std::move(segments), .use = use};
}

LayerTensors find_layer(Finder& find, const ModelConfig& c, bool needs_qkv_bias, int layer) {
  const std::string blk = fmt::format("blk.{}.", layer);
  const int q = c.heads * c.key_dim;
  const int k = c.kv_heads * c.key_dim;
  const int v = c.kv_heads * c.value_dim;
  const auto vector = [&](const std::string& name, int size) {
    return source(blk + name, {find.vector(blk + name, size)}, WeightUse::vector);
  };
  LayerTensors t;
  t.attention_norm = vector("attn_norm.weight", c.hidden);
  t.qkv = source(blk + "attn_qkv", {find.matrix(blk + "attn_q.weight", q, c.hidden),
                                    find.matrix(blk + "attn_k.weight", k, c.hidden),
                                    find.matrix(blk + "attn_v.weight", v, c.hidden)});
  if (needs_qkv_bias || find.contains(blk + "attn_q.bias")) {
    t.qkv_bias = source(blk + "attn_qkv.bias",
                        {find.vector(blk + "attn_q.bias", q), find.vector(blk + "attn_k.bias", k),
                         find.vector(blk + "attn_v.bias", v)},
                        WeightUse::vector);
  }
  t.attention_output =
      source(blk + "attn_output",
             {find.matrix(blk + "attn_output.weight", c.hidden, c.heads * c.value_dim)});
  if (find.contains(blk + "attn_output.bias")) {
    t.attention_output_bias = vector("attn_output.bias", c.hidden);
  }
  t.feed_forward_norm = vector("ffn_norm.weight", c.hidden);
  t.gate_up =
      source(blk + "ffn_gate_up", {find.matrix(blk + "ffn_gate.weight", c.feed_forward, c.hidden),
                                   find.matrix(blk + "ffn_up.weight", c.feed_forward, c.hidden)});
  t.down =
      source(blk + "ffn_down", {find.matrix(blk + "ffn_down.weight", c.hidden, c.feed_forward)});
  return t;
}

}  // namespace

void for_each_source(const DecoderTensors& tensors,
                     const std::function<void(const WeightSource&)>& visit) {
  visit(tensors.embedding);
  for (const LayerTensors& t : tensors.layers) {
    for (const auto* each : {&t.attention_norm, &t.qkv, &t.attention_output, &t.feed_forward_norm,
                             &t.gate_up, &t.down}) {
      visit(*each);
    }
    if (t.qkv_bias) visit(*t.qkv_bias);
    if (t.attention_output_bias) visit(*t.attention_output_bias);
  }
  visit(tensors.output_norm);
  if (tensors.output) visit(*tensors.output);
}

DecoderTensors find_tensors(const format::GgufFile& file, const ModelConfig& config) {
  Finder find(file);
  const FamilyTraits& family = find_family(config.architecture);
  DecoderTensors tensors;
  tensors.embedding = source(
      "token_embd", {find.matrix("token_embd.weight", config.vocab_size, config.hidden)},
      config.has_tied_embeddings ? WeightUse::embedding | WeightUse::linear : WeightUse::embedding);
  for (int layer = 0; layer < config.layers; ++layer) {
    tensors.layers.push_back(find_layer(find, config, family.needs_qkv_bias, layer));
  }
  tensors.output_norm = source(
      "output_norm.weight", {find.vector("output_norm.weight", config.hidden)}, WeightUse::vector);
  if (!config.has_tied_embeddings) {
    tensors.output =
        source("output", {find.matrix("output.weight", config.vocab_size, config.hidden)});
  }
  find.refuse_unused();
  // What stacked_shape would refuse at load is refused before anything is allocated.
  for_each_source(tensors, [](const WeightSource& each) { stacked_shape(each); });
  tensors.bytes = find.bytes();
  return tensors;
}

}  // namespace ridge::model
