#include "backend/cpu/machine_probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "backend/cpu/caches.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/open.h"

// What a probe measures depends on the machine and its other users; what it says about it does not.
namespace ridge::backend::cpu::machine_probe_test {

namespace {

std::vector<std::string> all_isas() {
  std::vector<std::string> isas = available_isas();
  for (const std::string& isa : emulated_isas()) isas.push_back(isa);
  return isas;
}

}  // namespace

TEST(Peaks, CountEachProductOfEachRound) {
  for (const std::string& isa : all_isas()) {
    const PeakKernels& peaks = select_isa(isa, /*allow_emulation=*/true).kernels->peaks;
    ASSERT_NE(peaks.f32, nullptr) << isa;
    ASSERT_NE(peaks.i8, nullptr) << isa;
    // Four int8 products go where one float32 goes.
    EXPECT_EQ(peaks.i8(3), 4 * peaks.f32(3)) << isa;
    if (peaks.bf16 != nullptr) {
      EXPECT_EQ(peaks.bf16(3), 2 * peaks.f32(3)) << isa;
    }
    for (const auto peak : {peaks.f32, peaks.i8, peaks.bf16, peaks.tile_i8, peaks.tile_bf16}) {
      if (peak == nullptr) continue;
      EXPECT_GT(peak(1), 0) << isa;
      EXPECT_EQ(peak(7), 7 * peak(1)) << isa;
    }
    // Four products of 16 × 64 int8, or 16 × 32 bfloat16, by as many of 16 columns.
    if (peaks.tile_i8 != nullptr) {
      EXPECT_EQ(peaks.tile_i8(1), 4 * 16 * 64 * 16) << isa;
      EXPECT_EQ(peaks.tile_bf16(1), 4 * 16 * 32 * 16) << isa;
    }
  }
}

TEST(Peaks, ReadEachFloatOnce) {
  std::vector<float> floats(4096);
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = static_cast<float>(i % 7);
  float expected = 0;
  for (float x : floats) expected += x;  // whole numbers: exact in any order
  for (const std::string& isa : all_isas()) {
    const PeakKernels& peaks = select_isa(isa, /*allow_emulation=*/true).kernels->peaks;
    EXPECT_EQ(peaks.read(floats.data(), 4096), expected) << isa;
  }
}

TEST(DataCaches, GrowWithTheirLevel) {
  const std::vector<Cache> caches = data_caches();
  for (size_t i = 0; i < caches.size(); ++i) {
    EXPECT_GE(caches[i].bytes, 4096u);
    EXPECT_GE(caches[i].processors, 1);
    if (i > 0) {
      EXPECT_GT(caches[i].level, caches[i - 1].level);
    }
  }
}

TEST(MachineProbe, ReadsMoreOfMemoryThanCachesHold) {
  for (const Cache& cache : data_caches()) {
    EXPECT_GT(uncached_bytes(), std::min(cache.bytes, uint64_t{1} << 30));
  }
}

TEST(MachineProbe, MeasuresWhatIsHereAndNamesWhatIsLacking) {
  ThreadTeam team(2, /*may_spin=*/false);
  // What the figures are is not judged, so that they may be as rough as can be.
  const ProbeEffort little = {.round_s = 1e-5, .rounds = 1, .memory_bytes = 1 << 20};
  const MachineLimits limits = probe_machine(team, *select_isa("").kernels, little);

  std::vector<std::string> levels;
  for (const ReadLimit& limit : limits.reads) {
    levels.push_back(limit.level + "/" + std::to_string(limit.threads));
    EXPECT_EQ(limit.bytes_per_second > 0, limit.lacking.empty()) << levels.back();
    if (limit.level == "memory") {
      EXPECT_EQ(limit.working_set_bytes, little.memory_bytes);
    } else if (limit.lacking.empty()) {
      EXPECT_LE(limit.working_set_bytes, limit.level_bytes * 2) << levels.back();
    }
  }
  EXPECT_EQ(std::count(levels.begin(), levels.end(), "memory/1"), 1);
  EXPECT_EQ(std::count(levels.begin(), levels.end(), "memory/2"), 1);

  const std::vector<std::string> here = available_isas();
  for (const MultiplyLimit& limit : limits.multiplies) {
    const bool is_here = std::find(here.begin(), here.end(), limit.isa) != here.end();
    EXPECT_EQ(limit.lacking.empty(), is_here) << limit.isa;
    EXPECT_EQ(limit.flops_per_second > 0, is_here) << limit.isa;
  }
  // Every instruction set that runs here is measured, with one thread and with two.
  for (const std::string& isa : here) {
    for (int threads : {1, 2}) {
      EXPECT_TRUE(std::any_of(
          limits.multiplies.begin(), limits.multiplies.end(),
          [&](const MultiplyLimit& limit) { return limit.isa == isa && limit.threads == threads; }))
          << isa << " with " << threads;
    }
  }
}

}  // namespace ridge::backend::cpu::machine_probe_test
