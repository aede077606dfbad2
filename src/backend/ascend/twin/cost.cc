#include "backend/ascend/twin/cost.h"

#include <algorithm>

namespace ridge::backend::ascend::twin {

double launch_microseconds(const Soc& soc, double cycles, uint64_t global_bytes) {
  constexpr double bytes_per_microsecond_of_64_gib = 1.49e6;
  const double share = static_cast<double>(soc.memory_bytes) / (uint64_t{64} << 30);
  return std::max(cycles / soc.clock_mhz,
                  static_cast<double>(global_bytes) / (bytes_per_microsecond_of_64_gib * share));
}

}  // namespace ridge::backend::ascend::twin
