#include "model/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/rope.h"
#include "tensor/dequantize.h"

namespace ridge::model {

namespace {

constexpr FamilyTraits families[] = {
    // Mixtral is a llama with experts.
    {.architecture = "llama",
     .pairs = backend::RopePairs::interleaved,
     .experts = FamilyTraits::Experts::optional},
    {.architecture = "qwen2", .pairs = backend::RopePairs::neox, .needs_qkv_bias = true},
    {.architecture = "qwen3", .pairs = backend::RopePairs::neox, .has_qk_norm = true},
    {.architecture = "qwen3moe",
     .pairs = backend::RopePairs::neox,
     .has_qk_norm = true,
     .experts = FamilyTraits::Experts::always},
    {.architecture = "gemma3",
     .pairs = backend::RopePairs::neox,
     .has_qk_norm = true,
     .has_post_norms = true,
     .scales_embeddings = true,
     .activation = backend::Activation::gelu_tanh,
     .full_layer_every = 6,
     .windows_rotate_otherwise = true},
    {.architecture = "gpt-oss",
     .pairs = backend::RopePairs::neox,
     .needs_qkv_bias = true,
     .activation = backend::Activation::swiglu_oai,
     .full_layer_every = 2,
     .rounds_yarn_pairs = false,
     .has_sinks = true,
     .has_expert_bias = true,
     .feed_forward_norm = "post_attention_norm.weight",
     .experts = FamilyTraits::Experts::always},
    // DeepSeek V2, V3 and R1.
    {.architecture = "deepseek2",
     .pairs = backend::RopePairs::interleaved,
     .is_latent = true,
     .experts = FamilyTraits::Experts::optional},
};

// The keys of one architecture, each checked against a range.
class Reader {
 public:
  explicit Reader(const format::GgufFile& file)
      : metadata_(file.metadata()), prefix_(std::string(file.architecture()) + ".") {}

  int integer(std::string_view key, int least, int most) const {
    return in_range(key, uniform(key), least, most);
  }
  int integer_or(std::string_view key, int fallback, int least, int most) const {
    return contains(key) ? integer(key, least, most) : in_range(key, fallback, least, most);
  }
  // Above `above`, at most `most`.
  float number_or(std::string_view key, float fallback, float above, float most) const {
    const float value = metadata_.optional_float32(full(key)).value_or(fallback);
    if (!(value > above && value <= most)) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} is {}; a number above {} and up to {} is expected", full(key),
                              value, above, most));
    }
    return value;
  }
  bool flag_or(std::string_view key, bool fallback) const {
    return metadata_.optional_boolean(full(key)).value_or(fallback);
  }
  std::string text_or(std::string_view key, std::string_view fallback) const {
    return std::string(metadata_.optional_string(full(key)).value_or(fallback));
  }
  bool contains(std::string_view key) const { return metadata_.contains(full(key)); }
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }

 private:
  // Some keys may list a value for each layer; this build needs them all alike.
  int64_t uniform(std::string_view key) const {
    const format::GgufValue* value = metadata_.find(full(key));
    if (value == nullptr || !value->is_array()) return metadata_.int64(full(key));
    const std::vector<int64_t> values = metadata_.int_array(full(key));
    if (values.empty()) {
      throw Error(ErrorCode::invalid_file, fmt::format("{} is an empty list", full(key)));
    }
    if (std::ranges::any_of(values, [&](int64_t each) { return each != values.front(); })) {
      throw Error(
          ErrorCode::unsupported,
          fmt::format("{} differs from layer to layer, which this build cannot run", full(key)));
    }
    return values.front();
  }
  int in_range(std::string_view key, int64_t value, int least, int most) const {
    if (value < least || value > most) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} is {}; {} to {} is expected", full(key), value, least, most));
    }
    return static_cast<int>(value);
  }

  const format::GgufMetadata& metadata_;
  std::string prefix_;
};

RopeConfig::Scaling scaling_of(const Reader& reader) {
  // Old files state a factor alone, and mean linear scaling.
  const std::string kind = reader.text_or("rope.scaling.type", "linear");
  if (kind == "none") return RopeConfig::Scaling::none;
  if (kind == "linear") return RopeConfig::Scaling::linear;
  if (kind == "llama3") return RopeConfig::Scaling::llama3;
  if (kind == "yarn") return RopeConfig::Scaling::yarn;
  throw Error(ErrorCode::unsupported,
              fmt::format("{} is '{}'; this build knows none, linear, llama3 and yarn",
                          reader.full("rope.scaling.type"), kind));
}

// The divisors that Llama 3.1 and later files carry as a tensor.
std::vector<float> read_divisors(const format::GgufFile& file, int rotary_dim) {
  const format::GgufTensor* tensor = file.find("rope_freqs.weight");
  if (tensor == nullptr) return {};
  const TensorView& view = tensor->view;
  if (view.shape.elements() != rotary_dim / 2 || is_quantized(view.dtype)) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("rope_freqs.weight is {} of shape {}; F32 of shape [{}] is expected",
                            ridge::name(view.dtype), to_string(view.shape), rotary_dim / 2));
  }
  std::vector<float> divisors(rotary_dim / 2);
  file.ready(view);
  dequantize_row(view.dtype, view.bytes, divisors);
  for (float divisor : divisors) {
    if (!(divisor > 0 && std::isfinite(divisor))) {
      throw Error(
          ErrorCode::invalid_file,
          fmt::format("rope_freqs.weight holds {}; positive numbers are expected", divisor));
    }
  }
  return divisors;
}

RopeConfig read_rope(const format::GgufFile& file, const Reader& reader, int key_dim,
                     int context_tokens) {
  RopeConfig rope;
  rope.rotary_dim = reader.integer_or("rope.dimension_count", key_dim, 2, key_dim);
  if (rope.rotary_dim % 2 != 0) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} is {}; an even number is expected",
                            reader.full("rope.dimension_count"), rope.rotary_dim));
  }
  rope.base = reader.number_or("rope.freq_base", 10000.0f, 1.0f, 1e12f);
  rope.scaling = scaling_of(reader);
  const std::string_view factor_key =
      reader.contains("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  rope.factor = reader.number_or(factor_key, 1.0f, 0.0f, 1e6f);
  rope.original_context_tokens =
      reader.integer_or("rope.scaling.original_context_length", context_tokens, 1, 1 << 28);
  rope.low_frequency_factor = reader.number_or("rope.scaling.low_freq_factor", 1.0f, 0.0f, 1e6f);
  rope.high_frequency_factor =
      reader.number_or("rope.scaling.high_freq_factor", 4.0f, rope.low_frequency_factor, 1e6f);
  rope.beta_slow = reader.number_or("rope.scaling.yarn_beta_slow", 1.0f, 0.0f, 1e6f);
  rope.beta_fast = reader.number_or("rope.scaling.yarn_beta_fast", 32.0f, rope.beta_slow, 1e6f);
  rope.attention_factor = reader.number_or("rope.scaling.attn_factor", 1.0f, 0.0f, 1e3f);
  if (rope.scaling == RopeConfig::Scaling::yarn) {
    // 0 is none, as where it is missing.
    constexpr float below_none = -std::numeric_limits<float>::denorm_min();
    rope.log_multiplier =
        reader.number_or("rope.scaling.yarn_log_multiplier", 0.0f, below_none, 1.0f);
  }
  rope.frequency_divisors = read_divisors(file, rope.rotary_dim);
  return rope;
}

// DeepSeek's router has its own keys. The others take the softmax over all experts, and divide the
// weights of those used by their sum.
backend::Router read_router(const Reader& reader, const FamilyTraits& family, int count) {
  backend::Router router{.experts = count, .normalize = true};
  router.top_k = reader.integer("expert_used_count", 1, count);
  if (!family.is_latent) return router;
  constexpr int softmax = 1, sigmoid = 2;
  const int scoring = reader.integer_or("expert_gating_func", softmax, softmax, sigmoid);
  router.scoring = scoring == sigmoid ? backend::Router::Scoring::sigmoid
                                      : backend::Router::Scoring::softmax;
  router.normalize = reader.flag_or("expert_weights_norm", false);
  router.scale = reader.number_or("expert_weights_scale", 1.0f, 0.0f, 1e3f);
  router.groups = reader.integer_or("expert_group_count", 1, 1, count);
  router.top_groups =
      reader.integer_or("expert_group_used_count", router.groups, 1, router.groups);
  const int in_group = count / router.groups;
  if (count % router.groups != 0 || router.top_k > router.top_groups * in_group) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} experts cannot be in {} equal groups of which {} hold {} for a "
                            "token: see the keys {}*",
                            count, router.groups, router.top_groups, router.top_k,
                            reader.full("expert_")));
  }
  return router;
}

// F of all experts that a token uses, together: what a step holds of them for each token. V3 has 2^14.
constexpr int64_t most_chosen_columns = 1 << 22;

std::optional<ExpertConfig> read_experts(const Reader& reader, const FamilyTraits& family,
                                         int feed_forward) {
  using enum FamilyTraits::Experts;
  const int least = family.experts == always ? 1 : 0;
  const int count = reader.integer_or("expert_count", 0, least, 1024);
  if (count == 0) return std::nullopt;
  if (family.experts == none) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{} is not 0: models of experts are not supported for '{}'",
                            reader.full("expert_count"), family.architecture));
  }
  ExpertConfig experts;
  experts.feed_forward = reader.integer_or("expert_feed_forward_length", feed_forward, 1, 1 << 20);
  experts.router = read_router(reader, family, count);
  const int64_t chosen = int64_t{experts.router.top_k} * experts.feed_forward;
  if (chosen > most_chosen_columns) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} times {} is {}; at most {} is expected",
                            reader.full("expert_used_count"),
                            reader.full("expert_feed_forward_length"), chosen,
                            most_chosen_columns));
  }
  if (family.is_latent) {
    const int shared = reader.integer_or("expert_shared_count", 0, 0, 64);
    experts.shared_feed_forward = shared * experts.feed_forward;
    experts.dense_layers = reader.integer_or("leading_dense_block_count", 0, 0, 1024);
  }
  return experts;
}

// Files of today state the sizes of the heads that are multiplied out as *_mla, as their cache has
// one head of the latent's size; those of before mean them by key_length and value_length.
void read_latent(const Reader& reader, ModelConfig& config) {
  LatentConfig latent;
  latent.query_rank = reader.integer_or("attention.q_lora_rank", 0, 0, 1 << 16);
  latent.rank = reader.integer("attention.kv_lora_rank", 1, 1024);
  const bool is_new = reader.contains("attention.key_length_mla");
  config.key_dim =
      reader.integer(is_new ? "attention.key_length_mla" : "attention.key_length", 3, 1024);
  config.value_dim =
      reader.integer(is_new ? "attention.value_length_mla" : "attention.value_length", 1, 1024);
  latent.rope_dim = reader.integer("rope.dimension_count", 2, config.key_dim - 1);
  config.kv_heads = config.heads;
  config.latent = latent;
}

// hidden / heads, the size of a head that a file need not state.
int default_head_dim(const Reader& reader, int hidden, int heads) {
  if (hidden % heads == 0) return hidden / heads;
  if (reader.contains("attention.key_length")) return 0;
  throw Error(ErrorCode::invalid_file, fmt::format("{} is {}, which does not divide {} ({})",
                                                   reader.full("attention.head_count"), heads,
                                                   reader.full("embedding_length"), hidden));
}

void read_heads(const Reader& reader, ModelConfig& config) {
  config.kv_heads = reader.integer_or("attention.head_count_kv", config.heads, 1, config.heads);
  if (config.heads % config.kv_heads != 0) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} is {}; a divisor of {} ({}) is expected",
                            reader.full("attention.head_count_kv"), config.kv_heads,
                            reader.full("attention.head_count"), config.heads));
  }
  const int head_dim = default_head_dim(reader, config.hidden, config.heads);
  config.key_dim = reader.integer_or("attention.key_length", head_dim, 2, 1024);
  config.value_dim = reader.integer_or("attention.value_length",
                                       head_dim > 0 ? head_dim : config.key_dim, 1, 1024);
}

// Gemma 3 norms scores by its heads' size, but the largest, of 62 layers, by hidden / heads (its
// query_pre_attn_scalar, which GGUF files do not state).
float read_score_scale(const Reader& reader, const ModelConfig& config) {
  constexpr int layers_of_27b = 62;
  const bool by_hidden = config.architecture == "gemma3" && config.layers == layers_of_27b;
  const int size = by_hidden ? std::max(1, config.hidden / config.heads) : config.key_dim;
  const float usual = 1.0f / std::sqrt(static_cast<float>(size));
  const float stated = reader.number_or("attention.scale", usual, 0.0f, 1e3f);
  return config.latent ? score_magnitude(config.rope) / std::sqrt(static_cast<float>(config.key_dim))
                       : stated;
}

void read_windows(const Reader& reader, const FamilyTraits& family, ModelConfig& config) {
  config.full_layer_every = family.full_layer_every;
  if (family.full_layer_every == 1) return;
  config.window = reader.integer("attention.sliding_window", 1, 1 << 28);
  if (!family.windows_rotate_otherwise) {
    config.window_rope = config.rope;
    return;
  }
  config.window_rope = {.pairs = config.rope.pairs,
                        .rotary_dim = config.rope.rotary_dim,
                        .base = reader.number_or("rope.freq_base_swa", 10000.0f, 1.0f, 1e12f)};
}

}  // namespace

const FamilyTraits& find_family(std::string_view architecture) {
  for (const FamilyTraits& family : families) {
    if (family.architecture == architecture) return family;
  }
  std::vector<std::string_view> known;
  for (const FamilyTraits& family : families) known.push_back(family.architecture);
  // As llama.cpp's converters name those whose text part is no family of text models.
  const bool takes_images = architecture.find("vl") != architecture.npos ||
                            architecture == "mllama" || architecture == "chameleon";
  // Cut, because the name comes from a file.
  throw Error(
      ErrorCode::unsupported,
      fmt::format("the architecture '{}' is {}; this build runs {}", architecture.substr(0, 40),
                  takes_images
                      ? "of models that take images besides text, which this build does not"
                      : "not known",
                  fmt::join(known, ", ")));
}

ModelConfig read_config(const format::GgufFile& file) {
  if (file.metadata().optional_string("general.type") == "adapter") {
    throw Error(ErrorCode::invalid_file,
                "the file is an adapter, which runs with its base model: name that model, and the "
                "adapter with --lora");
  }
  const FamilyTraits& family = find_family(file.architecture());
  const Reader reader(file);
  ModelConfig config;
  config.architecture = family.architecture;
  config.name = file.metadata().optional_string("general.name").value_or("");
  config.context_tokens = reader.integer("context_length", 1, 1 << 28);
  config.hidden = reader.integer("embedding_length", 1, 1 << 17);
  config.layers = reader.integer("block_count", 1, 1024);
  if (family.is_latent) {  // which count DeepSeek-V3's multi-token prediction as blocks
    config.guessing_layers = reader.integer_or("nextn_predict_layers", 0, 0, config.layers - 1);
    config.layers -= config.guessing_layers;
    // Converters that drop the layer's tensors may leave the key.
    config.can_guess =
        config.guessing_layers > 0 &&
        file.find(fmt::format("blk.{}.nextn.eh_proj.weight", config.layers)) != nullptr;
  }
  config.feed_forward = reader.integer("feed_forward_length", 1, 1 << 20);
  config.experts = read_experts(reader, family, config.feed_forward);
  config.heads = reader.integer("attention.head_count", 1, 1024);
  if (family.is_latent) {
    read_latent(reader, config);
  } else {
    read_heads(reader, config);
  }
  config.rms_epsilon =
      reader.number_or("attention.layer_norm_rms_epsilon", /*fallback=*/-1.0f, 0.0f, 1.0f);
  config.rope = read_rope(file, reader, config.latent ? config.latent->rope_dim : config.key_dim,
                          config.context_tokens);
  config.rope.pairs = family.pairs;
  config.rope.rounds_pairs = family.rounds_yarn_pairs;
  config.activation = family.activation;
  if (family.scales_embeddings) {
    config.embedding_scale = std::sqrt(static_cast<float>(config.hidden));
  }
  config.score_scale = read_score_scale(reader, config);
  read_windows(reader, family, config);
  config.has_tied_embeddings = file.find("output.weight") == nullptr;

  const Shape& table = file.tensor("token_embd.weight").view.shape;
  if (table.rank() != 2 || table[1] != config.hidden || table[0] < 1 || table[0] > (1 << 24)) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("token_embd.weight has shape {}; [vocabulary, {}] is expected",
                            to_string(table), config.hidden));
  }
  config.vocab_size = static_cast<int>(table[0]);
  return config;
}

}  // namespace ridge::model
