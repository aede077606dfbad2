#pragma once

#include "backend/cpu/kernels.h"
#include "backend/device.h"
#include "base/thread_team.h"

namespace ridge::backend::cpu {

// Measures the machine with the team's own threads and the kernels' own instructions: the best of a
// few rounds of each.
DeviceLimits probe_machine(ThreadTeam& team, const KernelTable& kernels);

}  // namespace ridge::backend::cpu
