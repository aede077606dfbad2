// The experts of one layer by themselves (gate·up, activation, down, the sum over a token's
// experts), at the shape of DeepSeek-V2-Lite as Q4_K_M files hold it: checks the result against
// float64 sums over the dequantised weights, then prints its speed as a share of what this
// machine's own threads measured: of reads of memory, for the weights of the experts that are
// chosen at all, and of what the instruction that multiplies can do (a second plane of activations
// counts as work).
//   expert_benchmark [--isa NAME]… [--tokens N]… [--precision full|bf16|int8]… [--up DTYPE]
//                    [--down DTYPE] [--experts N] [--top-k N] [--hidden N] [--width N] [--threads
//                    N]
//                    [--seconds S]
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/recorder.h"
#include "backend/registry.h"
#include "base/error.h"
#include "conformance/random_weights.h"
#include "kernel_limits.h"
#include "measure.h"
#include "tensor/dequantize.h"

namespace ridge::benchmarks {
namespace {

using backend::Precision;
using backend::Value;

const std::map<std::string, Precision> precision_names = {
    {"full", Precision::full}, {"bf16", Precision::bf16}, {"int8", Precision::int8}};

struct Options {
  std::vector<std::string> isas;
  std::vector<std::string> precisions = {"full", "int8"};
  std::vector<int> tokens = {1, 16, 512};
  // 1408 columns are no whole block of a K format: Q5_0 is what Q4_K falls back to there.
  std::string up = "q4_k", down = "q5_0";
  int experts = 64, top_k = 6, hidden = 2048, width = 1408;
  int threads = 0;
  double seconds = 1;  // for each figure
};

// A run goes through the weights so often, with other experts each time, that those of a few tokens
// leave the caches in between.
constexpr int layers = 8;

// Weights and inputs, the same for all devices.
struct Experts {
  Options options;
  conformance::TestWeightPointer merged;  // [E, gate and up, hidden]
  conformance::TestWeightPointer down;    // [E, hidden, width]
  std::vector<float> inputs;              // [tokens, columns()]
  conformance::TestWeightPointer table;   // the same

  explicit Experts(const Options& o) : options(o) {
    using backend::WeightUse;
    conformance::Random random(1);
    const DType up = dtype_of(o.up);
    merged = conformance::random_weight(random, {{up, o.width}, {up, o.width}}, o.hidden,
                                        WeightUse::linear, o.experts);
    down = conformance::random_weight(random, {{dtype_of(o.down), o.hidden}}, o.width,
                                      WeightUse::linear, o.experts);
    const int tokens = *std::max_element(o.tokens.begin(), o.tokens.end());
    inputs = conformance::random_values(random, static_cast<size_t>(tokens) * columns());
    table = conformance::weight_of(inputs, columns(), WeightUse::embedding);
  }

  // A row: the logits of each layer, then x.
  int columns() const { return layers * options.experts + options.hidden; }
  const float* row(int token) const { return &inputs[static_cast<size_t>(token) * columns()]; }

  // Each chosen expert and its weight.
  std::vector<std::pair<int, double>> choice(int token, int layer) const {
    const float* logits = row(token) + layer * options.experts;
    std::vector<int> order(options.experts);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    double sum = 0;
    for (int e : order) sum += std::exp(logits[e]);
    std::vector<std::pair<int, double>> chosen;
    for (int j = 0; j < options.top_k; ++j) {
      chosen.emplace_back(order[j], std::exp(logits[order[j]]) / sum);
    }
    return chosen;
  }

  // Experts that have rows, over all layers.
  int used(int tokens) const {
    int total = 0;
    for (int layer = 0; layer < layers; ++layer) {
      std::set<int> seen;
      for (int t = 0; t < tokens; ++t) {
        for (const auto& [expert, weight] : choice(t, layer)) seen.insert(expert);
      }
      total += static_cast<int>(seen.size());
    }
    return total;
  }

  // Row `index` of an expert's matrix times x.
  static double product(const TensorView& view, int expert, int rows, int index,
                        const std::vector<double>& x) {
    std::vector<float> weight(x.size());
    dequantize_row(view.dtype, view.row(static_cast<int64_t>(expert) * rows + index), weight);
    return std::inner_product(x.begin(), x.end(), weight.begin(), 0.0);
  }

  // Every `stride`th of a token's outputs in the last layer.
  std::vector<double> expected(int token, int stride) const {
    const auto& [hidden, width] = std::pair(options.hidden, options.width);
    const float* from = row(token) + layers * options.experts;
    const std::vector<double> x(from, from + hidden);
    std::vector<double> sums((hidden + stride - 1) / stride);
    for (const auto& [expert, weight] : choice(token, layers - 1)) {
      std::vector<double> inner(width);
      for (int f = 0; f < width; ++f) {
        const double gate = product(merged->source.segments[0], expert, width, f, x);
        const double up = product(merged->source.segments[1], expert, width, f, x);
        inner[f] = gate / (1 + std::exp(-gate)) * up;
      }
      for (int n = 0; n < hidden; n += stride) {
        sums[n / stride] += weight * product(down->source.segments[0], expert, hidden, n, inner);
      }
    }
    return sums;
  }
};

// The layers as one program of a device.
class Chain {
 public:
  Chain(backend::Device& device, const Experts& experts, Precision precision, int tokens)
      : experts_(experts), stream_(device.create_stream()), tokens_(tokens) {
    const Options& o = experts.options;
    const auto input = [&](size_t count) {
      buffers_.push_back(device.allocate(count * sizeof(int32_t)));
      return buffers_.back().get();
    };
    const auto prepare = [&](const conformance::TestWeightPointer& weight) {
      prepared_.push_back(device.prepare_weight(weight->source));
      return prepared_.back().get();
    };
    const backend::StepBuffers inputs{input(tokens), input(1), input(1), input(2), input(1),
                                      input(1),      input(1), input(1), input(1)};
    std::vector<int32_t> ids(tokens);
    std::iota(ids.begin(), ids.end(), 0);
    stream_->upload(*inputs.token_ids, 0, std::as_bytes(std::span(ids)));
    backend::Recorder ops({.tokens = tokens, .sequences = 1, .blocks_per_sequence = 1}, inputs,
                          device.activation_dtype());
    const Value row = ops.embed(*prepare(experts.table));
    const Value x = row.slice(layers * o.experts, o.hidden);
    const backend::Weight& merged = *prepare(experts.merged);
    const backend::Weight& down = *prepare(experts.down);
    expert_bytes_ = static_cast<double>(merged.size_bytes() + down.size_bytes()) / o.experts;
    Value out;
    for (int layer = 0; layer < layers; ++layer) {
      const auto routed = ops.route(row.slice(layer * o.experts, o.experts),
                                    {.experts = o.experts, .top_k = o.top_k});
      Value y = ops.expert_linear(x, merged, routed.ids, {}, precision);
      y = ops.gated_activation(y, backend::Activation::silu, o.top_k);
      out = ops.expert_linear(y, down, routed.ids, routed.weights, precision);
    }
    ops.mark_output(out);
    program_ = device.compile(ops.finish());
  }

  double expert_bytes() const { return expert_bytes_; }

  double seconds_of_run() {
    const auto start = std::chrono::steady_clock::now();
    stream_->run(*program_, {.tokens = tokens_, .sequences = 1});
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // Root mean square error of some of the last run's outputs over their size.
  double error() {
    const int hidden = experts_.options.hidden;
    constexpr int stride = 37;
    std::vector<float> got(static_cast<size_t>(tokens_) * hidden);
    stream_->download(program_->output(0), 0, std::as_writable_bytes(std::span(got)));
    stream_->synchronize();
    double squares = 0, error_squares = 0;
    for (int t : std::set<int>{0, tokens_ / 2, tokens_ - 1}) {
      const std::vector<double> expected = experts_.expected(t, stride);
      for (size_t i = 0; i < expected.size(); ++i) {
        const double difference = got[static_cast<size_t>(t) * hidden + i * stride] - expected[i];
        squares += expected[i] * expected[i];
        error_squares += difference * difference;
      }
    }
    return std::sqrt(error_squares / squares);
  }

 private:
  const Experts& experts_;
  std::unique_ptr<backend::Stream> stream_;
  int tokens_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  std::vector<std::unique_ptr<backend::Weight>> prepared_;
  std::unique_ptr<backend::Program> program_;
  double expert_bytes_ = 0;
};

// Throws internal where a result is wrong: its speed would say nothing.
void check(Chain& chain, Precision precision, const std::string& what) {
  chain.seconds_of_run();
  const double error = chain.error();
  const double allowed = precision == Precision::full ? 3e-4 : 3e-2;
  if (!(error <= allowed)) {
    throw Error(ErrorCode::internal, fmt::format("{}: an error of {:.1e} of the output's size; at "
                                                 "most {:.0e} is right",
                                                 what, error, allowed));
  }
}

void measure(backend::Device& device, const backend::cpu::KernelTable& kernels,
             const Limits& limits, const Experts& experts, const std::string& precision_name,
             int tokens) {
  const Options& o = experts.options;
  const Precision precision = precision_names.at(precision_name);
  Chain chain(device, experts, precision, tokens);
  const std::string what =
      fmt::format("{:<16} {:<8} {:>6}", device.info().name, precision_name, tokens);
  check(chain, precision, what);
  const double best = least_seconds(o.seconds, [&] { return chain.seconds_of_run(); });
  const double bytes = chain.expert_bytes() * experts.used(tokens) / best;
  const double rows = static_cast<double>(tokens) * o.top_k;
  const double flops = layers * rows * 2.0 * 3 * o.width * o.hidden / best;
  const int expert_rows = std::max(1, static_cast<int>(rows / o.experts));
  const double peak = peak_of(limits, kernels, dtype_of(o.up), precision, expert_rows);
  fmt::print("{} {:>10.1f} {:>8.1f} {:>5.0f} % {:>9.0f} {:>5.0f} %\n", what, best / layers * 1e6,
             bytes / 1e9, 100 * bytes / limits.bytes_per_second, flops / 1e9, 100 * flops / peak);
}

void run(Options options) {
  if (options.isas.empty()) options.isas = backend::device_isas("cpu");
  const Experts experts(options);
  for (const std::string& isa : options.isas) {
    const auto device = backend::open_device("cpu", {.threads = options.threads, .isa = isa});
    const backend::cpu::KernelTable& kernels = *backend::cpu::select_isa(isa).kernels;
    const Limits limits = measure_limits(kernels, device->info().threads);
    fmt::print("{}, {} threads: {}\n", device->info().name, device->info().threads,
               to_string(limits));
    fmt::print("{:<16} {:<8} {:>6} {:>10} {:>8} {:>7} {:>9} {:>7}\n", "device", "", "tokens", "µs",
               "GB/s", "share", "Gop/s", "share");
    for (const std::string& precision : options.precisions) {
      for (int tokens : options.tokens) {
        measure(*device, kernels, limits, experts, precision, tokens);
      }
    }
  }
}

}  // namespace
}  // namespace ridge::benchmarks

int main(int argc, char** argv) {
  ridge::benchmarks::Options options;
  CLI::App app{"Measures a layer of experts by itself."};
  app.add_option("--isa", options.isas, "Instruction sets; all by default");
  app.add_option("--tokens", options.tokens, "Tokens of a step");
  app.add_option("--precision", options.precisions, "full, bf16, int8")
      ->check(CLI::IsMember({"full", "bf16", "int8"}));
  app.add_option("--up", options.up, "Dtype of gate and up")->capture_default_str();
  app.add_option("--down", options.down, "Dtype of down")->capture_default_str();
  app.add_option("--experts", options.experts)->capture_default_str();
  app.add_option("--top-k", options.top_k, "Experts of each token")->capture_default_str();
  app.add_option("--hidden", options.hidden)->capture_default_str();
  app.add_option("--width", options.width, "Of one expert")->capture_default_str();
  app.add_option("--threads", options.threads, "0: all");
  app.add_option("--seconds", options.seconds, "For each figure");
  CLI11_PARSE(app, argc, argv);
  return ridge::benchmarks::exit_code_of("expert_benchmark", [&] { ridge::benchmarks::run(options); });
}
