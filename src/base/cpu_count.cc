#include "base/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace ridge {

namespace {

// Whole processors that the quota allows, rounded up, or 0 where there is no quota.
// Sources: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst.
int quota_cpus() {
  std::string quota;
  long period_us = 0;
  if (std::ifstream v2("/sys/fs/cgroup/cpu.max"); v2 >> quota >> period_us) {
    if (quota == "max" || period_us <= 0) return 0;
    return static_cast<int>((std::stol(quota) + period_us - 1) / period_us);
  }
  long quota_us = 0;
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1_quota >> quota_us && v1_period >> period_us && quota_us > 0 && period_us > 0) {
    return static_cast<int>((quota_us + period_us - 1) / period_us);
  }
  return 0;
}

}  // namespace

int available_cpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int count = 1;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) count = CPU_COUNT(&mask);
  if (const int quota = quota_cpus(); quota > 0) count = std::min(count, quota);
  return std::max(count, 1);
}

}  // namespace ridge
