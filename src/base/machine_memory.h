#pragma once

#include <cstdint>
#include <string>

namespace ridge {

// Bytes that this process may still take without swapping: the least of the system's MemAvailable
// and what its cgroup (v1 or v2) and those above it have left. Throws io where /proc cannot be
// read. Files are looked for below `root`, for tests: root/proc/meminfo, root/sys/fs/cgroup/…
uint64_t available_memory_bytes(const std::string& root = "");

// Bytes that it may have at most: the machine's, or the least limit of its cgroups. Throws as well.
uint64_t total_memory_bytes(const std::string& root = "");

}  // namespace ridge
