#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/ops.h"
#include "format/gguf.h"

namespace ridge::model {

// How positions turn queries and keys; see rope.h for the formulas.
struct RopeConfig {
  enum class Scaling { none, linear, llama3, yarn };
  Scaling scaling = Scaling::none;
  backend::RopePairs pairs = backend::RopePairs::neox;
  int rotary_dim = 0;                     // even, at most the key's head_dim
  float base = 10000.0f;                  // θ, above 1
  float factor = 1.0f;                    // of all scalings
  int original_context_tokens = 0;        // llama3, yarn
  float low_frequency_factor = 1.0f;      // llama3
  float high_frequency_factor = 4.0f;     // llama3
  float beta_fast = 32.0f;                // yarn
  float beta_slow = 1.0f;                 // yarn
  bool rounds_pairs = true;  // yarn: the pairs at which its ramp begins and ends, outward
  float attention_factor = 1.0f;          // yarn: multiplies the magnitude
  // yarn: how scores grow with the logarithm of `factor`, 0.1 · mscale_all_dim of DeepSeek's files,
  // whose sine and cosine keep their magnitude; 0: none, 1 at most.
  float log_multiplier = 0.0f;
  std::vector<float> frequency_divisors;  // [rotary_dim / 2] or empty: `rope_freqs.weight`
};

// What sets one decoder family apart from another in GGUF files.
struct FamilyTraits {
  std::string_view architecture;  // general.architecture
  backend::RopePairs pairs;
  bool needs_qkv_bias = false;  // others may have one
  bool has_qk_norm = false;     // the heads of queries and keys are normed before RoPE
  bool is_latent = false;       // attention is over latents
  bool has_post_norms = false;  // what attention and feed-forward give is normed before it is added
  bool scales_embeddings = false;  // by √H
  backend::Activation activation = backend::Activation::silu;
  int full_layer_every = 1;  // the last of so many layers sees the whole context, the others a window
  bool windows_rotate_otherwise = false;  // layers with a window have a RoPE of their own
  bool rounds_yarn_pairs = true;          // RopeConfig::rounds_pairs, of which files say nothing
  bool has_sinks = false;        // a logit for each head, to which attention gives nothing
  bool has_expert_bias = false;  // routers and experts have biases
  std::string_view feed_forward_norm = "ffn_norm.weight";
  enum class Experts { none, optional, always };
  Experts experts = Experts::none;
};

// The families of this build. Throws unsupported naming them where `architecture` is none.
const FamilyTraits& find_family(std::string_view architecture);

// The feed-forward of a model of experts.
struct ExpertConfig {
  int feed_forward = 0;         // F of one expert, 1 to 2^20
  int shared_feed_forward = 0;  // of all experts that every token uses; 0: there are none
  int dense_layers = 0;         // the first layers, which have no experts
  backend::Router router;       // of 1 to 1024 experts; top_k · feed_forward is at most 2^22
};

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
struct LatentConfig {
  int query_rank = 0;  // 0: queries are one linear of the hidden state; else at most 2^16
  int rank = 0;        // of the latent, which is cached, 1 to 1024
  int rope_dim = 0;    // of the rotary part of a head's key, at most key_dim - 1
};

// Hyperparameters of a decoder. Every value is in its stated range, so that no later
// arithmetic on them can overflow or divide by zero.
struct ModelConfig {
  std::string architecture;          // "llama"
  std::string name;                  // general.name, may be empty
  int vocab_size = 0;                // rows of token_embd.weight, 1 to 2^24
  int context_tokens = 0;            // trained on, 1 to 2^28
  int hidden = 0;                    // H, 1 to 2^17
  int layers = 0;                    // 1 to 1024
  int guessing_layers = 0;           // behind them, for multi-token prediction
  bool can_guess = false;            // the file has the first of those
  int feed_forward = 0;              // F, 1 to 2^20; of layers without experts
  int heads = 0;                     // 1 to 1024
  int kv_heads = 0;                  // divides heads; latent attention: heads
  int key_dim = 0;                   // of one head, 2 to 1024
  int value_dim = 0;                 // of one head, 1 to 1024
  float rms_epsilon = 0;             // above 0, at most 1
  float embedding_scale = 1.0f;
  float score_scale = 0;             // of queries by keys, above 0
  int window = 0;                    // tokens that a layer with a window sees, itself included; 0: all
  int full_layer_every = 1;          // of so many layers the last has no window, above 0
  backend::Activation activation = backend::Activation::silu;
  bool has_tied_embeddings = false;  // the file has no output.weight
  std::optional<ExpertConfig> experts;
  std::optional<LatentConfig> latent;

  bool has_experts(int layer) const { return experts && layer >= experts->dense_layers; }
  bool has_window(int layer) const { return window > 0 && (layer + 1) % full_layer_every != 0; }
  RopeConfig rope;
  RopeConfig window_rope;  // of layers with a window
};

// Reads and checks the metadata. Throws invalid_file naming the key and its range, unsupported for
// a family, a RoPE scaling or experts that this build does not know.
ModelConfig read_config(const format::GgufFile& file);

}  // namespace ridge::model
