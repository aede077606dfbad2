// random_model --shape r1-distill-qwen-1.5b --type q4_k_m OUT: a GGUF file of a published model's
// exact shape with seeded random weights, which runs as fast as the model itself and needs no
// download. The weights are quantised as they are drawn, so that nothing larger than OUT is
// written.

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/cpu_count.h"
#include "base/error.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "format/quantization_recipe.h"
#include "format/quantize_file.h"
#include "format/tensor_quantizer.h"
#include "measure.h"

namespace ridge {
namespace {

// What makes a DeepSeek-V2 of a shape: latent attention and experts.
struct LatentShape {
  int rank, nope_dim, rope_dim, value_dim;
  int experts, used, shared, feed_forward;
  int dense_layers;
};

// Qwen2 models with an output matrix of their own and a head_dim of hidden / heads, or DeepSeek-V2
// models whose queries are one linear.
struct ModelShape {
  std::string_view name;
  std::string_view title;
  int hidden;
  int feed_forward;
  int layers;
  int heads;
  int kv_heads;
  int vocabulary;  // 0: as many tokens as the vocabulary file has
  const LatentShape* latent = nullptr;
};

constexpr LatentShape v2_lite = {.rank = 512,
                                 .nope_dim = 128,
                                 .rope_dim = 64,
                                 .value_dim = 128,
                                 .experts = 64,
                                 .used = 6,
                                 .shared = 2,
                                 .feed_forward = 1408,
                                 .dense_layers = 1};
constexpr LatentShape tiny_latent = {.rank = 64,
                                     .nope_dim = 32,
                                     .rope_dim = 16,
                                     .value_dim = 32,
                                     .experts = 8,
                                     .used = 3,
                                     .shared = 1,
                                     .feed_forward = 256,
                                     .dense_layers = 1};

// Sources: the config.json of DeepSeek-R1-Distill-Qwen-1.5B and -7B and of DeepSeek-V2-Lite. The tiny
// ones are for tests.
constexpr ModelShape shapes[] = {
    {"r1-distill-qwen-1.5b", "R1 Distill Qwen 1.5B shape", 1536, 8960, 28, 12, 2, 151936},
    {"r1-distill-qwen-7b", "R1 Distill Qwen 7B shape", 3584, 18944, 28, 28, 4, 152064},
    {"deepseek-v2-lite", "DeepSeek V2 Lite shape", 2048, 10944, 27, 16, 16, 102400, &v2_lite},
    {"tiny", "tiny shape", 256, 768, 2, 4, 2, 0},
    {"tiny-deepseek", "tiny DeepSeek shape", 256, 768, 3, 4, 4, 0, &tiny_latent},
};

struct Options {
  std::string shape;
  std::string type = "f16";
  std::string output;
  std::string vocabulary = RIDGE_VOCABULARY;
  uint64_t seed = 1;
  int threads = 0;
  bool force = false;
};

const ModelShape& shape_named(const std::string& name) {
  std::string known;
  for (const ModelShape& shape : shapes) {
    if (shape.name == name) return shape;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", shape.name);
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("there is no shape {}; there are {}", name, known));
}

// SplitMix64's finishing function (Steele, Lea and Flood, 2014): any counter to 64 random bits.
uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

struct Distribution {
  float mean;
  float deviation;
};

// One row of a tensor. The sum of four uniform numbers is near enough to a Gaussian one (it ends at
// 3.46 deviations) and comes from one counter, so that any row can be drawn alone.
void draw_row(uint64_t tensor_key, int64_t row, Distribution wanted, std::span<float> out) {
  constexpr uint64_t golden_ratio = 0x9e3779b97f4a7c15u;
  constexpr float middle = 2.0f * 65535.0f;
  constexpr float spread = 37837.2f;  // deviation of the sum: 65536 · sqrt(4 / 12)
  uint64_t counter = mix(tensor_key + static_cast<uint64_t>(row) * golden_ratio);
  const float unit = wanted.deviation / spread;
  for (float& value : out) {
    const uint64_t bits = mix(counter += golden_ratio);
    const auto sum = static_cast<int>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                      ((bits >> 32) & 0xffff) + (bits >> 48));
    value = wanted.mean + unit * (static_cast<float>(sum) - middle);
  }
}

class RandomModel {
 public:
  RandomModel(const ModelShape& shape, const format::GgufFile& vocabulary, const Options& options)
      : shape_(shape),
        vocabulary_(vocabulary),
        options_(options),
        recipe_(format::quantization_recipe(options.type)),
        team_(options.threads > 0 ? options.threads : available_cpus()) {
    outline_ = {shape.layers, shape.heads, shape.kv_heads, /*output_is_embedding=*/false};
    tokens_ = shape.vocabulary > 0
                  ? static_cast<uint64_t>(shape.vocabulary)
                  : vocabulary.metadata().string_array("tokenizer.ggml.tokens").size();
  }

  void write(const std::filesystem::path& output) {
    add_metadata();
    add_tensors();
    format::check_free_space(output, writer_.file_bytes());
    writer_.write(output);
    if (isatty(STDERR_FILENO)) fmt::print(stderr, "\n");
    fmt::print("{}: {} of {} million parameters, {} bytes\n", output.string(), recipe_.name,
               elements_ / 1'000'000, writer_.file_bytes());
  }

 private:
  void add_metadata() {
    const std::string family = shape_.latent == nullptr ? "qwen2" : "deepseek2";
    const auto key = [&](const char* name) { return family + "." + name; };
    writer_.set_string("general.architecture", family);
    writer_.set_string("general.type", "model");
    writer_.set_string("general.name", fmt::format("{}, random weights", shape_.title));
    writer_.set_uint32("general.file_type", recipe_.file_type);
    writer_.set_uint32("general.quantization_version", 2);
    writer_.set_uint32(key("block_count"), shape_.layers);
    writer_.set_uint32(key("context_length"), 131072);
    writer_.set_uint32(key("embedding_length"), shape_.hidden);
    writer_.set_uint32(key("feed_forward_length"), shape_.feed_forward);
    writer_.set_uint32(key("attention.head_count"), shape_.heads);
    writer_.set_uint32(key("attention.head_count_kv"), shape_.latent == nullptr ? shape_.kv_heads : 1);
    writer_.set_float32(key("rope.freq_base"), 10000.0f);
    writer_.set_float32(key("attention.layer_norm_rms_epsilon"), 1e-6f);
    if (shape_.latent != nullptr) add_latent_metadata(*shape_.latent);
    add_tokenizer();
  }

  // With YaRN as V2-Lite has it.
  void add_latent_metadata(const LatentShape& latent) {
    const auto set = [&](const char* name, int value) {
      writer_.set_uint32(fmt::format("deepseek2.{}", name), value);
    };
    set("attention.kv_lora_rank", latent.rank);
    set("attention.key_length", latent.rank + latent.rope_dim);
    set("attention.value_length", latent.rank);
    set("attention.key_length_mla", latent.nope_dim + latent.rope_dim);
    set("attention.value_length_mla", latent.value_dim);
    set("rope.dimension_count", latent.rope_dim);
    set("leading_dense_block_count", latent.dense_layers);
    set("expert_count", latent.experts);
    set("expert_used_count", latent.used);
    set("expert_shared_count", latent.shared);
    set("expert_feed_forward_length", latent.feed_forward);
    writer_.set_string("deepseek2.rope.scaling.type", "yarn");
    writer_.set_float32("deepseek2.rope.scaling.factor", 40.0f);
    set("rope.scaling.original_context_length", 4096);
    writer_.set_float32("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
  }

  // The tokens are cut or padded to the shape's number of rows; the models of this family differ in
  // nothing else.
  void add_tokenizer() {
    constexpr int32_t unused = 5;
    const format::GgufMetadata& metadata = vocabulary_.metadata();
    const auto texts = metadata.string_array("tokenizer.ggml.tokens");
    const auto types = metadata.int_array("tokenizer.ggml.token_type");
    const std::vector<size_t> kept = kept_tokens(std::vector<int32_t>(types.begin(), types.end()));
    std::vector<std::string> kept_texts;
    std::vector<int32_t> kept_types;
    std::map<size_t, uint32_t> new_ids;
    for (const size_t id : kept) {
      new_ids.emplace(id, static_cast<uint32_t>(kept_texts.size()));
      kept_texts.emplace_back(texts[id]);
      kept_types.push_back(static_cast<int32_t>(types[id]));
    }
    const std::set<std::string, std::less<>> mergeable(kept_texts.begin(), kept_texts.end());
    while (kept_texts.size() < tokens_) kept_texts.push_back(fmt::format("[PAD{}]", kept_texts.size()));
    kept_types.resize(tokens_, unused);
    for (const format::GgufEntry& entry : metadata.entries()) {
      if (entry.key == "tokenizer.ggml.tokens") {
        writer_.set_string_array(entry.key, kept_texts);
      } else if (entry.key == "tokenizer.ggml.token_type") {
        writer_.set_int_array(entry.key, kept_types);
      } else if (entry.key == "tokenizer.ggml.merges") {
        std::vector<std::string> merges;
        for (const std::string_view merge : metadata.string_array(entry.key)) {
          const size_t space = merge.find(' ');
          const std::string left(merge.substr(0, space)), right(merge.substr(space + 1));
          if (mergeable.contains(left) && mergeable.contains(right) && mergeable.contains(left + right)) {
            merges.emplace_back(merge);
          }
        }
        writer_.set_string_array(entry.key, merges);
      } else if (entry.key.starts_with("tokenizer.ggml.") && entry.key.ends_with("_token_id")) {
        const uint32_t id = *metadata.optional_uint32(entry.key);
        const auto found = new_ids.find(id);
        if (found == new_ids.end()) {
          throw Error(ErrorCode::invalid_file,
                      fmt::format("{}: {} is {}, which is none of the {} tokens that are kept of {}",
                                  options_.vocabulary, entry.key, id, kept.size(), texts.size()));
        }
        writer_.set_uint32(entry.key, found->second);
      } else if (entry.key.starts_with("tokenizer.")) {
        writer_.set_value(entry.key, entry.value);
      }
    }
  }

  // The vocabulary file's tokens that the shape has room for: those that end turns and the like are the
  // last, and stay.
  std::vector<size_t> kept_tokens(const std::vector<int32_t>& types) const {
    constexpr int32_t normal = 1, unused = 5;
    if (types.size() <= tokens_) {
      std::vector<size_t> all(types.size());
      std::iota(all.begin(), all.end(), 0);
      return all;
    }
    std::vector<size_t> kept, others;
    for (size_t id = 0; id < types.size(); ++id) {
      if (types[id] != normal && types[id] != unused) others.push_back(id);
    }
    for (size_t id = 0; id < types.size() && kept.size() + others.size() < tokens_; ++id) {
      if (types[id] == normal) kept.push_back(id);
    }
    kept.insert(kept.end(), others.begin(), others.end());
    return kept;
  }

  // Deviations that keep a row's size through each matrix, and let all layers together add about as
  // much to the residual stream as the embedding brings.
  void add_tensors() {
    const int hidden = shape_.hidden;
    const auto vocabulary = static_cast<int64_t>(tokens_);
    add("token_embd.weight", {vocabulary, hidden}, {0, 1});
    for (int layer = 0; layer < shape_.layers; ++layer) {
      const std::string blk = fmt::format("blk.{}.", layer);
      add(blk + "attn_norm.weight", {hidden}, {1, 0.1f});
      if (shape_.latent == nullptr) {
        add_attention(blk);
      } else {
        add_latent_attention(blk, *shape_.latent);
      }
      add(blk + "ffn_norm.weight", {hidden}, {1, 0.1f});
      if (shape_.latent == nullptr || layer < shape_.latent->dense_layers) {
        add_feed_forward(blk, "", shape_.feed_forward);
      } else {
        add_experts(blk, *shape_.latent);
      }
    }
    add("output_norm.weight", {hidden}, {1, 0.1f});
    // Wider, so that some tokens are likelier than others.
    add("output.weight", {vocabulary, hidden}, {0, 2.5f * keeping(hidden)});
  }

  static float keeping(int columns) { return 1.0f / std::sqrt(static_cast<float>(columns)); }
  float branch() const { return 1.0f / std::sqrt(2.0f * static_cast<float>(shape_.layers)); }
  // SwiGLU halves.
  float down(int inner) const { return 2.0f * branch() / std::sqrt(static_cast<float>(inner)); }

  void add_attention(const std::string& blk) {
    const int hidden = shape_.hidden;
    const int kv = shape_.kv_heads * (hidden / shape_.heads);
    for (const auto& [role, rows] :
         {std::pair{"attn_q", hidden}, {"attn_k", kv}, {"attn_v", kv}}) {
      add(blk + role + ".weight", {rows, hidden}, {0, keeping(hidden)});
      add(blk + role + ".bias", {rows}, {0, 0.2f});
    }
    add(blk + "attn_output.weight", {hidden, hidden}, {0, branch() * keeping(hidden)});
  }

  void add_latent_attention(const std::string& blk, const LatentShape& l) {
    const int hidden = shape_.hidden;
    const int heads = shape_.heads;
    add(blk + "attn_q.weight", {heads * (l.nope_dim + l.rope_dim), hidden}, {0, keeping(hidden)});
    add(blk + "attn_kv_a_mqa.weight", {l.rank + l.rope_dim, hidden}, {0, keeping(hidden)});
    add(blk + "attn_kv_a_norm.weight", {l.rank}, {1, 0.1f});
    add(blk + "attn_k_b.weight", {heads, l.rank, l.nope_dim}, {0, keeping(l.rank)});
    add(blk + "attn_v_b.weight", {heads, l.value_dim, l.rank}, {0, keeping(l.rank)});
    const int values = heads * l.value_dim;
    add(blk + "attn_output.weight", {hidden, values}, {0, branch() * keeping(values)});
  }

  // suffix: "_shexp" of shared experts
  void add_feed_forward(const std::string& blk, const std::string& suffix, int inner) {
    const int hidden = shape_.hidden;
    add(blk + "ffn_gate" + suffix + ".weight", {inner, hidden}, {0, keeping(hidden)});
    add(blk + "ffn_up" + suffix + ".weight", {inner, hidden}, {0, keeping(hidden)});
    add(blk + "ffn_down" + suffix + ".weight", {hidden, inner}, {0, down(inner)});
  }

  void add_experts(const std::string& blk, const LatentShape& l) {
    const int hidden = shape_.hidden;
    const int inner = l.feed_forward;
    add(blk + "ffn_gate_inp.weight", {l.experts, hidden}, {0, keeping(hidden)});
    add(blk + "ffn_gate_exps.weight", {l.experts, inner, hidden}, {0, keeping(hidden)});
    add(blk + "ffn_up_exps.weight", {l.experts, inner, hidden}, {0, keeping(hidden)});
    add(blk + "ffn_down_exps.weight", {l.experts, hidden, inner}, {0, down(inner)});
    add_feed_forward(blk, "_shexp", l.shared * inner);
  }

  void add(const std::string& name, const Shape& shape, Distribution wanted) {
    const auto choice = format::choose_type(recipe_, outline_, name, shape);
    const DType dtype = choice ? choice->dtype : DType::f32;
    const uint64_t key = mix(mix(options_.seed) + ++tensors_);
    elements_ += shape.elements();
    writer_.add_streamed_tensor(
        name, dtype, shape, [this, name, dtype, shape, wanted, key](const auto& sink) {
          format::TensorQuantizer(team_).write(
              name, dtype, shape,
              [&](int64_t row, std::span<float> out) { draw_row(key, row, wanted, out); }, sink,
              [this](int64_t elements) { show(elements); });
        });
  }

  void show(int64_t elements) {
    done_ += elements;
    if (!isatty(STDERR_FILENO)) return;
    fmt::print(stderr, "\r{:3} %", 100 * done_ / elements_);
    std::fflush(stderr);
  }

  const ModelShape& shape_;
  const format::GgufFile& vocabulary_;
  const Options& options_;
  const format::QuantizationRecipe& recipe_;
  format::ModelOutline outline_;
  ThreadTeam team_;
  format::GgufWriter writer_;
  uint64_t tokens_ = 0;
  uint64_t tensors_ = 0;
  int64_t elements_ = 0;
  int64_t done_ = 0;
};

void make(const Options& options) {
  const ModelShape& shape = shape_named(options.shape);
  if (!options.force && std::filesystem::exists(options.output)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} exists; --force replaces it", options.output));
  }
  const format::GgufFile vocabulary = format::GgufFile::open(options.vocabulary);
  RandomModel(shape, vocabulary, options).write(options.output);
}

}  // namespace
}  // namespace ridge

int main(int argc, char** argv) {
  ridge::Options options;
  CLI::App app("Writes a GGUF file of random weights in a published model's exact shape",
               "random_model");
  std::string shapes;
  for (const auto& shape : ridge::shapes) shapes += fmt::format(" {}", shape.name);
  app.add_option("--shape", options.shape, "One of" + shapes)->required();
  app.add_option("--type", options.type, "As of 'ridge quantize': q4_k_m, q8_0, f16, ...")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "The same seed gives the same file")
      ->capture_default_str();
  app.add_option("-t,--threads", options.threads, "0 for as many as this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--vocabulary", options.vocabulary, "A GGUF file whose tokenizer is taken");
  app.add_flag("--force", options.force, "Replace a file that is there");
  app.add_option("OUT", options.output, "The new GGUF file")->required();
  CLI11_PARSE(app, argc, argv);
  return ridge::benchmarks::exit_code_of("random_model", [&] { ridge::make(options); });
}
