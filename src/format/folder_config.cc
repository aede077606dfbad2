#include "format/folder_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ridge::format {

namespace {

struct FamilyName {
  std::string_view model_type;    // in config.json
  std::string_view architecture;  // in GGUF
  FolderFamily family;
  bool ties_embeddings;  // where config.json does not say
};

constexpr FamilyName family_names[] = {
    {"llama", "llama", FolderFamily::llama, false},
    {"mistral", "llama", FolderFamily::llama, false},
    {"mixtral", "llama", FolderFamily::mixtral, false},
    {"qwen2", "qwen2", FolderFamily::qwen2, false},
    {"qwen3", "qwen3", FolderFamily::qwen3, false},
    {"qwen3_moe", "qwen3moe", FolderFamily::qwen3_moe, false},
    {"gemma3_text", "gemma3", FolderFamily::gemma3, true},
    {"deepseek_v2", "deepseek2", FolderFamily::deepseek_v2, false},
    {"deepseek_v3", "deepseek2", FolderFamily::deepseek_v3, false},
    {"gpt_oss", "gpt-oss", FolderFamily::gpt_oss, false},
};

constexpr int gemma_full_layer_every = 6;
constexpr int gpt_oss_full_layer_every = 2;

const FamilyName& find_family_name(const FolderJson& config) {
  const std::string type = config.text("model_type");
  for (const char* key : {"vision_config", "audio_config", "vision_tower", "mm_vision_tower"}) {
    if (!config.has(key)) continue;
    config.unsupported(
        fmt::format("the model ('{}') takes images or sound besides text ('{}'), which this build "
                    "does not; a folder of its text model alone is read where that is of a known "
                    "family",
                    type.substr(0, 40), key));
  }
  std::string known;
  for (const FamilyName& each : family_names) {
    if (each.model_type == type) return each;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", each.model_type);
  }
  config.unsupported(fmt::format("'model_type' is '{}'; this build reads folders of {}",
                                 type.substr(0, 40), known));
}

void require_value(const FolderJson& config, std::string_view key, std::string_view wanted,
                   std::string_view fallback) {
  const std::string found = config.text_or(key, fallback);
  if (found == wanted) return;
  config.unsupported(fmt::format("'{}' is '{}'; this build runs '{}' of this family", key,
                                 found.substr(0, 40), wanted));
}

void refuse_flag(const FolderJson& config, std::string_view key) {
  if (config.flag_or(key, false)) {
    config.unsupported(fmt::format("'{}' is true, which this build does not run", key));
  }
}

void check_activation(const FolderJson& config, FolderFamily family) {
  if (family == FolderFamily::gemma3) {
    require_value(config, "hidden_activation", "gelu_pytorch_tanh", "gelu_pytorch_tanh");
    for (const char* key : {"final_logit_softcapping", "attn_logit_softcapping"}) {
      if (config.has(key)) {
        config.unsupported(fmt::format("'{}' is set, which this build does not run", key));
      }
    }
    return;
  }
  require_value(config, "hidden_act", "silu", "silu");
  if (family == FolderFamily::gpt_oss && config.number_or("swiglu_limit", 7.0, 0, 1e6) != 7.0) {
    config.unsupported("'swiglu_limit' is not 7, which this build does not run");
  }
}

FolderExperts read_folder_experts(const FolderJson& config, FolderFamily family) {
  const bool is_local = family == FolderFamily::mixtral || family == FolderFamily::gpt_oss;
  const char* const count_key = is_local                            ? "num_local_experts"
                                : family == FolderFamily::qwen3_moe ? "num_experts"
                                                                    : "n_routed_experts";
  FolderExperts experts;
  experts.count = config.integer(count_key, 1, 1024);
  experts.feed_forward =
      config.integer(is_local ? "intermediate_size" : "moe_intermediate_size", 1, 1 << 20);
  if (family == FolderFamily::qwen3_moe) {
    if (config.integer_or("decoder_sparse_step", 1, 0, 1 << 20) != 1) {
      config.unsupported("'decoder_sparse_step' is not 1: every layer must have experts");
    }
    const auto* dense = config.find("mlp_only_layers");
    if (dense != nullptr && !dense->empty()) {
      config.unsupported("'mlp_only_layers' is not empty: every layer must have experts");
    }
    if (!config.flag_or("norm_topk_prob", false)) {
      // GGUF has no key for it, and every model of this family that is in use has it.
      config.unsupported("'norm_topk_prob' is not true, which this build does not run");
    }
  }
  if (family == FolderFamily::deepseek_v2 || family == FolderFamily::deepseek_v3) {
    if (config.integer_or("moe_layer_freq", 1, 0, 1 << 20) != 1) {
      config.unsupported(
          "'moe_layer_freq' is not 1: every layer behind the dense ones must have "
          "experts");
    }
    experts.shared = config.integer_or("n_shared_experts", 0, 0, 64);
    experts.dense_layers = config.integer_or("first_k_dense_replace", 0, 0, 1024);
  }
  return experts;
}

FolderLatent read_folder_latent(const FolderJson& config) {
  FolderLatent latent;
  latent.query_rank = config.integer_or("q_lora_rank", 0, 0, 1 << 16);
  latent.rank = config.integer("kv_lora_rank", 1, 1024);
  latent.nope_dim = config.integer("qk_nope_head_dim", 1, 1024);
  latent.rope_dim = config.integer("qk_rope_head_dim", 2, 1024);
  latent.value_dim = config.integer("v_head_dim", 1, 1024);
  return latent;
}

// What positions do, whichever of its two forms the folder has: `rope_theta` with `rope_scaling`,
// or `rope_parameters` with both.
struct FolderRope {
  FolderJson fields;
  double theta;
  std::string type;  // "default" where nothing is scaled
};

FolderRope read_folder_rope(const FolderJson& config, double default_theta) {
  constexpr double theta_max = 1e12;
  auto fields = config.object("rope_parameters");
  // Of a family with windows, those of the layers without.
  if (fields && fields->has("full_attention")) fields = fields->object("full_attention");
  if (!fields) fields = config.object("rope_scaling");
  const FolderJson none = FolderJson::parse("{}", config.source());
  FolderRope rope{.fields = fields.value_or(none), .theta = 0, .type = "default"};
  rope.theta = rope.fields.number_or(
      "rope_theta", config.number_or("rope_theta", default_theta, 1.0, theta_max), 1.0, theta_max);
  rope.type = rope.fields.text_or("rope_type", rope.fields.text_or("type", "default"));
  return rope;
}

double default_theta_of(FolderFamily family) {
  if (family == FolderFamily::gemma3 || family == FolderFamily::mixtral) return 1e6;
  if (family == FolderFamily::gpt_oss) return 150000.0;
  return 10000.0;
}

// Wavelengths beyond the original context are stretched by the whole factor, short ones not at all,
// those between are blended (Meta's llama-models, `apply_scaling`).
std::vector<float> llama3_divisors(const FolderRope& rope, int head_dim) {
  const double factor = rope.fields.number("factor", 0, 1e6);
  const double low = rope.fields.number_or("low_freq_factor", 1, 0, 1e6);
  const double high = rope.fields.number_or("high_freq_factor", 4, low, 1e6);
  const int original = rope.fields.integer("original_max_position_embeddings", 1, 1 << 28);
  std::vector<float> divisors;
  for (int pair = 0; pair < head_dim / 2; ++pair) {
    const double wavelength = 2 * std::numbers::pi * std::pow(rope.theta, 2.0 * pair / head_dim);
    const double blend = std::clamp((original / wavelength - low) / (high - low), 0.0, 1.0);
    divisors.push_back(static_cast<float>(1 / ((1 - blend) / factor + blend)));
  }
  return divisors;
}

// Keys of one architecture.
class Keys {
 public:
  Keys(GgufWriter& out, std::string architecture)
      : out_(out), prefix_(std::move(architecture) + ".") {}

  void integer(std::string_view key, int value) {
    out_.set_uint32(prefix_ + std::string(key), static_cast<uint32_t>(value));
  }
  void number(std::string_view key, double value) {
    out_.set_float32(prefix_ + std::string(key), static_cast<float>(value));
  }
  void flag(std::string_view key, bool value) {
    out_.set_boolean(prefix_ + std::string(key), value);
  }
  void text(std::string_view key, std::string_view value) {
    out_.set_string(prefix_ + std::string(key), value);
  }

 private:
  GgufWriter& out_;
  std::string prefix_;
};

// How scores and rotations grow under YaRN (transformers, modeling_rope_utils.py and
// modeling_deepseek_v3.py). With m(a) = 0.1 · a · ln(factor) + 1, rotations are by m(1), or by the
// ratio m(mscale) / m(mscale_all_dim), or by what the file says; DeepSeek's scores by
// m(mscale_all_dim)².
void write_yarn(Keys& keys, const FolderJson& config, const FolderRope& rope,
                const FolderModel& model) {
  const FolderJson& fields = rope.fields;
  const bool is_latent = model.latent.has_value();
  const double factor = fields.number("factor", 0, 1e6);
  // Of which GGUF says nothing: whoever reads it knows the family.
  const bool truncates = model.family != FolderFamily::gpt_oss;
  if (fields.flag_or("truncate", true) != truncates) {
    fields.unsupported(fmt::format("'truncate' is {}, which this build does not run of this family",
                                   !truncates));
  }
  keys.text("rope.scaling.type", "yarn");
  keys.number("rope.scaling.factor", factor);
  keys.integer(
      "rope.scaling.original_context_length",
      fields.integer_or("original_max_position_embeddings",
                        config.integer("max_position_embeddings", 1, 1 << 28), 1, 1 << 28));
  const double slow = fields.number_or("beta_slow", 1, 0, 1e6);
  const double fast = fields.number_or("beta_fast", 32, slow, 1e6);
  if (slow != 1) keys.number("rope.scaling.yarn_beta_slow", slow);
  if (fast != 32) keys.number("rope.scaling.yarn_beta_fast", fast);
  const auto growth = [&](double a) { return factor <= 1 ? 1.0 : 0.1 * a * std::log(factor) + 1; };
  const bool has_ratio = fields.has("mscale") && fields.has("mscale_all_dim");
  const double all_dim = fields.number_or("mscale_all_dim", 0, -1e-30, 10);
  double rotations = growth(1);
  if (has_ratio) rotations = growth(fields.number_or("mscale", 1, 0, 10)) / growth(all_dim);
  rotations = fields.number_or("attention_factor", rotations, 0, 1e3);
  // What readers of GGUF multiply rotations by of their own.
  double usual = growth(1);
  if (is_latent && all_dim > 0) {
    keys.number("rope.scaling.yarn_log_multiplier", 0.1 * all_dim);
    usual = 1;
  } else if (!is_latent && has_ratio) {
    fields.unsupported("'mscale' is set for a family whose scores do not grow with it");
  }
  if (std::fabs(rotations - usual) > 1e-6) {
    keys.number("rope.scaling.attn_factor", rotations / usual);
  }
}

void write_rope(Keys& keys, const FolderJson& config, const FolderModel& model) {
  const FolderRope rope = read_folder_rope(config, default_theta_of(model.family));
  keys.integer("rope.dimension_count", model.latent ? model.latent->rope_dim : model.head_dim);
  keys.number("rope.freq_base", rope.theta);
  if (rope.type == "default" || rope.type == "llama3") return;  // the second is a tensor
  if (rope.type == "linear") {
    keys.text("rope.scaling.type", "linear");
    keys.number("rope.scaling.factor", rope.fields.number("factor", 0, 1e6));
    return;
  }
  if (rope.type == "yarn") return write_yarn(keys, config, rope, model);
  rope.fields.unsupported(
      fmt::format("the scaling of positions is '{}'; this build knows default, linear, llama3 and "
                  "yarn",
                  rope.type.substr(0, 40)));
}

// Whether the last of every `full_every` layers, and only it, has no window.
bool layer_types_fit(const nlohmann::json& types, int layers, int full_every) {
  bool fits = types.is_array() && types.size() == static_cast<size_t>(layers);
  for (int layer = 0; fits && layer < layers; ++layer) {
    const bool is_full = (layer + 1) % full_every == 0;
    fits =
        types[static_cast<size_t>(layer)] == (is_full ? "full_attention" : "sliding_attention");
  }
  return fits;
}

void check_gemma_layers(const FolderJson& config, int layers) {
  if (const auto* types = config.find("layer_types")) {
    if (!layer_types_fit(*types, layers, gemma_full_layer_every)) {
      config.unsupported(
          "'layer_types' is not five layers of sliding_attention before each of "
          "full_attention");
    }
  } else if (config.integer_or("sliding_window_pattern", gemma_full_layer_every, 1, 1024) !=
             gemma_full_layer_every) {
    config.unsupported("'sliding_window_pattern' is not 6");
  }
}

void write_gemma(Keys& keys, const FolderJson& config, const FolderModel& model) {
  check_gemma_layers(config, model.layers);
  keys.integer("attention.sliding_window", config.integer("sliding_window", 1, 1 << 28));
  double local = config.number_or("rope_local_base_freq", 10000.0, 1.0, 1e12);
  if (const auto both = config.object("rope_parameters")) {
    if (const auto sliding = both->object("sliding_attention")) {
      local = sliding->number_or("rope_theta", local, 1.0, 1e12);
    }
  }
  if (local != 10000.0) keys.number("rope.freq_base_swa", local);
  const double scalar = config.number_or("query_pre_attn_scalar", 256, 0, 1e6);
  if (scalar != model.head_dim) keys.number("attention.scale", 1 / std::sqrt(scalar));
}

void write_gpt_oss(Keys& keys, const FolderJson& config, const FolderModel& model) {
  const auto* types = config.find("layer_types");
  if (types != nullptr && !layer_types_fit(*types, model.layers, gpt_oss_full_layer_every)) {
    config.unsupported(
        "'layer_types' is not a layer of sliding_attention before each of full_attention");
  }
  keys.integer("attention.sliding_window", config.integer_or("sliding_window", 128, 1, 1 << 28));
}

void write_router(Keys& keys, const FolderJson& config, const FolderModel& model) {
  const FolderExperts& experts = *model.experts;
  keys.integer("expert_count", experts.count);
  keys.integer("expert_used_count", config.integer("num_experts_per_tok", 1, experts.count));
  if (!model.latent) {
    if (model.family != FolderFamily::mixtral) {
      keys.integer("expert_feed_forward_length", experts.feed_forward);
    }
    return;
  }
  constexpr int softmax = 1, sigmoid = 2;  // expert_gating_func
  const bool is_v3 = model.family == FolderFamily::deepseek_v3;
  const std::string scoring = config.text_or("scoring_func", is_v3 ? "sigmoid" : "softmax");
  const std::string method = config.text_or("topk_method", is_v3 ? "noaux_tc" : "greedy");
  const bool fits =
      is_v3 ? scoring == "sigmoid" && method == "noaux_tc"
            : scoring == "softmax" && (method == "greedy" || method == "group_limited_greedy");
  if (!fits) {
    config.unsupported(
        fmt::format("the router is '{}' by '{}'; this build runs DeepSeek V2's "
                    "softmax, greedy or group_limited_greedy, and V3's sigmoid by "
                    "noaux_tc",
                    scoring.substr(0, 40), method.substr(0, 40)));
  }
  const bool normalizes = config.flag_or("norm_topk_prob", is_v3);
  if (!is_v3 && normalizes) {
    config.unsupported("'norm_topk_prob' is true, of which DeepSeek V2's implementations differ");
  }
  keys.integer("leading_dense_block_count", experts.dense_layers);
  keys.integer("expert_feed_forward_length", experts.feed_forward);
  keys.integer("expert_shared_count", experts.shared);
  keys.number("expert_weights_scale",
              config.number_or("routed_scaling_factor", is_v3 ? 2.5 : 1.0, 0, 1e3));
  keys.flag("expert_weights_norm", normalizes);
  keys.integer("expert_gating_func", is_v3 ? sigmoid : softmax);
  const int groups = config.integer_or("n_group", 1, 1, experts.count);
  if (method != "greedy" && groups > 1) {
    keys.integer("expert_group_count", groups);
    keys.integer("expert_group_used_count", config.integer("topk_group", 1, groups));
  }
}

// A window that is as wide as the context changes nothing, so the context is what the window
// allows.
int context_of(const FolderJson& config, const FolderModel& model) {
  const int context = config.integer("max_position_embeddings", 1, 1 << 28);
  if (model.family == FolderFamily::gemma3 || model.family == FolderFamily::gpt_oss) return context;
  const bool has_window =
      model.family == FolderFamily::llama || model.family == FolderFamily::mixtral
          ? config.has("sliding_window")
          : config.flag_or("use_sliding_window", false);
  return has_window ? std::min(context, config.integer_or("sliding_window", context, 1, 1 << 28))
                    : context;
}

}  // namespace

FolderModel read_folder_model(const FolderJson& config) {
  const FamilyName& name = find_family_name(config);
  FolderModel model;
  model.family = name.family;
  model.architecture = name.architecture;
  check_activation(config, name.family);
  refuse_flag(config, "mlp_bias");
  model.vocab_size = config.integer("vocab_size", 1, 1 << 24);
  model.hidden = config.integer("hidden_size", 1, 1 << 17);
  model.layers = config.integer("num_hidden_layers", 1, 1024);
  model.feed_forward = config.integer("intermediate_size", 1, 1 << 20);
  model.heads = config.integer("num_attention_heads", 1, 1024);
  model.has_tied_embeddings = config.flag_or("tie_word_embeddings", name.ties_embeddings);
  const bool is_latent =
      name.family == FolderFamily::deepseek_v2 || name.family == FolderFamily::deepseek_v3;
  if (is_latent) {
    refuse_flag(config, "attention_bias");
    if (!config.flag_or("rope_interleave", true)) {
      config.unsupported("'rope_interleave' is false, which this build does not run");
    }
    model.latent = read_folder_latent(config);
    model.guessing_layers = config.integer_or("num_nextn_predict_layers", 0, 0, 64);
  } else {
    model.kv_heads = config.integer_or("num_key_value_heads", model.heads, 1, model.heads);
    if (model.heads % model.kv_heads != 0) {
      config.refuse(fmt::format("'num_key_value_heads' is {}; a divisor of {} is expected",
                                model.kv_heads, model.heads));
    }
    const int divided = model.hidden / model.heads;
    model.head_dim = config.integer_or("head_dim", divided, 2, 1024);
    if (model.head_dim < 2 || model.head_dim % 2 != 0) {
      config.refuse(
          fmt::format("a head has {} values; an even number is expected", model.head_dim));
    }
    if (config.number_or("partial_rotary_factor", 1.0, 0, 1) != 1.0) {
      config.unsupported("'partial_rotary_factor' is not 1, which this build does not run");
    }
  }
  const bool has_experts =
      is_latent ? config.has("n_routed_experts")
                : name.family == FolderFamily::mixtral || name.family == FolderFamily::qwen3_moe ||
                      name.family == FolderFamily::gpt_oss;
  if (has_experts) model.experts = read_folder_experts(config, name.family);
  const FolderRope rope = read_folder_rope(config, default_theta_of(name.family));
  if (rope.type == "llama3") {
    if (is_latent) {
      rope.fields.unsupported(
          "the scaling of positions is 'llama3'; of this family this build knows default, linear "
          "and yarn");
    }
    model.rope_divisors = llama3_divisors(rope, model.head_dim);
  }
  return model;
}

void write_folder_model(const FolderJson& config, const FolderModel& model, GgufWriter& out) {
  Keys keys(out, model.architecture);
  keys.integer("vocab_size", model.vocab_size);
  keys.integer("context_length", context_of(config, model));
  keys.integer("embedding_length", model.hidden);
  keys.integer("block_count", model.layers + model.kept_guessing_layers);
  if (model.kept_guessing_layers > 0) {
    keys.integer("nextn_predict_layers", model.kept_guessing_layers);
  }
  keys.integer("feed_forward_length", model.feed_forward);
  keys.integer("attention.head_count", model.heads);
  keys.number("attention.layer_norm_rms_epsilon", config.number_or("rms_norm_eps", 1e-6, 0, 1));
  if (model.latent) {
    // As files of today: one head of keys and values over the latent, and its parts as *_mla.
    const FolderLatent& latent = *model.latent;
    keys.integer("attention.head_count_kv", 1);
    keys.integer("attention.key_length", latent.rank + latent.rope_dim);
    keys.integer("attention.value_length", latent.rank);
    keys.integer("attention.key_length_mla", latent.nope_dim + latent.rope_dim);
    keys.integer("attention.value_length_mla", latent.value_dim);
    keys.integer("attention.kv_lora_rank", latent.rank);
    if (latent.query_rank > 0) keys.integer("attention.q_lora_rank", latent.query_rank);
  } else {
    keys.integer("attention.head_count_kv", model.kv_heads);
    keys.integer("attention.key_length", model.head_dim);
    keys.integer("attention.value_length", model.head_dim);
  }
  write_rope(keys, config, model);
  if (model.family == FolderFamily::gemma3) write_gemma(keys, config, model);
  if (model.family == FolderFamily::gpt_oss) write_gpt_oss(keys, config, model);
  if (model.experts) write_router(keys, config, model);
}

}  // namespace ridge::format
