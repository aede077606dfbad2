#include "backend/cpu/machine_probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "backend/cpu/buffer.h"

namespace ridge::backend::cpu {

namespace {

using SteadyTime = std::chrono::steady_clock;

double seconds_since(SteadyTime::time_point start) {
  return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

template <typename Task>
double best_seconds(ThreadTeam& team, int rounds, Task task) {
  double best = 1e9;
  for (int round = 0; round < rounds; ++round) {
    const auto start = SteadyTime::now();
    team.run(task);
    best = std::min(best, seconds_since(start));
  }
  return best;
}

// Reads through far more memory than any last-level cache holds, one stream for each member, as a
// decode step reads its weights.
double read_bytes_per_second(ThreadTeam& team) {
  constexpr size_t total_bytes = size_t{512} << 20;
  const Memory memory(total_bytes);
  const size_t part = total_bytes / static_cast<size_t>(team.size()) / 4096 * 4096;
  std::vector<uint64_t> sums(static_cast<size_t>(team.size()) * 8);  // a cache line each
  const double seconds = best_seconds(team, 4, [&](int member) {
    const auto* from = reinterpret_cast<const uint64_t*>(memory.data() + member * part);
    uint64_t lanes[8] = {};
    for (size_t i = 0; i < part / sizeof(uint64_t); i += 8) {
      for (int lane = 0; lane < 8; ++lane) lanes[lane] ^= from[i + lane];
    }
    for (int lane = 0; lane < 8; ++lane) sums[member * 8] ^= lanes[lane];
  });
  return static_cast<double>(part) * team.size() / seconds;
}

// The Q8_0 dot kernel over operands that stay in the first-level cache: what prefill can reach at
// most with these instructions and one plane of activations.
double flops_per_second(ThreadTeam& team, const KernelTable& kernels) {
  constexpr TileFormat format = tile_format(DType::q8_0);
  constexpr int columns = 512;
  constexpr int units = columns / 64;
  constexpr int rounds = 20000;
  const int count = kernels.tile_rows;
  const DotTile dot = kernels.dot[static_cast<int>(DType::q8_0)][count];
  const double seconds = best_seconds(team, 3, [&](int) {
    std::vector<std::byte> strip(static_cast<size_t>(units) * format.unit_bytes());
    std::vector<int8_t> codes(static_cast<size_t>(columns) * count, 1);
    std::vector<float> scales(static_cast<size_t>(columns) / 16 * count, 1.0f);
    std::vector<int32_t> code_sums(scales.size(), 1);
    float out[max_tile_rows * strip_rows];
    const ActivationTile tile{codes.data(),  scales.data(), code_sums.data(),
                              scales.data(), scales.data(), count};
    for (int i = 0; i < rounds; ++i) dot(strip.data(), units, tile, nullptr, out);
  });
  return 2.0 * strip_rows * columns * count * rounds * team.size() / seconds;
}

// The instructions of panels alone; 0 where there are none.
double panel_flops_per_second(ThreadTeam& team, const KernelTable& kernels) {
  if (kernels.panel.probe == nullptr) return 0;
  constexpr int rounds = 200000;
  std::atomic<int64_t> products{0};
  const double seconds =
      best_seconds(team, 3, [&](int) { products = kernels.panel.probe(rounds); });
  return 2.0 * static_cast<double>(products) * team.size() / seconds;
}

}  // namespace

DeviceLimits probe_machine(ThreadTeam& team, const KernelTable& kernels) {
  DeviceLimits limits;
  limits.read_bytes_per_second = read_bytes_per_second(team);
  limits.flops_per_second =
      std::max(flops_per_second(team, kernels), panel_flops_per_second(team, kernels));
  return limits;
}

}  // namespace ridge::backend::cpu
