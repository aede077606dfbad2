#pragma once

#include <cstdint>
#include <vector>

namespace ridge::backend::cpu {

// A level of the caches that hold data, as one of the processors that this process may run on has
// it.
struct Cache {
  int level = 0;
  uint64_t bytes = 0;
  int processors = 1;  // that share it
};

// The nearest first; empty where the system does not tell. Sources: Linux
// Documentation/ABI/testing/sysfs-devices-system-cpu, and sysconf(3) where there is no sysfs.
std::vector<Cache> data_caches();

}  // namespace ridge::backend::cpu
