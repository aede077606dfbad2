#pragma once

namespace ridge {

// Processors this process may run on: its affinity mask, lowered to its cgroup's CPU quota
// (v1 or v2) where there is one, at least 1.
int available_cpus();

}  // namespace ridge
