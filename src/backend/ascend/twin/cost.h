#pragma once

#include <cstdint>

#include "backend/ascend/soc.h"

// What instructions cost, in cycles of the core. Rates are of architecture 2201, bytes for each
// cycle of one core; where a figure is measured, `docs/ascend.md` says by whom, and how far times that
// were measured are from those that these give (tests/backend/ascend/calibration_test.cc).
namespace ridge::backend::ascend::twin {

// A vector instruction: 64 repeats of two cycles, as banks collide, were measured in 154.2: 26 to begin.
inline constexpr double vector_start_cycles = 26;
// Reductions take two to five times an addition; the middle.
inline constexpr double reduce_factor = 3.5;
// One copy of 128 bytes takes 20.6 cycles.
inline constexpr double copy_start_cycles = 20;
// Of a row that becomes a column of fractals, at least: 64 of 128 bytes take 340 cycles.
inline constexpr double nd_row_cycles = 5;
inline constexpr double load_start_cycles = 4;  // L1 to L0
// From L2: measured with all cores at once, 5.96 TB/s to 48 UBs at 1.85 GHz; to L1 by CANN's
// platform_config.
inline constexpr double gm_to_ub_rate = 67;
inline constexpr double gm_to_l1_rate = 110;
inline constexpr double local_to_gm_rate = 64;
inline constexpr double l1_to_l0a_rate = 256;
inline constexpr double l1_to_l0b_rate = 128;
inline constexpr double l0c_to_gm_rate = 64;
// A cube instruction: 16·16·16 products of halves each cycle.
inline constexpr double cube_start_cycles = 10;

// What a launch moves between global memory and its cores.
struct GlobalTraffic {
  uint64_t moved_bytes = 0;  // all
  // Lines of 512 bytes that come from HBM, and those that are written and have to leave L2 for others
  // while the launch runs. What is written last stays in L2.
  uint64_t hbm_bytes = 0;
};

// What all cores together take for it. HBM was measured at 1.49 TB/s on a device of 64 GiB, and
// bandwidth goes with the stacks; L2 is taken for 6 TB/s with 24 cube cores, between what Huawei's pages
// say (5 to 7).
double hbm_microseconds(const Soc& soc, uint64_t bytes);
double l2_microseconds(const Soc& soc, uint64_t bytes);

// What a launch takes on the device beside its instructions: tasks were measured 6 to 17 us longer
// than their busiest pipe. The least of these, as small linears leave no room for more.
inline constexpr double task_overhead_us = 6;

// What the scalar unit takes to give one instruction, flag or wait to a pipe.
inline constexpr double scalar_issue_cycles = 2;

}  // namespace ridge::backend::ascend::twin
