#include "planner/outline.h"

#include <fmt/format.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "format/gguf_writer.h"

namespace ridge::planner {

namespace {

std::string outline_family(const ModelShape& shape) {
  const std::string text = shape.name + " " + shape.source;
  const auto names = [&](const char* word) { return text.find(word) != text.npos; };
  if (shape.latent) return "deepseek2";
  if (names("gpt-oss")) return "gpt-oss";
  if (names("Qwen3") || names("qwen3")) return shape.experts ? "qwen3moe" : "qwen3";
  if (names("Qwen") || names("qwen")) {
    if (!shape.experts) return "qwen2";
    throw Error(ErrorCode::unsupported,
                fmt::format("{} is a Qwen2 with experts, which this build does not run", shape.name));
  }
  return "llama";
}

class OutlineHeader {
 public:
  OutlineHeader(const ModelShape& shape, std::string family)
      : shape_(shape), family_(std::move(family)) {
    writer_.set_string("general.architecture", family_);
    writer_.set_string("general.type", "model");
    writer_.set_string("general.name", shape.name);
    set("block_count", shape.layers);
    set("context_length", shape.context_tokens);
    set("embedding_length", shape.hidden);
    set("feed_forward_length", shape.feed_forward);
    set("attention.head_count", shape.heads);
    writer_.set_float32(full("attention.layer_norm_rms_epsilon"), 1e-6f);
    if (shape.latent) {
      set_latent(*shape.latent);
    } else {
      set("attention.head_count_kv", shape.kv_heads);
      set("attention.key_length", shape.key_dim);
      set("attention.value_length", shape.value_dim);
    }
    if (family_ == "gpt-oss") set("attention.sliding_window", 128);  // of both sizes
    if (shape.experts) set_experts(*shape.experts);
  }

  std::vector<std::byte> to_bytes() const { return writer_.to_bytes(); }

 private:
  std::string full(const char* key) const { return fmt::format("{}.{}", family_, key); }
  void set(const char* key, int value) {
    writer_.set_uint32(full(key), static_cast<uint32_t>(value));
  }
  void set_latent(const LatentShape& latent) {
    if (latent.query_rank > 0) set("attention.q_lora_rank", latent.query_rank);
    set("attention.kv_lora_rank", latent.rank);
    set("attention.head_count_kv", 1);
    set("attention.key_length", latent.rank + latent.rope_dim);
    set("attention.value_length", latent.rank);
    set("attention.key_length_mla", shape_.key_dim);
    set("attention.value_length_mla", shape_.value_dim);
    set("rope.dimension_count", latent.rope_dim);
  }
  void set_experts(const ExpertShape& experts) {
    set("expert_count", experts.count);
    set("expert_used_count", experts.used);
    set("expert_feed_forward_length", experts.feed_forward);
    if (family_ != "deepseek2") return;
    set("expert_shared_count", experts.shared);
    set("leading_dense_block_count", experts.dense_layers);
    if (experts.groups == 0) return;
    // As DeepSeek-V3 has them, the one with groups: sigmoids, whose sum is divided out.
    set("expert_group_count", experts.groups);
    set("expert_group_used_count", experts.groups_used);
    set("expert_gating_func", 2);
    writer_.set_boolean(full("expert_weights_norm"), true);
  }

  const ModelShape& shape_;
  const std::string family_;
  format::GgufWriter writer_;
};

// Their bytes are zeros of memory that nobody writes.
class OutlineTensors {
 public:
  explicit OutlineTensors(DType weights) : weights_(weights) {}

  void matrix(const std::string& name, int64_t rows, int64_t columns) {
    check_blocks(name, columns);
    add(name, weights_, Shape{rows, columns});
  }
  void matrices(const std::string& name, int64_t count, int64_t rows, int64_t columns) {
    check_blocks(name, columns);
    add(name, weights_, Shape{count, rows, columns});
  }
  // The same, in Q8_0 where rows are no whole blocks: quantisers leave it so, as a head has few columns.
  void heads(const std::string& name, int64_t count, int64_t rows, int64_t columns) {
    const auto block = static_cast<int64_t>(traits(weights_).block_elements);
    add(name, columns % block == 0 ? weights_ : DType::q8_0, Shape{count, rows, columns});
  }
  // The same in float32, as files have routers.
  void plain_matrix(const std::string& name, int64_t rows, int64_t columns) {
    add(name, DType::f32, Shape{rows, columns});
  }
  void vector(const std::string& name, int64_t size) { add(name, DType::f32, Shape{size}); }

  std::vector<format::GgufPart> take() { return std::move(parts_); }
  uint64_t bytes() const { return bytes_; }

 private:
  void check_blocks(const std::string& name, int64_t columns) const {
    const auto block = static_cast<int64_t>(traits(weights_).block_elements);
    if (columns % block != 0) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("{} has rows of {} weights, which are no whole blocks of {} ({})",
                              name, columns, block, ridge::name(weights_)));
    }
  }
  void add(const std::string& name, DType dtype, const Shape& shape) {
    parts_.push_back({.name = name,
                      .dtype = dtype,
                      .shape = shape,
                      .bytes = {},
                      .make = [](int64_t, int64_t, std::span<std::byte>) {},
                      .release = [] {}});
    bytes_ += static_cast<uint64_t>(shape.rows()) * row_bytes(dtype, shape.columns());
  }

  const DType weights_;
  std::vector<format::GgufPart> parts_;
  uint64_t bytes_ = 0;
};

void add_attention(OutlineTensors& tensors, const ModelShape& shape, const std::string& family,
                   const std::string& blk) {
  const int q = shape.heads * shape.key_dim;
  const int k = shape.kv_heads * shape.key_dim;
  const int v = shape.kv_heads * shape.value_dim;
  const bool is_gpt_oss = family == "gpt-oss";
  for (const auto& [role, rows] : {std::pair{"attn_q", q}, {"attn_k", k}, {"attn_v", v}}) {
    tensors.matrix(blk + role + ".weight", rows, shape.hidden);
    if (family == "qwen2" || is_gpt_oss) tensors.vector(blk + role + ".bias", rows);
  }
  if (family.starts_with("qwen3")) {
    tensors.vector(blk + "attn_q_norm.weight", shape.key_dim);
    tensors.vector(blk + "attn_k_norm.weight", shape.key_dim);
  }
  if (!is_gpt_oss) return;
  tensors.vector(blk + "attn_sinks.weight", shape.heads);
  tensors.vector(blk + "attn_output.bias", shape.hidden);
}

void add_latent_attention(OutlineTensors& tensors, const ModelShape& shape,
                          const std::string& blk) {
  const LatentShape& latent = *shape.latent;
  const int q = shape.heads * shape.key_dim;
  if (latent.query_rank > 0) {
    tensors.matrix(blk + "attn_q_a.weight", latent.query_rank, shape.hidden);
    tensors.vector(blk + "attn_q_a_norm.weight", latent.query_rank);
    tensors.matrix(blk + "attn_q_b.weight", q, latent.query_rank);
  } else {
    tensors.matrix(blk + "attn_q.weight", q, shape.hidden);
  }
  tensors.matrix(blk + "attn_kv_a_mqa.weight", latent.rank + latent.rope_dim, shape.hidden);
  tensors.vector(blk + "attn_kv_a_norm.weight", latent.rank);
  tensors.heads(blk + "attn_k_b.weight", shape.heads, latent.rank,
                shape.key_dim - latent.rope_dim);
  tensors.heads(blk + "attn_v_b.weight", shape.heads, shape.value_dim, latent.rank);
}

void add_experts(OutlineTensors& tensors, const ModelShape& shape, const std::string& family,
                 const std::string& blk) {
  const ExpertShape& experts = *shape.experts;
  const int inner = experts.feed_forward;
  tensors.plain_matrix(blk + "ffn_gate_inp.weight", experts.count, shape.hidden);
  tensors.matrices(blk + "ffn_gate_exps.weight", experts.count, inner, shape.hidden);
  tensors.matrices(blk + "ffn_up_exps.weight", experts.count, inner, shape.hidden);
  tensors.matrices(blk + "ffn_down_exps.weight", experts.count, shape.hidden, inner);
  if (experts.groups > 0) tensors.vector(blk + "exp_probs_b.bias", experts.count);
  if (family == "gpt-oss") {
    tensors.vector(blk + "ffn_gate_inp.bias", experts.count);
    tensors.plain_matrix(blk + "ffn_gate_exps.bias", experts.count, inner);
    tensors.plain_matrix(blk + "ffn_up_exps.bias", experts.count, inner);
    tensors.plain_matrix(blk + "ffn_down_exps.bias", experts.count, shape.hidden);
  }
  if (experts.shared == 0) return;
  const int shared = experts.shared * inner;
  tensors.matrix(blk + "ffn_gate_shexp.weight", shared, shape.hidden);
  tensors.matrix(blk + "ffn_up_shexp.weight", shared, shape.hidden);
  tensors.matrix(blk + "ffn_down_shexp.weight", shape.hidden, shared);
}

}  // namespace

format::GgufFile outline_model(const ModelShape& shape, DType weights) {
  const std::string family = outline_family(shape);
  OutlineTensors tensors(weights);
  tensors.matrix("token_embd.weight", shape.vocab_size, shape.hidden);
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::string blk = fmt::format("blk.{}.", layer);
    tensors.vector(blk + "attn_norm.weight", shape.hidden);
    if (shape.latent) {
      add_latent_attention(tensors, shape, blk);
    } else {
      add_attention(tensors, shape, family, blk);
    }
    tensors.matrix(blk + "attn_output.weight", shape.hidden, shape.heads * shape.value_dim);
    tensors.vector(blk + (family == "gpt-oss" ? "post_attention_norm.weight" : "ffn_norm.weight"),
                   shape.hidden);
    if (layer >= shape.dense_layers()) {
      add_experts(tensors, shape, family, blk);
      continue;
    }
    tensors.matrix(blk + "ffn_gate.weight", shape.feed_forward, shape.hidden);
    tensors.matrix(blk + "ffn_up.weight", shape.feed_forward, shape.hidden);
    tensors.matrix(blk + "ffn_down.weight", shape.hidden, shape.feed_forward);
  }
  tensors.vector("output_norm.weight", shape.hidden);
  if (!shape.has_tied_embeddings) tensors.matrix("output.weight", shape.vocab_size, shape.hidden);
  const uint64_t bytes = tensors.bytes();
  return format::GgufFile::of_parts({.source = fmt::format("the outline of {}", shape.name),
                                     .header = OutlineHeader(shape, family).to_bytes(),
                                     .tensors = tensors.take(),
                                     .file_bytes = bytes,
                                     .advise = [](const TensorView&, format::Access) {}});
}

}  // namespace ridge::planner
