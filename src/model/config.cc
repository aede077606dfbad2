#include "model/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tensor/dequantize.h"

namespace ridge::model {

namespace {

constexpr FamilyTraits families[] = {
    {.architecture = "llama", .pairs = backend::RopePairs::interleaved, .needs_qkv_bias = false},
    {.architecture = "qwen2", .pairs = backend::RopePairs::neox, .needs_qkv_bias = true},
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
  rope.frequency_divisors = read_divisors(file, rope.rotary_dim);
  return rope;
}

// hidden / heads, the size of a head that a file need not state.
int default_head_dim(const Reader& reader, int hidden, int heads) {
  if (hidden % heads == 0) return hidden / heads;
  if (reader.contains("attention.key_length")) return 0;
  throw Error(ErrorCode::invalid_file, fmt::format("{} is {}, which does not divide {} ({})",
                                                   reader.full("attention.head_count"), heads,
                                                   reader.full("embedding_length"), hidden));
}

}  // namespace

const FamilyTraits& find_family(std::string_view architecture) {
  for (const FamilyTraits& family : families) {
    if (family.architecture == architecture) return family;
  }
  std::vector<std::string_view> known;
  for (const FamilyTraits& family : families) known.push_back(family.architecture);
  // Cut, because the name comes from a file.
  throw Error(ErrorCode::unsupported,
              fmt::format("the architecture '{}' is not known; this build runs {}",
                          architecture.substr(0, 40), fmt::join(known, ", ")));
}

ModelConfig read_config(const format::GgufFile& file) {
  if (file.metadata().optional_string("general.type") == "adapter") {
    throw Error(ErrorCode::invalid_file,
                "the file is an adapter, which runs with its base model: name that model, and the "
                "adapter with --lora");
  }
  const FamilyTraits& family = find_family(file.architecture());
  const Reader reader(file);
  if (reader.integer_or("expert_count", 0, 0, 1 << 20) > 0) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{} is not 0: models of experts are not supported for '{}'",
                            reader.full("expert_count"), family.architecture));
  }
  ModelConfig config;
  config.architecture = family.architecture;
  config.name = file.metadata().optional_string("general.name").value_or("");
  config.context_tokens = reader.integer("context_length", 1, 1 << 28);
  config.hidden = reader.integer("embedding_length", 1, 1 << 17);
  config.layers = reader.integer("block_count", 1, 1024);
  config.feed_forward = reader.integer("feed_forward_length", 1, 1 << 20);
  config.heads = reader.integer("attention.head_count", 1, 1024);
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
  config.rms_epsilon =
      reader.number_or("attention.layer_norm_rms_epsilon", /*fallback=*/-1.0f, 0.0f, 1.0f);
  config.rope = read_rope(file, reader, config.key_dim, config.context_tokens);
  config.rope.pairs = family.pairs;
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
