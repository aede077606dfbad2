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
inline constexpr double gm_to_local_rate = 64;
inline constexpr double local_to_gm_rate = 64;
inline constexpr double l1_to_l0a_rate = 256;
inline constexpr double l1_to_l0b_rate = 128;
inline constexpr double ub_to_ub_rate = 256;
inline constexpr double l0c_to_gm_rate = 64;
// A cube instruction: 16·16·16 products of halves each cycle.
inline constexpr double cube_start_cycles = 10;

// Time of a launch whose busiest core counts `cycles` and which moves `global_bytes`: the longer of
// the two. Reads were measured at 1.49 TB/s on a device of 64 GiB; bandwidth goes with the stacks.
double launch_microseconds(const Soc& soc, double cycles, uint64_t global_bytes);

}  // namespace ridge::backend::ascend::twin
