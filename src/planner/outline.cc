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
  if (shape.experts) {
    throw Error(
        ErrorCode::unsupported,
        fmt::format("{} has experts, whose work hangs on what a step computes: it cannot be "
                    "counted",
                    shape.name));
  }
  if (shape.latent) {
    throw Error(
        ErrorCode::unsupported,
        fmt::format("{} has latent attention: only its file can stand for it; pull it first",
                    shape.name));
  }
  const std::string text = shape.name + " " + shape.source;
  const auto names = [&](const char* word) { return text.find(word) != text.npos; };
  if (names("Qwen3") || names("qwen3")) return "qwen3";
  if (names("Qwen") || names("qwen")) return "qwen2";
  return "llama";
}

std::vector<std::byte> outline_header(const ModelShape& shape, const std::string& family) {
  format::GgufWriter writer;
  const auto set = [&](const char* key, int value) {
    writer.set_uint32(fmt::format("{}.{}", family, key), static_cast<uint32_t>(value));
  };
  writer.set_string("general.architecture", family);
  writer.set_string("general.type", "model");
  writer.set_string("general.name", shape.name);
  set("block_count", shape.layers);
  set("context_length", shape.context_tokens);
  set("embedding_length", shape.hidden);
  set("feed_forward_length", shape.feed_forward);
  set("attention.head_count", shape.heads);
  set("attention.head_count_kv", shape.kv_heads);
  set("attention.key_length", shape.key_dim);
  set("attention.value_length", shape.value_dim);
  writer.set_float32(family + ".attention.layer_norm_rms_epsilon", 1e-6f);
  return writer.to_bytes();
}

// Their bytes are zeros of memory that nobody writes.
class OutlineTensors {
 public:
  explicit OutlineTensors(DType weights) : weights_(weights) {}

  void matrix(const std::string& name, int64_t rows, int64_t columns) {
    const auto block = static_cast<int64_t>(traits(weights_).block_elements);
    if (columns % block != 0) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("{} has rows of {} weights, which are no whole blocks of {} ({})",
                              name, columns, block, ridge::name(weights_)));
    }
    add(name, weights_, Shape{rows, columns});
  }
  void vector(const std::string& name, int64_t size) { add(name, DType::f32, Shape{size}); }

  std::vector<format::GgufPart> take() { return std::move(parts_); }
  uint64_t bytes() const { return bytes_; }

 private:
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

}  // namespace

format::GgufFile outline_model(const ModelShape& shape, DType weights) {
  const std::string family = outline_family(shape);
  OutlineTensors tensors(weights);
  tensors.matrix("token_embd.weight", shape.vocab_size, shape.hidden);
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::string blk = fmt::format("blk.{}.", layer);
    const int q = shape.heads * shape.key_dim;
    const int k = shape.kv_heads * shape.key_dim;
    const int v = shape.kv_heads * shape.value_dim;
    tensors.vector(blk + "attn_norm.weight", shape.hidden);
    for (const auto& [role, rows] : {std::pair{"attn_q", q}, {"attn_k", k}, {"attn_v", v}}) {
      tensors.matrix(blk + role + ".weight", rows, shape.hidden);
      if (family == "qwen2") tensors.vector(blk + role + ".bias", rows);
    }
    if (family == "qwen3") {
      tensors.vector(blk + "attn_q_norm.weight", shape.key_dim);
      tensors.vector(blk + "attn_k_norm.weight", shape.key_dim);
    }
    tensors.matrix(blk + "attn_output.weight", shape.hidden, shape.heads * shape.value_dim);
    tensors.vector(blk + "ffn_norm.weight", shape.hidden);
    tensors.matrix(blk + "ffn_gate.weight", shape.feed_forward, shape.hidden);
    tensors.matrix(blk + "ffn_up.weight", shape.feed_forward, shape.hidden);
    tensors.matrix(blk + "ffn_down.weight", shape.hidden, shape.feed_forward);
  }
  tensors.vector("output_norm.weight", shape.hidden);
  if (!shape.has_tied_embeddings) tensors.matrix("output.weight", shape.vocab_size, shape.hidden);
  const uint64_t bytes = tensors.bytes();
  return format::GgufFile::of_parts({.source = fmt::format("the outline of {}", shape.name),
                                     .header = outline_header(shape, family),
                                     .tensors = tensors.take(),
                                     .file_bytes = bytes,
                                     .advise = [](const TensorView&, format::Access) {}});
}

}  // namespace ridge::planner
