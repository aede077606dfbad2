// Dimensions of a model from its own file: GGUF metadata, or transformers' config.json.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/read_text.h"
#include "format/gguf.h"
#include "format/model_folder.h"
#include "planner/model_shape.h"

namespace ridge::planner {
namespace {

// Values by key, each from 0 (or 1) to `most_dimension`: sums of a few fit an int, products do not,
// and are computed in doubles.
class GgufKeys {
 public:
  explicit GgufKeys(const format::GgufFile& file)
      : metadata_(file.metadata()), prefix_(std::string(file.architecture()) + ".") {}

  bool has(std::string_view key) const { return metadata_.contains(prefix_ + std::string(key)); }
  int at(std::string_view key, int64_t least = 1) const {
    const std::string full = prefix_ + std::string(key);
    const int64_t value = metadata_.int64(full);
    if (value < least || value > most_dimension) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: {} is {}; {} to {} is expected", metadata_.source(), full, value,
                              least, most_dimension));
    }
    return static_cast<int>(value);
  }
  int at_or(std::string_view key, int fallback, int64_t least = 0) const {
    return has(key) ? at(key, least) : fallback;
  }

 private:
  const format::GgufMetadata& metadata_;
  std::string prefix_;
};

int read_gguf_vocab(const format::GgufFile& file) {
  const Shape& shape = file.tensor("token_embd.weight").view.shape;  // [vocab, hidden]
  if (shape.rank() != 2 || shape[0] < 1 || shape[0] > most_dimension) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: token_embd.weight is {}; [1 to {} tokens, hidden] is expected",
                            file.metadata().source(), to_string(shape), most_dimension));
  }
  return static_cast<int>(shape[0]);
}

void read_gguf_latent(const GgufKeys& keys, ModelShape& shape) {
  // Newer files state the heads that are multiplied out as *_mla.
  shape.key_dim = keys.at(keys.has("attention.key_length_mla") ? "attention.key_length_mla"
                                                               : "attention.key_length");
  shape.value_dim = keys.at(keys.has("attention.value_length_mla") ? "attention.value_length_mla"
                                                                   : "attention.value_length");
  shape.kv_heads = shape.heads;
  shape.latent = LatentShape{.query_rank = keys.at_or("attention.q_lora_rank", 0),
                             .rank = keys.at("attention.kv_lora_rank"),
                             .rope_dim = keys.at("rope.dimension_count")};
}

class JsonKeys {
 public:
  JsonKeys(const nlohmann::json& body, std::string source)
      : body_(body), source_(std::move(source)) {}

  [[noreturn]] void refuse(std::string_view message) const {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: {}", source_, message));
  }
  bool has(const char* key) const { return body_.contains(key) && !body_.at(key).is_null(); }
  int at(const char* key, int64_t least = 1) const {
    if (!has(key)) refuse(fmt::format("'{}' is missing; is this a config.json?", key));
    const nlohmann::json& value = body_.at(key);
    if (!value.is_number_integer() || value < least || value > most_dimension) {
      refuse(fmt::format("'{}' must be a whole number from {} to {}", key, least, most_dimension));
    }
    return value.get<int>();
  }
  int at_or(const char* key, int fallback, int64_t least = 0) const {
    return has(key) ? at(key, least) : fallback;
  }
  // The first of several names by which families call one thing; 0 where there is none.
  int first_of(std::initializer_list<const char*> keys) const {
    for (const char* key : keys) {
      if (has(key)) return at(key, 0);
    }
    return 0;
  }
  bool flag(const char* key) const {
    return body_.contains(key) && body_.at(key).is_boolean() && body_.at(key).get<bool>();
  }
  std::string text_or(const char* key, std::string fallback) const {
    return body_.contains(key) && body_.at(key).is_string() ? body_.at(key).get<std::string>()
                                                            : fallback;
  }

 private:
  const nlohmann::json& body_;
  std::string source_;
};

void read_json_experts(const JsonKeys& keys, ModelShape& shape) {
  const int count = keys.first_of({"n_routed_experts", "num_experts", "num_local_experts"});
  if (count == 0) return;
  const int feed_forward = keys.at_or("moe_intermediate_size", shape.feed_forward, 1);
  const bool is_grouped = keys.at_or("n_group", 1) > 1;
  shape.experts = ExpertShape{.count = count,
                              .used = keys.at("num_experts_per_tok"),
                              .shared = keys.at_or("n_shared_experts", 0),
                              .feed_forward = feed_forward,
                              .dense_layers = keys.at_or("first_k_dense_replace", 0),
                              .groups = is_grouped ? keys.at("n_group") : 0,
                              .groups_used = is_grouped ? keys.at_or("topk_group", 0) : 0};
}

}  // namespace

ModelShape read_gguf_shape(const std::filesystem::path& path) {
  const format::GgufFile file = format::open_model(path);
  const GgufKeys keys(file);
  ModelShape shape;
  shape.name = file.metadata().optional_string("general.name").value_or(file.architecture());
  shape.source = path.string();
  shape.vocab_size = read_gguf_vocab(file);
  shape.hidden = keys.at("embedding_length");
  shape.layers = keys.at("block_count");
  shape.context_tokens = keys.at("context_length");
  shape.heads = keys.at("attention.head_count");
  shape.kv_heads = keys.at_or("attention.head_count_kv", shape.heads, 1);
  shape.has_tied_embeddings = file.find("output.weight") == nullptr;
  if (keys.has("attention.kv_lora_rank")) {
    read_gguf_latent(keys, shape);
    shape.draft_layers = keys.at_or("nextn_predict_layers", 0);
    shape.layers -= shape.draft_layers;
  } else {
    shape.key_dim = keys.at_or("attention.key_length", shape.hidden / shape.heads, 1);
    shape.value_dim = keys.at_or("attention.value_length", shape.key_dim, 1);
  }
  const int experts = keys.at_or("expert_count", 0);
  const int expert_width = keys.at_or("expert_feed_forward_length", 0);
  shape.feed_forward = keys.at_or("feed_forward_length", expert_width, 1);
  if (experts > 0) {
    shape.experts =
        ExpertShape{.count = experts,
                    .used = keys.at("expert_used_count"),
                    .shared = keys.at_or("expert_shared_count", 0),
                    .feed_forward = expert_width > 0 ? expert_width : shape.feed_forward,
                    .dense_layers = keys.at_or("leading_dense_block_count", 0),
                    .groups = keys.at_or("expert_group_count", 0),
                    .groups_used = keys.at_or("expert_group_used_count", 0)};
  }
  shape.file_bits =
      8.0 * static_cast<double>(file.tensor_bytes()) / static_cast<double>(file.parameters());
  check(shape);
  return shape;
}

ModelShape read_config_shape(const std::filesystem::path& path) {
  const nlohmann::json body =
      nlohmann::json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
  const JsonKeys keys(body, path.string());
  if (!body.is_object()) keys.refuse("is no JSON object; a model's config.json is expected");
  ModelShape shape;
  shape.name = keys.text_or("_name_or_path", keys.text_or("model_type", "model"));
  shape.source = path.string();
  shape.vocab_size = keys.at("vocab_size");
  shape.hidden = keys.at("hidden_size");
  shape.layers = keys.at("num_hidden_layers");
  shape.context_tokens = keys.at_or("max_position_embeddings", 4096, 1);
  shape.heads = keys.at("num_attention_heads");
  shape.kv_heads = keys.at_or("num_key_value_heads", shape.heads, 1);
  shape.has_tied_embeddings = keys.flag("tie_word_embeddings");
  shape.feed_forward = keys.at("intermediate_size");
  shape.draft_layers = keys.at_or("num_nextn_predict_layers", 0);
  if (keys.has("kv_lora_rank")) {
    const int rope_dim = keys.at("qk_rope_head_dim");
    shape.key_dim = keys.at("qk_nope_head_dim") + rope_dim;
    shape.value_dim = keys.at("v_head_dim");
    shape.kv_heads = shape.heads;
    shape.latent = LatentShape{.query_rank = keys.at_or("q_lora_rank", 0),
                               .rank = keys.at("kv_lora_rank"),
                               .rope_dim = rope_dim};
  } else {
    shape.key_dim = keys.at_or("head_dim", shape.hidden / shape.heads, 1);
    shape.value_dim = shape.key_dim;
  }
  read_json_experts(keys, shape);
  check(shape);
  return shape;
}

}  // namespace ridge::planner
