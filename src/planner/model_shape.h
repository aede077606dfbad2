#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::planner {

// The most that any dimension of a model may be.
inline constexpr int most_dimension = 1 << 24;

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): one latent and one rotary key of
// each token are cached for all heads.
struct LatentShape {
  int query_rank = 0;  // 0: queries are one linear of the hidden state
  int rank = 0;        // of the latent
  int rope_dim = 0;    // of the rotary key, part of key_dim
};

struct ExpertShape {
  int count = 0;
  int used = 0;          // by a token
  int shared = 0;        // that every token uses
  int feed_forward = 0;  // of one expert
  int dense_layers = 0;  // the first ones, which have no experts
  int groups = 0;        // that the router sees experts in; 0: none
  int groups_used = 0;   // groups that a token's experts are taken from; 0: any
};

// The dimensions of a decoder, which its cost follows from. Linears are counted in weights, which
// are as many multiply-adds for a token.
struct ModelShape {
  std::string name;
  std::string source;  // where the dimensions are from
  int vocab_size = 0;
  int hidden = 0;
  int layers = 0;
  int feed_forward = 0;  // of dense layers
  int heads = 0;
  int kv_heads = 0;
  int key_dim = 0;  // of one head
  int value_dim = 0;
  int context_tokens = 0;
  bool has_tied_embeddings = false;
  std::optional<LatentShape> latent;
  std::optional<ExpertShape> experts;
  int draft_layers = 0;  // for multi-token prediction; 0: the model guesses nothing
  std::string weights;   // the format in which it is published, or ""
  // Of a GGUF file, whose weights are as they are; else 0.
  double file_bits = 0;

  int dense_layers() const { return experts ? experts->dense_layers : layers; }
  int expert_layers() const { return layers - dense_layers(); }

  // Weights of one layer.
  double attention_weights() const;
  double feed_forward_weights() const;  // of a dense layer
  double expert_weights() const;        // of one expert
  double shared_weights() const;        // of the shared experts and the router
  double head_weights() const;          // of the head, or as much as the embedding
  // Weights of one module of multi-token prediction: eh_proj and one layer, but for its experts
  // with their router, and for head and embedding, which are the model's.
  double draft_weights() const;
  // All, with the embedding, without modules for drafts.
  double parameters() const;
  // That a token is multiplied by: of all experts, those it uses.
  double active_parameters() const;

  // Values that one token leaves in the cache, in all layers: 576 x layers for DeepSeek-V3.
  double cached_values() const;
  // Multiply-adds of one query token with one token of its context in one layer. Absorbed: over
  // latents (rank + rope_dim for the score, rank for the value); else over heads multiplied out.
  double attention_multiplies(bool absorbed) const;
};

// Throws invalid_file naming what does not fit together.
void check(const ModelShape& shape);

// Dimensions by name, of data/plan-models.toml.
class ModelTable {
 public:
  static ModelTable built_in();
  // Throws invalid_file.
  static ModelTable parse(std::string_view toml, std::string_view source);

  const std::vector<ModelShape>& models() const { return models_; }
  // nullptr where there is none.
  const ModelShape* find(std::string_view name) const;

 private:
  std::vector<ModelShape> models_;
  std::vector<std::pair<std::string, std::string>> aliases_;
};

// Of a GGUF file's metadata (any family whose keys are there), with its own bits a weight. Throws
// invalid_file, unsupported.
ModelShape read_gguf_shape(const std::filesystem::path& path);
// Of a config.json as transformers has it. Throws invalid_file, not_found, io.
ModelShape read_config_shape(const std::filesystem::path& path);

}  // namespace ridge::planner
