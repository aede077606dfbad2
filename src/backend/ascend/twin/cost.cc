#include "backend/ascend/twin/cost.h"

namespace ridge::backend::ascend::twin {

double hbm_microseconds(const Soc& soc, uint64_t bytes) {
  constexpr double bytes_per_microsecond = 1.49e6;  // of 64 GiB
  const double stacks = static_cast<double>(soc.memory_bytes) / (uint64_t{64} << 30);
  return static_cast<double>(bytes) / (bytes_per_microsecond * stacks);
}

double l2_microseconds(const Soc& soc, uint64_t bytes) {
  constexpr double bytes_per_microsecond = 6.0e6;  // with 24 cube cores
  return static_cast<double>(bytes) / (bytes_per_microsecond * soc.cube_cores / 24.0);
}

}  // namespace ridge::backend::ascend::twin
