#pragma once

#include <cstdint>

#include "backend/ascend/soc.h"

// What instructions cost, in cycles of the core. Rates are of architecture 2201, bytes for each
// cycle of one core; where a figure is measured, `docs/ascend.md` says by whom. Not yet calibrated.
namespace ridge::backend::ascend::twin {

// A vector instruction: measured 64 repeats in 88.4 cycles, so 24 to begin and one each.
inline constexpr double vector_start_cycles = 24;
// Reductions take two to five times an addition; the middle.
inline constexpr double reduce_factor = 3.5;
// One copy of 128 bytes takes 20.6 cycles.
inline constexpr double copy_start_cycles = 20;
inline constexpr double load_start_cycles = 4;  // L1 to L0
// From L2, measured with all cores at once: 5.96 TB/s to 48 UBs, 4.94 TB/s to 24 L1s, at 1.85 GHz.
inline constexpr double gm_to_ub_rate = 67;
inline constexpr double gm_to_l1_rate = 111;
inline constexpr double local_to_gm_rate = 64;
inline constexpr double l1_to_l0a_rate = 256;
inline constexpr double l1_to_l0b_rate = 128;
inline constexpr double l0c_to_gm_rate = 64;
// A cube instruction: 16·16·16 products of halves each cycle.
inline constexpr double cube_start_cycles = 10;

// What a launch moves between global memory and its cores.
struct GlobalTraffic {
  uint64_t moved_bytes = 0;  // all
  // Lines of 512 bytes that come from HBM or must go there: those that are first read, and those that
  // are written and not read. What is written and then read stays in L2.
  uint64_t hbm_bytes = 0;
};

// Time of a launch whose busiest core counts `cycles`: the longest of these, of HBM and of L2. HBM
// was measured at 1.49 TB/s on a device of 64 GiB, and bandwidth goes with the stacks; L2 is taken
// for 5.2 TB/s with 24 cube cores.
double launch_microseconds(const Soc& soc, double cycles, const GlobalTraffic& traffic);

}  // namespace ridge::backend::ascend::twin
