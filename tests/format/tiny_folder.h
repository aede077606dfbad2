#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/temporary_folder.h"
#include "format/model_folder.h"

namespace ridge::format {

// What a safetensors file holds of one tensor.
struct TinyTensor {
  std::string type = "F32";
  std::vector<int64_t> shape;
  std::string bytes;
};

inline TinyTensor tiny_floats(std::vector<int64_t> shape, const std::vector<float>& values) {
  TinyTensor tensor{"F32", std::move(shape), std::string(values.size() * 4, '\0')};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

inline TinyTensor tiny_zeros(std::vector<int64_t> shape) {
  int64_t elements = 1;
  for (int64_t extent : shape) elements *= extent;
  return tiny_floats(std::move(shape), std::vector<float>(static_cast<size_t>(elements)));
}

inline std::string safetensors_of(const std::map<std::string, TinyTensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.type},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = header.dump();
  const uint64_t size = text.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + text + data;
}

// A Llama of one layer in a folder, which can be written with one thing wrong. Two heads of 4,
// hidden 8, feed-forward 12, a vocabulary of 3; all zeros.
struct TinyFolder {
  nlohmann::json config = nlohmann::json::parse(R"({
    "model_type": "llama", "vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 1,
    "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true})");
  nlohmann::json tokenizer = nlohmann::json::parse(R"({
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}})");
  std::map<std::string, TinyTensor> tensors = {
      {"model.embed_tokens.weight", tiny_zeros({3, 8})},
      {"model.norm.weight", tiny_zeros({8})},
      {layer("input_layernorm.weight"), tiny_zeros({8})},
      {layer("post_attention_layernorm.weight"), tiny_zeros({8})},
      {layer("self_attn.q_proj.weight"), tiny_zeros({8, 8})},
      {layer("self_attn.k_proj.weight"), tiny_zeros({4, 8})},
      {layer("self_attn.v_proj.weight"), tiny_zeros({4, 8})},
      {layer("self_attn.o_proj.weight"), tiny_zeros({8, 8})},
      {layer("mlp.gate_proj.weight"), tiny_zeros({12, 8})},
      {layer("mlp.up_proj.weight"), tiny_zeros({12, 8})},
      {layer("mlp.down_proj.weight"), tiny_zeros({8, 12})},
  };
  std::map<std::string, std::string> files;  // written last, in place of what is above

  static std::string layer(const std::string& name) { return "model.layers.0." + name; }

  // Into a folder of the name `name` within `parent`.
  std::filesystem::path write(const TemporaryFolder& parent) const {
    const std::filesystem::path path = parent.path() / "tiny";
    std::filesystem::create_directory(path);
    parent.write("tiny/config.json", config.dump());
    parent.write("tiny/tokenizer.json", tokenizer.dump());
    parent.write("tiny/model.safetensors", safetensors_of(tensors));
    for (const auto& [name, text] : files) parent.write("tiny/" + name, text);
    return path;
  }
};

}  // namespace ridge::format
