#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "backend/ascend/soc.h"
#include "backend/ascend/twin/cost.h"
#include "backend/ascend/twin/global_memory.h"

// How a kernel is run on the twin: the boundary between the model of the chip (kernel_operator.h
// and what stands behind it) and those who launch kernels (the twin's ACL runtime, tests).
namespace ridge::backend::ascend::twin {

// Which cores run a kernel: KERNEL_TYPE_AIV_ONLY, KERNEL_TYPE_AIC_ONLY, KERNEL_TYPE_MIX_AIC_1_2.
enum class CoreType : uint8_t { aiv_only, aic_only, mix_aic_1_2 };
// Blocks of such a kernel that a device runs at the same time.
constexpr uint32_t cores_of(const Soc& soc, CoreType type) {
  return type == CoreType::aiv_only ? soc.vector_cores : soc.cube_cores;
}

// A kernel's arguments as the ABI passes them: one slot of 8 bytes each, in order. Pointers are
// device addresses.
inline constexpr size_t argument_bytes = 8;

// One kernel, compiled against the twin.
struct KernelImage {
  std::string name;  // its extern "C" name
  CoreType core_type = CoreType::aiv_only;
  int arguments = 0;
  std::function<void(std::span<const std::byte> arguments)> entry;
};

// Wraps `extern "C" __global__ __aicore__ void kernel(GM_ADDR, ...)`.
template <typename... Arguments>
KernelImage make_kernel(std::string name, CoreType core_type, void (*kernel)(Arguments...)) {
  static_assert(((sizeof(Arguments) <= argument_bytes) && ...), "an argument is at most 8 bytes");
  return {std::move(name), core_type, static_cast<int>(sizeof...(Arguments)),
          [kernel](std::span<const std::byte> bytes) {
            size_t slot = 0;
            const auto next = [&]<typename A>(A value) {
              std::memcpy(&value, bytes.data() + argument_bytes * slot++, sizeof(A));
              return value;
            };
            // Braces evaluate from left to right.
            std::tuple<Arguments...> values{next(Arguments{})...};
            std::apply(kernel, values);
          }};
}

// The back end's own kernels, by name; nullptr for one that there is not.
const KernelImage* find_kernel(std::string_view name);
std::span<const KernelImage> kernels();

// Packs device addresses and scalars into slots.
template <typename... Values>
std::vector<std::byte> pack_arguments(const Values&... values) {
  static_assert(((sizeof(Values) <= argument_bytes) && ...), "an argument is at most 8 bytes");
  std::vector<std::byte> bytes(argument_bytes * sizeof...(Values));
  size_t slot = 0;
  (std::memcpy(bytes.data() + argument_bytes * slot++, &values, sizeof(values)), ...);
  return bytes;
}

// What the instruction queues of a core are. S is the scalar unit, which issues all the others.
enum class Pipe : uint8_t { s, v, m, mte1, mte2, mte3, fix };
inline constexpr int pipe_count = 7;
std::string_view name(Pipe pipe);  // "MTE2"

enum class Schedule : uint8_t {
  plain,    // each instruction runs as soon as it may
  delayed,  // each runs as late as flags, barriers and queues allow, in an order drawn from the seed
};

struct LaunchOptions {
  const Soc* soc = nullptr;        // must be set
  GlobalMemory* memory = nullptr;  // must be set
  Schedule schedule = Schedule::plain;
  uint64_t seed = 0;
  // Whether accesses that nothing orders are reported. Without, a missing wait shows only in what
  // the delayed schedule computes.
  bool check_order = true;
  // Instructions are counted and not carried out: outputs stay as they were, and neither order nor
  // definedness is looked at. Scalar loads work, so what decides a kernel's course may not be
  // something that it computes; a place in local memory may be. Cores take turns in the order of their own time, so that they share
  // HBM and L2 as they would.
  bool count_only = false;
  // Whether LaunchReport::timeline is kept.
  bool timeline = false;
  int max_findings = 16;  // the launch ends with the last of them
};

// A fault of the kernel. `message` begins with the place: "rms_norm.cc:57: ...".
struct Finding {
  enum class Kind : uint8_t {
    bounds,      // outside a buffer, a memory or an allocated range
    alignment,   // address or length not as the instruction asks
    parameter,   // a count, stride, mode or type that the instruction does not have
    capacity,    // buffers beyond the memory
    undefined,   // reads what nothing has written
    order,       // accesses that no flag, barrier or queue orders
    flag,        // set twice, or set and never waited for
    queue,       // a TQue used out of turn, or a tensor not given back
    deadlock,    // cores or pipes that wait for ever
    coherence,   // the scalar unit's cache and memory differ
    exception,   // the kernel threw
  };
  Kind kind;
  std::string message;
  std::string file;  // without folders
  int line = 0;
};
std::string_view name(Finding::Kind kind);

// Counted on one core's pipe, or summed over cores.
struct PipeCounters {
  uint64_t instructions = 0;
  uint64_t bytes = 0;           // moved, or operated on
  uint64_t repeats = 0;         // of the vector unit: 256 bytes each
  uint64_t bank_conflicts = 0;  // additional cycles, of the vector unit
  uint64_t lines_512 = 0;       // lines of 512 bytes that transfers of global memory touch
  uint64_t nd_nz_rows = 0;      // rows that a transfer reorders from ND to NZ
  uint64_t macs = 0;            // of the cube
  double cycles = 0;            // by the rates in cost.h

  PipeCounters& operator+=(const PipeCounters& other);
};

// Instructions that follow each other closely on a pipe of block 0's cores.
struct PipeSpan {
  bool on_vector_core = false;
  uint8_t sub_block = 0;  // which AIV of the block
  Pipe pipe = Pipe::s;
  std::string call;   // "DataCopy", or "several"
  std::string place;  // of the first: "linear.cc:57"
  uint32_t instructions = 0;
  double begin_us = 0, end_us = 0;
};

struct LaunchReport {
  std::vector<Finding> findings;
  uint32_t cores = 0;  // that ran, all waves together
  std::array<PipeCounters, pipe_count> cube;    // sums over all AICs
  std::array<PipeCounters, pipe_count> vector;  // sums over all AIVs
  // The same pipes of the core that is busiest with each, by the rates of the core alone.
  std::array<double, pipe_count> cube_busiest_us{};
  std::array<double, pipe_count> vector_busiest_us{};
  // The same of AICs, with what the pipes wait for memory while an instruction runs: what a device's own
  // counters say.
  std::array<double, pipe_count> cube_active_us{};
  GlobalTraffic traffic;
  double hbm_us = 0, l2_us = 0;  // what they take for that
  // From the launch's first instruction to its last: pipes wait for each other, for their queue and
  // for cores as the flags say, and not less than hbm_us and l2_us. What a launch costs before and
  // after is cost.h's task_overhead_us. docs/ascend.md has how far it is from measured kernels.
  double microseconds = 0;
  std::vector<PipeSpan> timeline;  // with LaunchOptions::timeline

  bool ok() const { return findings.empty(); }
  // One line for each finding.
  std::string text() const;
};

// Runs `kernel` on `block_dim` blocks, more than the device has cores in waves, and returns when all
// are done. Faults of the kernel are findings; what the caller gets wrong (no such number of
// arguments, block_dim of 0) throws invalid_argument. May be called from several threads at once.
LaunchReport launch(const KernelImage& kernel, uint32_t block_dim,
                    std::span<const std::byte> arguments, const LaunchOptions& options);

}  // namespace ridge::backend::ascend::twin
