#include "backend/ascend/kernel_test.h"
#include "backend/ascend/tiling.h"

// What kernels cost by the twin's count, against the least that the hardware could take: the bytes
// that must be moved at 1.5 TB/s, or the products at the cube's peak. RIDGE_TWIN_COSTS=1 prints the
// pipes. The count is not calibrated: these hold the kernels to what they were designed for.
namespace ridge::backend::ascend {

namespace {

constexpr double bytes_per_microsecond = 1.5e6;

class Costs : public testing::Test {
 protected:
  // The share of the least possible time.
  template <typename... Arguments>
  double share(const std::string& name, uint32_t block_dim, double bytes, double macs,
               const Arguments&... arguments) {
    twin::LaunchOptions options;
    options.soc = &soc;
    options.memory = &device.memory();
    options.count_only = true;
    const twin::LaunchReport report = twin::launch(*twin::find_kernel(name), block_dim,
                                                   twin::pack_arguments(arguments...), options);
    EXPECT_TRUE(report.ok()) << report.text();
    const double peak = 4096.0 * soc.cube_cores * soc.clock_mhz;  // products in a microsecond
    const double least = std::max(bytes / bytes_per_microsecond, macs / peak);
    const double found = least / report.microseconds;
    RecordProperty("share_percent", static_cast<int>(100 * found));
    if (!std::getenv("RIDGE_TWIN_COSTS")) return found;
    for (int p = 0; p < twin::pipe_count; ++p) {
      const auto pipe = static_cast<twin::Pipe>(p);
      if (report.cube[p].instructions > 0) print("AIC", pipe, report.cube[p], soc.cube_cores);
      if (report.vector[p].instructions > 0) print("AIV", pipe, report.vector[p], soc.vector_cores);
    }
    std::printf("%s: %.1f us, least %.1f us\n", name.c_str(), report.microseconds, least);
    return found;
  }
  void print(const char* core, twin::Pipe pipe, const twin::PipeCounters& counters,
             uint32_t cores) {
    std::printf("  %s %-5s %9lu instructions %10lu KiB %8.1f us\n", core,
                std::string(name(pipe)).c_str(), counters.instructions, counters.bytes >> 10,
                counters.cycles / cores / soc.clock_mhz);
  }

  const Soc& soc = find_soc("910B2");
  DeviceMemory device;
};

TEST_F(Costs, DecodeOf7BInHalf) {
  const uint32_t n = 4096, k = 4096;
  const auto plan = plan_linear(soc, {1, n, k, k, n, LinearTiling::nz});
  EXPECT_GE(share("ridge_linear_f16", plan.block_dim, 2.0 * n * k, double(n) * k,
                  device.reserve(k * 2), device.reserve(size_t{n} * k * 2), device.reserve(n * 2),
                  device.store_tiling(plan.tiling)),
            0.8);
}

TEST_F(Costs, PromptOf2048In7B) {
  const uint32_t m = 2048, n = 4096, k = 4096;
  const auto plan = plan_linear(soc, {m, n, k, k, n, LinearTiling::nz});
  EXPECT_GE(share("ridge_linear_f16", plan.block_dim, 2.0 * (n * k + m * k + m * n),
                  double(m) * n * k, device.reserve(size_t{m} * k * 2),
                  device.reserve(size_t{n} * k * 2), device.reserve(size_t{m} * n * 2),
                  device.store_tiling(plan.tiling)),
            0.7);
}

// Weights go to L2 as halves and come back: seven bytes for each that HBM gives. L2 is the
// limit.
TEST_F(Costs, DecodeOf7BInFourBits) {
  const uint32_t n = 4096, k = 4096;
  const auto plan = plan_quantized_linear(soc, {1, n, k, k, n, LinearTiling::nz});
  EXPECT_GE(share("ridge_linear_q4_0", plan.block_dim, 18.0 / 32 * n * k, double(n) * k,
                  device.reserve(k * 2), device.reserve(size_t{n} * k / 2),
                  device.reserve(size_t{n} * k / 32 * 2), device.reserve(n * 2),
                  device.reserve(plan.workspace_bytes), device.store_tiling(plan.tiling)),
            0.4);
}

}  // namespace

}  // namespace ridge::backend::ascend
