#include <numeric>

#include "backend/ascend/kernel_test.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"

// What kernels cost by the twin's count, against the least that the hardware could take: the bytes
// that must be moved at 1.5 TB/s, or the products at the cube's peak. RIDGE_TWIN_COSTS=1 prints the
// pipes. What pipes and cores wait for each other is in it: at this size a kernel with cores of both kinds
// waits for its first tiles as long as it streams.
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

// The cube multiplies int8 twice as fast as halves.
TEST_F(Costs, PromptOf2048In7BInIntegers) {
  const uint32_t m = 2048, n = 4096, k = 4096;
  const auto plan = plan_linear_w8a8(soc, {m, n, k, k, n, LinearTiling::nz});
  EXPECT_GE(share("ridge_linear_w8a8", plan.block_dim, 1.0 * (n * k + m * k) + 4.0 * m * n,
                  double(m) * n * k / 2, device.reserve(size_t{m} * k),
                  device.reserve(size_t{n} * k), device.reserve(size_t{m} * n * 4),
                  device.store_tiling(plan.tiling)),
            0.7);
}

// 28 heads of 128 over 4 of keys and values, causal. Products are few beside what the vector cores make
// of scores, and each row of keys and values takes MTE2 five cycles.
TEST_F(Costs, AttentionOfAPromptOf2048In7B) {
  if (is_sanitized) GTEST_SKIP() << "counting each copy of half a million takes minutes there";
  const uint32_t tokens = 2048, heads = 28, kv_heads = 4, dim = 128, block_tokens = 16;
  const uint32_t q_row = heads * dim, kv_row = kv_heads * dim, blocks = tokens / block_tokens;
  const auto plan = plan_attention(soc, {.sequences = 1,
                                         .longest_query = tokens,
                                         .heads = heads,
                                         .kv_heads = kv_heads,
                                         .key_dim = dim,
                                         .value_dim = dim,
                                         .q_stride = q_row,
                                         .out_stride = q_row,
                                         .blocks_per_sequence = blocks,
                                         .block_tokens = block_tokens,
                                         .k_block_stride = block_tokens * kv_row,
                                         .k_token_stride = kv_row,
                                         .v_block_stride = block_tokens * kv_row,
                                         .v_token_stride = kv_row,
                                         .scale = 0.088f});
  std::vector<int32_t> table(blocks);
  std::iota(table.begin(), table.end(), 0);
  const size_t cache_bytes = size_t{tokens} * kv_row * 2, q_bytes = size_t{tokens} * q_row * 2;
  EXPECT_GE(share("ridge_attention_f16", plan.block_dim, 2.0 * (cache_bytes + q_bytes),
                  double(tokens) * (tokens + 1) * heads * dim, device.reserve(q_bytes),
                  device.reserve(cache_bytes), device.reserve(cache_bytes),
                  device.store(std::vector<int32_t>{0, int32_t(tokens)}),
                  device.store(std::vector<int32_t>{int32_t(tokens)}), device.store(table),
                  uint64_t{0}, device.reserve(q_bytes), device.reserve(plan.workspace_bytes),
                  device.store_tiling(plan.tiling)),
            0.19);
}

// One or two rows: codes go to the cube as they are; what comes back from it for each group of k is
// less than they. More rows: as halves, by way of L2. The last shapes are the linears of DeepSeek's and Qwen's 7B.
TEST_F(Costs, DecodeOf7BQuantised) {
  struct Case {
    DType dtype;
    uint32_t rows;
    uint32_t n, k;
    double least_share;
  };
  // Types with eight bits of code for four, five or six of the file's read more than the file has.
  for (const Case& c :
       {Case{DType::q4_0, 1, 4096, 4096, 0.7}, Case{DType::q4_0, 2, 4096, 4096, 0.48},
        Case{DType::q4_0, 16, 4096, 4096, 0.38}, Case{DType::q4_k, 1, 4096, 4096, 0.58},
        Case{DType::q4_k, 2, 4096, 4096, 0.31}, Case{DType::q4_k, 16, 4096, 4096, 0.25},
        Case{DType::q6_k, 1, 4096, 4096, 0.5}, Case{DType::q8_0, 1, 4096, 4096, 0.85},
        Case{DType::q4_0, 1, 3584, 3584, 0.65}, Case{DType::q4_0, 1, 4608, 3584, 0.7},
        Case{DType::q4_0, 1, 37888, 3584, 0.9}, Case{DType::q4_0, 1, 3584, 18944, 0.7},
        Case{DType::q4_k, 1, 3584, 3584, 0.53}, Case{DType::q4_k, 1, 4608, 3584, 0.6},
        Case{DType::q4_k, 1, 37888, 3584, 0.8}, Case{DType::q4_k, 1, 3584, 18944, 0.65}}) {
    if (is_sanitized && uint64_t{c.n} * c.k > (1 << 24)) continue;
    const auto plan = plan_quantized_linear(soc, {c.rows, c.n, c.k, c.k, c.n, LinearTiling::nz},
                                            quantized_format(c.dtype));
    const double bytes = double(c.n) * row_bytes(c.dtype, c.k);
    const uint64_t values = uint64_t{c.n} * c.k;
    EXPECT_GE(share(plan.kernel, plan.block_dim, bytes, double(c.rows) * values,
                    device.reserve(size_t{c.rows} * c.k * 2),
                    device.reserve(values / 8 * quantized_format(c.dtype).code_bits),
                    device.reserve(values / 4), device.reserve(size_t{c.rows} * c.n * 2),
                    device.reserve(plan.workspace_bytes), device.store_tiling(plan.tiling)),
              c.least_share)
        << name(c.dtype) << " " << c.rows << " rows, n " << c.n << ", k " << c.k;
  }
}

}  // namespace

}  // namespace ridge::backend::ascend
