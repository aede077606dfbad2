#pragma once

#include <optional>
#include <string>
#include <vector>

#include "format/folder_json.h"
#include "format/gguf_writer.h"

namespace ridge::format {

// Which of the families of a model folder it is: what decides names and layouts of tensors.
enum class FolderFamily {
  llama,
  mixtral,
  qwen2,
  qwen3,
  qwen3_moe,
  gemma3,
  deepseek_v2,
  deepseek_v3,
  gpt_oss,
};

struct FolderExperts {
  int count = 0;
  int feed_forward = 0;  // of one
  int shared = 0;
  int dense_layers = 0;  // the first, which have no experts
};

struct FolderLatent {
  int query_rank = 0;  // 0: queries are one linear
  int rank = 0;
  int nope_dim = 0;  // of a head's key, without RoPE
  int rope_dim = 0;
  int value_dim = 0;
};

// A model's dimensions, each in a range that no product of a few can overflow.
struct FolderModel {
  FolderFamily family = FolderFamily::llama;
  std::string architecture;  // GGUF's: "deepseek2"
  int vocab_size = 0;
  int hidden = 0;
  int layers = 0;
  int guessing_layers = 0;  // behind them, for multi-token prediction
  int kept_guessing_layers = 0;  // the first of those, whose tensors the folder has
  int feed_forward = 0;
  int heads = 0;
  int kv_heads = 0;  // like head_dim, of a model without latents
  int head_dim = 0;
  bool has_tied_embeddings = false;
  std::optional<FolderExperts> experts;
  std::optional<FolderLatent> latent;
  std::vector<float> rope_divisors;  // of Llama 3's scaling, [head_dim / 2]; else empty
};

// Reads a folder's config.json. Throws invalid_file naming a field and its range, unsupported for a
// family or a variant of one that this build does not run, for models of more than text among them.
FolderModel read_folder_model(const FolderJson& config);

// Writes the same as GGUF's keys `ARCHITECTURE.*`, under the names that llama.cpp gives them.
void write_folder_model(const FolderJson& config, const FolderModel& model, GgufWriter& out);

}  // namespace ridge::format
