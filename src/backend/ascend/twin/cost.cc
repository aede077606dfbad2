#include "backend/ascend/twin/cost.h"

#include <algorithm>

namespace ridge::backend::ascend::twin {

double launch_microseconds(const Soc& soc, double cycles, const GlobalTraffic& traffic) {
  constexpr double hbm_bytes_per_microsecond = 1.49e6;  // of 64 GiB
  constexpr double l2_bytes_per_microsecond = 5.2e6;    // with 24 cube cores
  const double stacks = static_cast<double>(soc.memory_bytes) / (uint64_t{64} << 30);
  const double cores = soc.cube_cores / 24.0;
  return std::max({cycles / soc.clock_mhz,
                   static_cast<double>(traffic.hbm_bytes) / (hbm_bytes_per_microsecond * stacks),
                   static_cast<double>(traffic.moved_bytes) / (l2_bytes_per_microsecond * cores)});
}

}  // namespace ridge::backend::ascend::twin
