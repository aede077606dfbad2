// The kernels of scaled.h by themselves: nanoseconds for a unit of 256 columns × 16 rows, with
// weights that stay in the second-level cache and with weights from memory, all threads at once.
//   scaled_benchmark [--dtype NAME]… [--tokens N]… [--columns N] [--threads N] [--seconds S]
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/machine_probe.h"
#include "backend/cpu/weight.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "conformance/random_weights.h"
#include "measure.h"

namespace ridge::benchmarks {
namespace {

using namespace backend::cpu;

constexpr int strips_together = 12;  // as LinearScaled takes them

struct Options {
  std::vector<std::string> dtypes = {"q4_k", "q6_k"};
  std::vector<int> tokens = {5, 8, 16};
  int columns = 1536;
  int threads = 0;
  double seconds = 0.5;  // for each figure
};

// What one thread multiplies: some copies of the same strips, and a step's tokens.
class Share {
 public:
  Share(const WeightPart& part, size_t bytes, int count, const ScaledKernels& kernels)
      : kernels_(kernels),
        multiply_(kernels.multiply[static_cast<int>(part.dtype)]),
        units_(part.units),
        weights_(std::max<size_t>(1, bytes / part.tile_bytes()) * part.tile_bytes()),
        scratch_(scaled_scratch),
        out_(sizeof(float) * strips_together * count * strip_rows),
        codes_(static_cast<size_t>(units_) * count * scaled_planes * scaled_unit),
        sums_(static_cast<size_t>(units_) * count * scaled_sum_width * sizeof(uint16_t)),
        steps_(static_cast<size_t>(units_) * count * sizeof(float)),
        tokens_{reinterpret_cast<int8_t*>(codes_.data()),
                reinterpret_cast<uint16_t*>(sums_.data()), reinterpret_cast<float*>(steps_.data()),
                count} {
    for (size_t at = 0; at < weights_.size_bytes(); at += part.tile_bytes()) {
      std::memcpy(weights_.data() + at, part.tiles, part.tile_bytes());
    }
    for (size_t at = 0; at < weights_.size_bytes(); at += part.strip_bytes) {
      strips_.push_back(weights_.data() + at);
    }
    conformance::Random random(1);
    const std::vector<float> x = conformance::random_values(random, scaled_unit);
    for (int64_t unit = 0; unit < units_; ++unit) {
      for (int t = 0; t < count; ++t) kernels.quantize(x.data(), count, tokens_.token(unit, t));
    }
  }

  int64_t units() const { return units_ * static_cast<int64_t>(strips_.size()); }

  // Every strip once.
  void run() {
    kernels_.begin(tokens_.count);
    for (size_t first = 0; first < strips_.size(); first += strips_together) {
      const size_t next = (first + strips_together) % strips_.size();
      multiply_({.strips = &strips_[first],
                 .count = strips_together,
                 .next = &strips_[next],
                 .next_count = strips_together,
                 .units = units_,
                 .tokens = &tokens_,
                 .scratch = scratch_.data(),
                 .out = reinterpret_cast<float*>(out_.data())});
    }
    kernels_.end();
  }

 private:
  const ScaledKernels& kernels_;
  void (*const multiply_)(const ScaledJob& job);
  const int64_t units_;  // of a strip
  Memory weights_, scratch_, out_, codes_, sums_, steps_;
  const ScaledTokens tokens_;
  std::vector<const std::byte*> strips_;
};

// Of a unit, in the slowest thread's best round.
double nanoseconds(ThreadTeam& team, const WeightPart& part, size_t bytes, int count,
                   const ScaledKernels& kernels, double seconds) {
  std::vector<std::unique_ptr<Share>> shares(team.size());
  for (auto& share : shares) share = std::make_unique<Share>(part, bytes, count, kernels);
  // A round is long beside the start of a team.
  const int64_t repetitions = std::max<int64_t>(1, 50'000 / shares[0]->units());
  const double best = least_seconds(seconds, [&] {
    const auto start = std::chrono::steady_clock::now();
    team.run([&](int member) {
      for (int64_t i = 0; i < repetitions; ++i) shares[member]->run();
    });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  });
  return 1e9 * best / static_cast<double>(repetitions * shares[0]->units());
}

void run(const Options& options) {
  if (options.columns < scaled_unit || options.columns % scaled_unit != 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} columns; it must be a multiple of {}", options.columns, scaled_unit));
  }
  const ScaledKernels& kernels = select_isa("amx").kernels->scaled;
  ThreadTeam team(options.threads > 0 ? options.threads : available_cpus());
  MemoryPool pool(HugePages::asked);
  fmt::print("{} threads, {} columns, {} strips together\n{:<8} {:>6} {:>14} {:>16} {:>14}\n",
             team.size(), options.columns, strips_together, "dtype", "tokens", "cached, ns",
             "from memory, ns", "GB/s together");
  for (const std::string& name : options.dtypes) {
    const auto dtype = dtype_from_name(name);
    if (!dtype || kernels.multiply[static_cast<int>(*dtype)] == nullptr) {
      throw Error(ErrorCode::invalid_argument,
                  name + " has no such kernels; there are q3_k, q4_k, q5_k, q6_k and iq4_xs");
    }
    conformance::Random random(1);
    const auto source = conformance::random_weight(
        random, {{*dtype, strips_together * strip_rows}}, options.columns);
    const CpuWeight weight(source->source, team, /*store=*/nullptr, pool);
    const WeightPart& part = weight.parts().front();
    for (int count : options.tokens) {
      if (count < 1 || count > most_scaled_tokens) {
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("{} tokens; it must be 1 to {}", count, most_scaled_tokens));
      }
      const double cached = nanoseconds(team, part, 0, count, kernels, options.seconds);
      const double uncached = nanoseconds(team, part, uncached_bytes() / team.size(), count,
                                          kernels, options.seconds);
      const double bytes = tile_format(*dtype).unit_bytes() * team.size();
      fmt::print("{:<8} {:>6} {:>14.0f} {:>16.0f} {:>14.1f}\n", name, count, cached, uncached,
                 bytes / uncached);
    }
  }
}

}  // namespace
}  // namespace ridge::benchmarks

int main(int argc, char** argv) {
  ridge::benchmarks::Options options;
  CLI::App app{"Measures by themselves the kernels for a few tokens whose scales are within codes."};
  app.add_option("--dtype", options.dtypes, "Weights' dtypes")->capture_default_str();
  app.add_option("--tokens", options.tokens, "5 to 16 in use")->capture_default_str();
  app.add_option("--columns", options.columns, "Of a weight")->capture_default_str();
  app.add_option("--threads", options.threads, "0: all");
  app.add_option("--seconds", options.seconds, "For each figure");
  CLI11_PARSE(app, argc, argv);
  return ridge::benchmarks::exit_code_of("scaled_benchmark", [&] { ridge::benchmarks::run(options); });
}
