#include "backend/cpu/machine_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "backend/cpu/buffer.h"
#include "backend/cpu/caches.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/open.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

using SteadyTime = std::chrono::steady_clock;

double seconds_since(SteadyTime::time_point start) {
  return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

template <typename Task>
double seconds_of(ThreadTeam& team, Task& task) {
  const auto start = SteadyTime::now();
  team.run(task);
  return seconds_since(start);
}

// The least seconds of one repetition of work(member, repetitions), done by all members at once.
template <typename Work>
double best_seconds(ThreadTeam& team, const ProbeEffort& effort, Work work) {
  int64_t repetitions = 1;
  std::function<void(int)> task = [&](int member) { work(member, repetitions); };
  double once = seconds_of(team, task);
  while (once < effort.round_s) {
    repetitions = once < effort.round_s / 8 ? repetitions * 8 : repetitions * 2;
    once = seconds_of(team, task);
  }
  double best = once;
  for (int round = 1; round < effort.rounds; ++round) {
    best = std::min(best, seconds_of(team, task));
  }
  return best / static_cast<double>(repetitions);
}

constexpr const char* not_here = "not on this machine";

// Which instruction set brings which instruction.
struct Instruction {
  const char* isa;
  const char* name;
  const char* operands;
  int64_t (*PeakKernels::*peak)(int64_t rounds);
};
constexpr Instruction instructions[] = {
    {"scalar", "mul + add", "f32", &PeakKernels::f32},
    {"avx2", "vfmadd (256 bit)", "f32", &PeakKernels::f32},
    {"avx2", "vpmaddubsw + vpmaddwd + vpaddd (256 bit)", "i8", &PeakKernels::i8},
    {"avx512", "vfmadd", "f32", &PeakKernels::f32},
    {"avx512", "vpmaddubsw + vpmaddwd + vpaddd", "i8", &PeakKernels::i8},
    {"avx512_vnni", "vpdpbusd", "i8", &PeakKernels::i8},
    {"avx512_bf16", "vdpbf16ps", "bf16", &PeakKernels::bf16},
    {"amx", "tdpbsud", "i8", &PeakKernels::tile_i8},
    {"amx", "tdpbf16ps", "bf16", &PeakKernels::tile_bf16},
};

MultiplyLimit measure(ThreadTeam& team, const Instruction& instruction, const ProbeEffort& effort) {
  MultiplyLimit limit{instruction.isa, instruction.name, instruction.operands, team.size(), 0, ""};
  const std::vector<std::string> here = available_isas();
  if (std::find(here.begin(), here.end(), instruction.isa) == here.end()) {
    limit.lacking = not_here;
    return limit;
  }
  const KernelTable& kernels = *select_isa(instruction.isa).kernels;
  limit.flops_per_second = peak_flops_per_second(team, kernels.peaks.*instruction.peak, effort);
  return limit;
}

uint64_t in_whole_lines(uint64_t bytes) { return bytes / 4096 * 4096; }

// Half of what a thread may call its own, so that what else runs does not push it out.
uint64_t part_in(const Cache& cache, int threads) {
  return in_whole_lines(cache.bytes / 2 /
                        static_cast<uint64_t>(std::min(threads, cache.processors)));
}

ReadLimit measure(ThreadTeam& team, const KernelTable& kernels, const std::string& level,
                  uint64_t level_bytes, uint64_t part_bytes, const ProbeEffort& effort) {
  const uint64_t total = part_bytes * static_cast<uint64_t>(team.size());
  ReadLimit limit{level, level_bytes, total, team.size(), 0, ""};
  limit.bytes_per_second = read_bytes_per_second(team, kernels, total, effort);
  return limit;
}

void measure_caches(ThreadTeam& team, const KernelTable& kernels, const ProbeEffort& effort,
                    std::vector<ReadLimit>& limits) {
  uint64_t nearer_bytes = 0;  // that a thread has in the caches before
  for (const Cache& cache : data_caches()) {
    const uint64_t part = part_in(cache, team.size());
    const std::string level = fmt::format("L{}", cache.level);
    if (cache.level == 1) {
      nearer_bytes = 2 * part;
      continue;
    }
    if (part <= nearer_bytes) {
      limits.push_back({level, cache.bytes, 0, team.size(), 0,
                        "no larger for a thread than the caches before it"});
      continue;
    }
    limits.push_back(measure(team, kernels, level, cache.bytes, part, effort));
    nearer_bytes = 2 * part;
  }
}

}  // namespace

double peak_flops_per_second(ThreadTeam& team, int64_t (*peak)(int64_t rounds),
                             const ProbeEffort& effort) {
  RIDGE_ASSERT(peak != nullptr);
  constexpr int64_t batch = 1000;
  std::atomic<int64_t> products{0};
  const double seconds = best_seconds(team, effort, [&](int, int64_t repetitions) {
    products.store(peak(batch * repetitions) / repetitions, std::memory_order_relaxed);
  });
  return 2.0 * static_cast<double>(products.load()) * team.size() / seconds;
}

double read_bytes_per_second(ThreadTeam& team, const KernelTable& kernels, uint64_t total_bytes,
                             const ProbeEffort& effort) {
  const auto members = static_cast<uint64_t>(team.size());
  const uint64_t part = in_whole_lines(total_bytes / members);
  const Memory memory(part * members);
  std::vector<float> sums(members * 16);  // a cache line each
  const double seconds = best_seconds(team, effort, [&](int member, int64_t repetitions) {
    const auto* from = reinterpret_cast<const float*>(memory.data() + member * part);
    float& sum = sums[static_cast<size_t>(member) * 16];
    for (int64_t i = 0; i < repetitions; ++i) {
      sum += kernels.peaks.read(from, static_cast<int64_t>(part / sizeof(float)));
    }
  });
  return static_cast<double>(part * members) / seconds;
}

uint64_t uncached_bytes() {
  constexpr uint64_t least = uint64_t{512} << 20, most = uint64_t{2} << 30;
  uint64_t bytes = least;
  for (const Cache& cache : data_caches()) bytes = std::max(bytes, 4 * cache.bytes);
  return std::min(bytes, most);
}

DeviceLimits probe_device(ThreadTeam& team, const KernelTable& kernels) {
  DeviceLimits limits;
  limits.read_bytes_per_second = read_bytes_per_second(team, kernels, uncached_bytes());
  const PeakKernels& peaks = kernels.peaks;
  for (const auto peak : {peaks.f32, peaks.bf16, peaks.i8, peaks.tile_bf16, peaks.tile_i8}) {
    if (peak == nullptr) continue;
    limits.flops_per_second = std::max(limits.flops_per_second, peak_flops_per_second(team, peak));
  }
  return limits;
}

MachineLimits probe_machine(ThreadTeam& team, const KernelTable& kernels,
                            const ProbeEffort& effort) {
  MachineLimits limits;
  ThreadTeam one(1);
  std::vector<ThreadTeam*> teams = {&one};
  if (team.size() > 1) teams.push_back(&team);
  for (ThreadTeam* each : teams) measure_caches(*each, kernels, effort, limits.reads);
  for (ThreadTeam* each : teams) {
    const auto members = static_cast<uint64_t>(each->size());
    const uint64_t bytes = effort.memory_bytes > 0 ? effort.memory_bytes : uncached_bytes();
    limits.reads.push_back(measure(*each, kernels, "memory", 0, bytes / members, effort));
  }
  for (const Instruction& instruction : instructions) {
    for (ThreadTeam* each : teams) limits.multiplies.push_back(measure(*each, instruction, effort));
  }
  return limits;
}

}  // namespace ridge::backend::cpu
