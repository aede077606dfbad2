#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/gguf_writer.h"

namespace ridge::model {

// A Llama model of one layer that can be written with one thing wrong. Tensors are float32 zeros.
struct TinyModel {
  std::string architecture = "llama";
  std::map<std::string, int64_t> integers = {
      {"context_length", 64},      {"embedding_length", 8},     {"block_count", 1},
      {"feed_forward_length", 12}, {"attention.head_count", 2}, {"attention.head_count_kv", 1},
  };
  std::map<std::string, float> floats = {{"attention.layer_norm_rms_epsilon", 1e-5f}};
  std::map<std::string, std::string> strings;
  std::map<std::string, std::vector<int32_t>> integer_arrays;
  std::map<std::string, Shape> tensors = {
      {"token_embd.weight", Shape{10, 8}},       {"output_norm.weight", Shape{8}},
      {"blk.0.attn_norm.weight", Shape{8}},      {"blk.0.attn_q.weight", Shape{8, 8}},
      {"blk.0.attn_k.weight", Shape{4, 8}},      {"blk.0.attn_v.weight", Shape{4, 8}},
      {"blk.0.attn_output.weight", Shape{8, 8}}, {"blk.0.ffn_norm.weight", Shape{8}},
      {"blk.0.ffn_gate.weight", Shape{12, 8}},   {"blk.0.ffn_up.weight", Shape{12, 8}},
      {"blk.0.ffn_down.weight", Shape{8, 12}},
  };
  std::map<std::string, std::vector<float>> values;  // of tensors that are not zeros

  void set_qk_norm() {
    tensors.emplace("blk.0.attn_q_norm.weight", Shape{4});
    tensors.emplace("blk.0.attn_k_norm.weight", Shape{4});
  }

  // Norms of heads, norms behind, and a window for all layers but each sixth.
  void set_gemma() {
    architecture = "gemma3";
    set_qk_norm();
    integers["attention.sliding_window"] = 16;
    tensors.emplace("blk.0.post_attention_norm.weight", Shape{8});
    tensors.emplace("blk.0.post_ffw_norm.weight", Shape{8});
  }

  // Instead of the dense feed-forward: three experts of 6, of which a token uses two.
  void set_experts() {
    integers["expert_count"] = 3;
    integers["expert_used_count"] = 2;
    integers["expert_feed_forward_length"] = 6;
    for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"}) {
      tensors.erase(std::string("blk.0.") + name + ".weight");
    }
    tensors.emplace("blk.0.ffn_gate_inp.weight", Shape{3, 8});
    tensors.emplace("blk.0.ffn_gate_exps.weight", Shape{3, 6, 8});
    tensors.emplace("blk.0.ffn_up_exps.weight", Shape{3, 6, 8});
    tensors.emplace("blk.0.ffn_down_exps.weight", Shape{3, 8, 6});
  }

  // Instead of attention of heads: latents of 6, rotary keys of 2; heads whose keys are 3 + 2 and
  // whose values are 4; queries over a rank of 7. In the family's form of today, with experts.
  void set_latent() {
    architecture = "deepseek2";
    set_experts();
    for (const char* name : {"attn_q", "attn_k", "attn_v"}) {
      tensors.erase(std::string("blk.0.") + name + ".weight");
    }
    integers["attention.q_lora_rank"] = 7;
    integers["attention.kv_lora_rank"] = 6;
    integers["attention.key_length"] = 8;
    integers["attention.value_length"] = 6;
    integers["attention.key_length_mla"] = 5;
    integers["attention.value_length_mla"] = 4;
    integers["rope.dimension_count"] = 2;
    tensors.emplace("blk.0.attn_q_a.weight", Shape{7, 8});
    tensors.emplace("blk.0.attn_q_a_norm.weight", Shape{7});
    tensors.emplace("blk.0.attn_q_b.weight", Shape{10, 7});
    tensors.emplace("blk.0.attn_kv_a_mqa.weight", Shape{8, 8});
    tensors.emplace("blk.0.attn_kv_a_norm.weight", Shape{6});
    tensors.emplace("blk.0.attn_k_b.weight", Shape{2, 6, 3});
    tensors.emplace("blk.0.attn_v_b.weight", Shape{2, 4, 6});
  }

  // After set_latent: a layer for multi-token prediction behind the one, with embedding and head of
  // its own.
  void set_guessing() {
    integers["block_count"] = 2;
    integers["nextn_predict_layers"] = 1;
    std::map<std::string, Shape> layer;
    for (const auto& [name, shape] : tensors) {
      if (name.starts_with("blk.0.")) layer.emplace("blk.1." + name.substr(6), shape);
    }
    tensors.merge(layer);
    tensors.emplace("blk.1.nextn.enorm.weight", Shape{8});
    tensors.emplace("blk.1.nextn.hnorm.weight", Shape{8});
    tensors.emplace("blk.1.nextn.eh_proj.weight", Shape{8, 16});
    tensors.emplace("blk.1.nextn.embed_tokens.weight", Shape{10, 8});
    tensors.emplace("blk.1.nextn.shared_head_norm.weight", Shape{8});
    tensors.emplace("blk.1.nextn.shared_head_head.weight", Shape{10, 8});
  }

  // The file's bytes.
  std::vector<std::byte> write() const {
    format::GgufWriter writer;
    writer.set_string("general.architecture", architecture);
    const auto key = [&](const std::string& name) { return architecture + "." + name; };
    for (const auto& [name, value] : integers) {
      // Negative and huge numbers need the type that holds them.
      if (value >= 0) {
        writer.set_uint64(key(name), static_cast<uint64_t>(value));
      } else {
        writer.set_int32(key(name), static_cast<int32_t>(value));
      }
    }
    for (const auto& [name, value] : floats) writer.set_float32(key(name), value);
    for (const auto& [name, value] : strings) writer.set_string(key(name), value);
    for (const auto& [name, value] : integer_arrays) writer.set_int_array(key(name), value);
    for (const auto& [name, shape] : tensors) {
      const auto found = values.find(name);
      std::vector<float> data = found != values.end()
                                    ? found->second
                                    : std::vector<float>(static_cast<size_t>(shape.elements()));
      writer.add_tensor(name, DType::f32, shape, [data] {
        const auto bytes = std::as_bytes(std::span(data));
        return std::vector<std::byte>(bytes.begin(), bytes.end());
      });
    }
    return writer.to_bytes();
  }
};

}  // namespace ridge::model
