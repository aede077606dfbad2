// The attention kernels by themselves, at the shape of a model: checks each result against float64,
// then prints its speed as a share of what this machine's own instructions and memory can do.
//   attention_bench [--isa NAME] [--threads N] [--heads 12] [--kv-heads 2] [--dim 128] [--depth
//   8192]
//                   [--dtype f16]
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/kv_cache.h"
#include "backend/cpu/machine_probe.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "base/thread_team.h"
#include "measure.h"

namespace ridge::backend::cpu {
namespace {

struct Options {
  std::string isa;
  int threads = 0;
  int heads = 12;
  int kv_heads = 2;
  int dim = 128;
  int depth = 8192;
  std::string dtype;  // "": each
};

constexpr int block_tokens = 16;
constexpr int range_keys = 512;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <typename Task>
double best_seconds(ThreadTeam& team, double budget_s, Task task) {
  return benchmarks::least_seconds(budget_s, [&] {
    const auto start = std::chrono::steady_clock::now();
    team.run(task);
    return seconds_since(start);
  });
}

// The instructions that a cache's dtype calls for, and how often each product is multiplied: with
// bfloat16 a query in two parts meets the keys, with i8 two planes meet keys and values alike, and
// tiles take a float16 cache in two bfloat16 parts, three products of four.
struct Way {
  int64_t (*peak)(int64_t rounds);
  double multiplies;
};
Way way_of(DType dtype, const KernelTable& kernels) {
  const PeakKernels& peaks = kernels.peaks;
  if (dtype == DType::bf16 && peaks.tile_bf16 != nullptr) return {peaks.tile_bf16, 1.5};
  if (dtype == DType::f16 && peaks.tile_bf16 != nullptr) return {peaks.tile_bf16, 3};
  if (dtype == DType::bf16 && peaks.bf16 != nullptr) return {peaks.bf16, 1.5};
  if (dtype == DType::i8) return {peaks.i8, 2};
  // Pairs of int16 take the place of four int8.
  const bool has_words =
      kernels.attention_rows[static_cast<int>(DType::f16)] == word_attention_rows;
  if (dtype == DType::f16 && has_words) return {peaks.i8, 2};
  return {peaks.f32, 1};
}

// One sequence in a cache of its own, in scattered blocks.
class Bench {
 public:
  Bench(const Options& o, const Isa& isa, DType dtype, int tokens)
      : options_(o),
        kernels_(*isa.kernels),
        tokens_(tokens),
        context_(o.depth + tokens),
        cache_({.layers = 1,
                .blocks = (context_ + block_tokens - 1) / block_tokens,
                .block_tokens = block_tokens,
                .kv_heads = o.kv_heads,
                .key_dim = o.dim,
                .value_dim = o.dim,
                .dtype = dtype}) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (int b = 0; b < cache_.layout().blocks; ++b) blocks_.push_back(b);
    std::shuffle(blocks_.begin(), blocks_.end(), random);
    const size_t vector = static_cast<size_t>(o.dim);
    keys_.resize(context_ * vector * o.kv_heads);
    values_.resize(keys_.size());
    q_.resize(static_cast<size_t>(tokens) * o.heads * vector);
    out_.resize(q_.size());
    for (float& x : keys_) x = normal(random);
    for (float& x : values_) x = normal(random);
    for (float& x : q_) x = normal(random);
    for (int t = 0; t < context_; ++t) {
      for (int h = 0; h < o.kv_heads; ++h) {
        kernels_.store_kv(
            &keys_[at(t, h)], &values_[at(t, h)],
            cache_.head(0, h) + blocks_[t / block_tokens] * cache_.geometry().block_stride,
            t % block_tokens, cache_.geometry());
      }
    }
  }

  void allocate(int members) {
    for (int m = 0; m < members; ++m) {
      scratch_.emplace_back(static_cast<size_t>(attention_scratch_bytes(cache_.geometry(), most_rows(), /*is_latent=*/false)));
      partials_.emplace_back(static_cast<size_t>(partial_rows) * attention_ranges *
                             partial_floats(cache_.geometry()) * sizeof(float));
    }
  }

  AttentionJob job(int head, int member) {
    const int group = options_.heads / options_.kv_heads;
    AttentionJob job{};
    job.q = q_.data() + static_cast<int64_t>(head) * group * options_.dim;
    job.out = out_.data() + static_cast<int64_t>(head) * group * options_.dim;
    job.q_stride = job.out_stride = static_cast<int64_t>(options_.heads) * options_.dim;
    job.group_heads = group;
    job.rows = tokens_ * group;
    job.first_position = options_.depth;
    job.range_end = context_;
    job.block_table = blocks_.data();
    job.cache = cache_.head(0, head);
    job.kv = &cache_.geometry();
    job.scale = 1.0f / std::sqrt(static_cast<float>(options_.dim));
    job.scratch = scratch_[member].data();
    return job;
  }

  int most_rows() const {
    return kernels_.attention_rows[static_cast<int>(cache_.geometry().dtype)];
  }
  int tiles() const {
    return (tokens_ * (options_.heads / options_.kv_heads) + most_rows() - 1) / most_rows();
  }

  void prefill(int64_t item, int member) {
    AttentionJob one = job(static_cast<int>(item % options_.kv_heads), member);
    one.first_row = static_cast<int>(item / options_.kv_heads) * most_rows();
    one.rows = std::min(most_rows(), one.rows - one.first_row);
    kernels_.attention(one);
  }

  int ranges() const { return (context_ + range_keys - 1) / range_keys; }

  // Ranges only: their merging is small and shared by none here.
  void decode(int64_t item, int member) {
    AttentionJob one = job(static_cast<int>(item % options_.kv_heads), member);
    one.range_first = static_cast<int>(item / options_.kv_heads) * range_keys;
    one.range_end = std::min(context_, one.range_first + range_keys);
    one.partial = reinterpret_cast<float*>(partials_[member].data());
    kernels_.attention(one);
  }

  // The root mean square of the errors of some rows over that of the rows, in float64.
  double error() const {
    const int group = options_.heads / options_.kv_heads;
    double square = 0, error_square = 0;
    for (int t : {0, tokens_ / 2, tokens_ - 1}) {
      for (int h : {0, options_.heads - 1}) {
        const float* q = &q_[(static_cast<size_t>(t) * options_.heads + h) * options_.dim];
        const float* got = &out_[(static_cast<size_t>(t) * options_.heads + h) * options_.dim];
        const int end = options_.depth + t + 1;
        std::vector<double> weights(end), sum(options_.dim, 0.0);
        double total = 0;
        for (int i = 0; i < end; ++i) {
          double dot = 0;
          for (int d = 0; d < options_.dim; ++d) dot += double{q[d]} * keys_[at(i, h / group) + d];
          total += weights[i] = std::exp(dot / std::sqrt(static_cast<double>(options_.dim)));
        }
        for (int i = 0; i < end; ++i) {
          for (int d = 0; d < options_.dim; ++d) {
            sum[d] += weights[i] / total * values_[at(i, h / group) + d];
          }
        }
        for (int d = 0; d < options_.dim; ++d) {
          square += sum[d] * sum[d];
          error_square += (sum[d] - got[d]) * (sum[d] - got[d]);
        }
      }
    }
    return std::sqrt(error_square / square);
  }

  double flops() const {
    return 4.0 * options_.heads * options_.dim * tokens_ * (options_.depth + 0.5 * (tokens_ + 1));
  }
  double bytes() const { return static_cast<double>(cache_.size_bytes()); }

 private:
  size_t at(int token, int head) const {
    return (static_cast<size_t>(token) * options_.kv_heads + head) * options_.dim;
  }

  const Options& options_;
  const KernelTable& kernels_;
  const int tokens_;
  const int context_;
  CpuKvCache cache_;
  std::vector<int32_t> blocks_;
  std::vector<float> keys_, values_;  // [context, KV heads, dim]
  std::vector<float> q_, out_;        // [tokens, heads, dim]
  std::vector<Memory> scratch_, partials_;
};

template <typename Fn>
double time_items(ThreadTeam& team, int64_t items, Fn fn) {
  std::atomic<int64_t> next{0};
  std::atomic<int> done{0};
  return best_seconds(team, 1.0, [&](int member) {
    for (int64_t i = next.fetch_add(1); i < items; i = next.fetch_add(1)) fn(i, member);
    // The last to end makes ready for the next round.
    if (done.fetch_add(1) + 1 == team.size()) next = 0, done = 0;
  });
}

void measure(const Options& o, const Isa& isa, DType dtype, ThreadTeam& team, double read_limit) {
  const double allowed = dtype == DType::bf16 ? 5e-3 : dtype == DType::i8 ? 2e-2 : 1e-3;
  Bench prefill(o, isa, dtype, 512);
  prefill.allocate(team.size());
  const double prefill_s = time_items(team, static_cast<int64_t>(prefill.tiles()) * o.kv_heads,
                                      [&](int64_t i, int member) { prefill.prefill(i, member); });
  const double error = prefill.error();
  if (!(error < allowed)) {
    throw Error(ErrorCode::internal,
                fmt::format("{}: the result is wrong by {:.1e}", name(dtype), error));
  }
  const Way way = way_of(dtype, *isa.kernels);
  const double peak = peak_flops_per_second(team, way.peak) / way.multiplies;
  Bench decode(o, isa, dtype, 1);
  decode.allocate(team.size());
  const double decode_s = time_items(team, static_cast<int64_t>(decode.ranges()) * o.kv_heads,
                                     [&](int64_t i, int member) { decode.decode(i, member); });
  fmt::print(
      "{:5} error {:.1e}  prefill 512 at {}: {:6.1f} GFLOP/s, {:3.0f} % of {:.0f}   decode: "
      "{:5.1f} GB/s, {:3.0f} % of {:.1f}, {:.1f} us\n",
      name(dtype), error, o.depth, prefill.flops() / prefill_s / 1e9,
      100 * prefill.flops() / prefill_s / peak, peak / 1e9, decode.bytes() / decode_s / 1e9,
      100 * decode.bytes() / decode_s / read_limit, read_limit / 1e9, decode_s * 1e6);
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const int number = std::atoi(argv[i + 1]);
    if (flag == "--isa")
      options.isa = argv[i + 1];
    else if (flag == "--threads")
      options.threads = number;
    else if (flag == "--heads")
      options.heads = number;
    else if (flag == "--kv-heads")
      options.kv_heads = number;
    else if (flag == "--dim")
      options.dim = number;
    else if (flag == "--dtype")
      options.dtype = argv[i + 1];
    else if (flag == "--depth")
      options.depth = number;
    else
      throw Error(ErrorCode::invalid_argument, "no option " + flag);
  }
  const Isa isa = select_isa(options.isa);
  ThreadTeam team(options.threads > 0 ? options.threads : available_cpus());
  const double read_limit = read_bytes_per_second(team, *isa.kernels, uncached_bytes());
  fmt::print("{}, {} threads, {} / {} heads of {}\n", isa.name, team.size(), options.heads,
             options.kv_heads, options.dim);
  for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    if (!options.dtype.empty() && dtype_from_name(options.dtype) != dtype) continue;
    measure(options, isa, dtype, team, read_limit);
  }
  return 0;
}

}  // namespace
}  // namespace ridge::backend::cpu

int main(int argc, char** argv) {
  try {
    return ridge::backend::cpu::run(argc, argv);
  } catch (const ridge::Error& error) {
    fmt::print(stderr, "{}\n", error.message());
    return 1;
  }
}
