// Latent attention of one layer by itself, in both of its forms, at the shape of DeepSeek-V2-Lite: takes
// queries into the latents' space and values out of it, or expands the context; checks that the forms
// agree, then prints what each takes, and which of them the back end chooses. The lines of the fewest tokens
// tell how fast a cache is read.
//   latent_benchmark [--isa NAME] [--tokens N]… [--depth N]… [--kv-dtype NAME]… [--precision full|bf16]
//                    [--weights DTYPE] [--heads N] [--threads N] [--seconds S]
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/latent_forms.h"
#include "backend/cpu/open.h"
#include "backend/recorder.h"
#include "base/error.h"
#include "conformance/random_weights.h"
#include "kernel_limits.h"
#include "measure.h"

namespace ridge::benchmarks {
namespace {

using backend::Precision;
using backend::Value;
using backend::cpu::LatentForm;

struct Options {
  std::string isa;
  std::vector<int> tokens = {1, 16, 64, 128, 256, 512};
  std::vector<int> depths = {0, 2048, 8192};
  std::vector<std::string> kv_dtypes = {"f16", "bf16", "i8"};
  std::string precision = "bf16";
  std::string weights = "q4_k";
  int heads = 16, rank = 512, nope = 128, rotary = 64, value = 128;
  int threads = 0;
  double seconds = 0.3;  // for each figure

  int columns() const { return heads * (nope + rotary) + rank + rotary; }
};

constexpr int block_tokens = 16;
constexpr int filled_at_once = 512;

// Weights and inputs, the same for all devices.
struct Layer {
  Options options;
  conformance::TestWeightPointer key_up, value_up, table;

  explicit Layer(const Options& o) : options(o) {
    using backend::WeightUse;
    conformance::Random random(1);
    const DType dtype = dtype_of(o.weights);
    // 128 columns are no whole block of a K format.
    const DType short_dtype = is_quantized(dtype) ? DType::q8_0 : dtype;
    key_up = conformance::random_weight(random, {{short_dtype, o.rank}}, o.nope, WeightUse::linear, o.heads);
    value_up = conformance::random_weight(random, {{dtype, o.value}}, o.rank, WeightUse::linear, o.heads);
    table = conformance::weight_of(
        conformance::random_values(random, static_cast<size_t>(filled_at_once) * o.columns()),
        o.columns(), WeightUse::embedding);
  }
};

// One sequence behind `depth` tokens, on a device of its own with one form.
class Attention {
 public:
  Attention(const Layer& layer, LatentForm form, DType kv_dtype, int tokens, int depth)
      : device_(backend::cpu::open({.threads = layer.options.threads, .isa = layer.options.isa}, form)),
        stream_(device_->create_stream()),
        tokens_(tokens),
        outputs_(layer.options.heads * layer.options.value) {
    const Options& o = layer.options;
    const int context = depth + tokens;
    const int blocks = (context + block_tokens - 1) / block_tokens;
    cache_ = device_->create_kv_cache({.kind = backend::KvCacheLayout::Kind::latent,
                                       .layers = 1,
                                       .blocks = blocks,
                                       .block_tokens = block_tokens,
                                       .key_dim = o.rotary,
                                       .value_dim = o.rank,
                                       .dtype = kv_dtype});
    const auto prepare = [&](const conformance::TestWeightPointer& weight) {
      prepared_.push_back(device_->prepare_weight(weight->source));
      return prepared_.back().get();
    };
    const backend::Weight& table = *prepare(layer.table);
    const backend::Weight& key_up = *prepare(layer.key_up);
    const backend::Weight& value_up = *prepare(layer.value_up);
    const Precision precision = o.precision == "full" ? Precision::full : Precision::bf16;
    const auto record = [&](int most_tokens, bool attends) {
      const auto input = [&](size_t count) {
        buffers_.push_back(device_->allocate(count * sizeof(int32_t)));
        return buffers_.back().get();
      };
      inputs_ = {input(most_tokens), input(most_tokens), input(most_tokens), input(2), input(1),
                 input(blocks),      input(1),           input(1),           input(1)};
      backend::Recorder ops({.tokens = most_tokens, .sequences = 1, .blocks_per_sequence = blocks},
                            inputs_, device_->activation_dtype());
      const Value row = ops.embed(table);
      const Value q_nope = row.slice(0, o.heads * o.nope);
      const Value q_rotary = row.slice(o.heads * o.nope, o.heads * o.rotary);
      const Value latent = row.slice(o.heads * (o.nope + o.rotary), o.rank);
      const Value k_rotary = row.slice(o.heads * (o.nope + o.rotary) + o.rank, o.rotary);
      if (!attends) {
        ops.store_latent(latent, k_rotary, *cache_, 0);
        ops.mark_output(row);
      } else {
        backend::RopeTable rope{.pairs = backend::RopePairs::interleaved};
        for (int i = 0; i < o.rotary / 2; ++i) {
          rope.inverse_frequencies.push_back(std::pow(1e4f, -2.0f * static_cast<float>(i) / static_cast<float>(o.rotary)));
        }
        const Value q_latent = ops.head_linear(q_nope, key_up, precision);
        ops.rope(q_rotary, k_rotary, o.rotary, rope);
        ops.store_latent(latent, k_rotary, *cache_, 0);
        const Value mixed = ops.mla_attention(q_latent, q_rotary, *cache_, 0, o.heads,
                                              1.0f / std::sqrt(static_cast<float>(o.nope + o.rotary)));
        ops.mark_output(ops.head_linear(mixed, value_up, precision));
      }
      return device_->compile(ops.finish());
    };
    program_ = record(filled_at_once, false);
    for (int at = 0; at < depth; at += filled_at_once) {
      const int some = std::min(filled_at_once, depth - at);
      fill(some, at, blocks);
      stream_->run(*program_, {.tokens = some, .sequences = 1});
    }
    program_ = record(tokens, true);
    fill(tokens, depth, blocks);
  }

  double seconds_of_run() {
    const auto start = std::chrono::steady_clock::now();
    stream_->run(*program_, {.tokens = tokens_, .sequences = 1});
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::vector<float> result() {
    std::vector<float> got(static_cast<size_t>(tokens_) * outputs_);
    stream_->download(program_->output(0), 0, std::as_writable_bytes(std::span(got)));
    stream_->synchronize();
    return got;
  }
  double cache_bytes() const { return static_cast<double>(cache_->size_bytes()); }

 private:
  // So many tokens from a position on.
  void fill(int tokens, int first, int blocks) {
    const auto upload = [&](backend::Buffer* to, const std::vector<int32_t>& values) {
      stream_->upload(*to, 0, std::as_bytes(std::span(values)));
    };
    std::vector<int32_t> ids(tokens), positions(tokens), table(blocks);
    std::iota(ids.begin(), ids.end(), 0);
    std::iota(positions.begin(), positions.end(), first);
    std::iota(table.begin(), table.end(), 0);
    upload(inputs_.token_ids, ids);
    upload(inputs_.positions, positions);
    upload(inputs_.slots, positions);
    upload(inputs_.query_starts, {0, tokens});
    upload(inputs_.context_lengths, {first + tokens});
    upload(inputs_.block_tables, table);
  }

  std::unique_ptr<backend::Device> device_;
  std::unique_ptr<backend::Stream> stream_;
  const int tokens_;
  const int outputs_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  std::vector<std::unique_ptr<backend::Weight>> prepared_;
  std::unique_ptr<backend::KvCache> cache_;
  backend::StepBuffers inputs_;
  std::unique_ptr<backend::Program> program_;
};

// Throws internal where the forms differ: their speed would say nothing.
void check(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  double squares = 0, error_squares = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squares += double{a[i]} * a[i];
    error_squares += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  }
  const double error = std::sqrt(error_squares / squares);
  constexpr double allowed = 1e-2;
  if (!(error <= allowed)) {
    throw Error(ErrorCode::internal, fmt::format("{}: the forms differ by {:.1e} of the output's size; at "
                                                 "most {:.0e} is right",
                                                 what, error, allowed));
  }
}

void measure(const Layer& layer, const Limits& limits, const std::string& kv_dtype, int tokens, int depth) {
  const std::string what = fmt::format("{:<5} {:>6} {:>6}", kv_dtype, tokens, depth);
  const auto seconds_of = [&](LatentForm form, std::vector<float>& result, double& bytes) {
    Attention attention(layer, form, dtype_of(kv_dtype), tokens, depth);
    attention.seconds_of_run();
    result = attention.result();
    bytes = attention.cache_bytes();
    return least_seconds(layer.options.seconds, [&] { return attention.seconds_of_run(); });
  };
  std::vector<float> absorbed_result, expanded_result, chosen_result;
  double bytes = 0;
  const double absorbed = seconds_of(LatentForm::absorbed, absorbed_result, bytes);
  const double expanded = seconds_of(LatentForm::expanded, expanded_result, bytes);
  check(absorbed_result, expanded_result, what);
  const double chosen = seconds_of(LatentForm::automatic, chosen_result, bytes);
  fmt::print("{} {:>10.0f} {:>10.0f} {:>10.0f} {:<9} {:>6.1f} {:>5.0f} %\n", what, absorbed * 1e6, expanded * 1e6, chosen * 1e6,
             chosen_result == absorbed_result ? "absorbed" : "expanded", bytes / absorbed / 1e9,
             100 * bytes / absorbed / limits.bytes_per_second);
}

void run(const Options& options) {
  const Layer layer(options);
  const backend::cpu::KernelTable& kernels = *backend::cpu::select_isa(options.isa).kernels;
  const auto device = backend::cpu::open({.threads = options.threads, .isa = options.isa});
  const Limits limits = measure_limits(kernels, device->info().threads);
  fmt::print("{}, {} threads: {}\n", device->info().name, device->info().threads, to_string(limits));
  fmt::print("{:<5} {:>6} {:>6} {:>10} {:>10} {:>10} {:<9} {:>6} {:>7}\n", "cache", "tokens", "depth", "absorbed",
             "expanded", "chosen, µs", "", "GB/s", "share");
  for (const std::string& dtype : options.kv_dtypes) {
    for (int depth : options.depths) {
      for (int tokens : options.tokens) measure(layer, limits, dtype, tokens, depth);
    }
  }
}

}  // namespace
}  // namespace ridge::benchmarks

int main(int argc, char** argv) {
  ridge::benchmarks::Options options;
  CLI::App app{"Measures latent attention of one layer in both of its forms."};
  app.add_option("--isa", options.isa, "Instruction set; the best by default");
  app.add_option("--tokens", options.tokens, "Tokens of a step");
  app.add_option("--depth", options.depths, "Tokens before them");
  app.add_option("--kv-dtype", options.kv_dtypes, "f32, f16, bf16, i8");
  app.add_option("--precision", options.precision, "full, bf16")->check(CLI::IsMember({"full", "bf16"}));
  app.add_option("--weights", options.weights, "Dtype of the matrices")->capture_default_str();
  app.add_option("--heads", options.heads)->capture_default_str();
  app.add_option("--threads", options.threads, "0: all");
  app.add_option("--seconds", options.seconds, "For each figure");
  CLI11_PARSE(app, argc, argv);
  return ridge::benchmarks::exit_code_of("latent_benchmark", [&] { ridge::benchmarks::run(options); });
}
