#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "tensor/view.h"

namespace ridge::model {

// The linears of a layer that a low-rank adapter may change.
enum class AdaptedLinear : uint8_t { query, key, value, attention_output, gate, up, down };
inline constexpr int adapted_linears = 7;

inline constexpr int adapter_rank_max = 4096;

// One linear's change: scale · B(A x).
struct AdapterPair {
  int layer = 0;
  AdaptedLinear linear = AdaptedLinear::query;
  std::string name;  // as the file has it, for messages
  TensorView down;   // A[r, K]
  TensorView up;     // B[N, r]
  float scale = 1;   // alpha / r, or alpha / sqrt(r)
};

// A LoRA adapter as files hold it: a GGUF file of general.type `adapter` as llama.cpp's
// convert_lora_to_gguf.py writes it, or a folder as Hugging Face's peft saves it
// (adapter_config.json and adapter_model.safetensors).
struct AdapterFile {
  std::string source;              // names it in messages
  std::string format;              // "GGUF" or "PEFT"
  std::string architecture;        // "llama"; a PEFT folder does not say
  std::string base_model;          // as the file says; may be empty
  std::vector<AdapterPair> pairs;  // by layer, then linear
  // Rows of Q and K stand as transformers has them, which rotates the two halves of a head.
  bool rotates_halves = false;

  // What the pairs point into.
  std::shared_ptr<const void> mapped;
  std::vector<std::vector<std::byte>> owned;

  uint64_t bytes() const;  // of all pairs
};

// Checks what can be known without the base model. Throws not_found, invalid_file naming the key or
// tensor, unsupported naming a feature that this build lacks: DoRA, trained embeddings, biases and
// whole modules among them.
AdapterFile read_adapter(const std::filesystem::path& path);

// Makes it an adapter of this model: checks architecture, layers and shapes, and brings the rows of
// Q and K into the model's order. Once for each adapter. Throws invalid_file.
void fit_adapter(AdapterFile& adapter, const ModelConfig& base);

std::string_view name(AdaptedLinear linear);  // "attn_q", as in GGUF files

// For the readers of the two formats; read_adapter chooses.
AdapterFile read_gguf_adapter(const std::filesystem::path& path);
AdapterFile read_peft_adapter(const std::filesystem::path& folder);

// Which linear of which layer a tensor belongs to.
struct AdapterPlace {
  int layer;
  AdaptedLinear linear;
};
// Of "LAYER.LINEAR", with the format's names of the linears; nothing where it is none of them.
std::optional<AdapterPlace> adapter_place(std::string_view text,
                                          std::string_view (*name_of)(AdaptedLinear));

// Brings the As and Bs of an adapter together, in whatever order they come.
class PairCollector {
 public:
  explicit PairCollector(std::string source) : source_(std::move(source)) {}
  // Throws invalid_file where the linear has one already.
  void add_down(int layer, AdaptedLinear linear, std::string name, const TensorView& view);
  void add_up(int layer, AdaptedLinear linear, std::string name, const TensorView& view);
  // Throws invalid_file where a half is missing, where shapes of two halves do not go together, or
  // where there is none at all.
  std::vector<AdapterPair> take();

 private:
  struct Half {
    int layer;
    AdaptedLinear linear;
    bool is_up;
    std::string name;
    TensorView view;
  };
  void add(Half half);

  std::string source_;
  std::vector<Half> halves_;
};

}  // namespace ridge::model
