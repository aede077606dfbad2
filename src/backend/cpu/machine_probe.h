#pragma once

#include "backend/cpu/kernels.h"
#include "backend/device.h"
#include "backend/machine_limits.h"
#include "base/thread_team.h"

// Measures the machine with threads and instructions as the kernels have them: the best of a few
// rounds of each, for a neighbour on the machine only ever slows one down.
namespace ridge::backend::cpu {

// How long is measured. A round is long beside starting a team, and short enough to fall between
// two disturbances.
struct ProbeEffort {
  double round_s = 0.01;
  int rounds = 5;             // of each figure
  uint64_t memory_bytes = 0;  // that are read for memory's speed; 0: uncached_bytes()
};

// Multiply-adds, a pair being two, of all members of the team together with one of PeakKernels.
double peak_flops_per_second(ThreadTeam& team, int64_t (*peak)(int64_t rounds),
                             const ProbeEffort& effort = {});

// Of all members together, each over a part of its own of so many bytes. Throws out_of_memory.
double read_bytes_per_second(ThreadTeam& team, const KernelTable& kernels, uint64_t total_bytes,
                             const ProbeEffort& effort = {});

// More bytes than any cache of this machine holds.
uint64_t uncached_bytes();

// The two that bound these kernels: reads of memory, and the fastest instruction among them.
DeviceLimits probe_device(ThreadTeam& team, const KernelTable& kernels);

// Each level that is read and each instruction that multiplies, with one thread and with all: about
// 3 seconds for 2 threads. What this machine lacks is in the list, and says so.
MachineLimits probe_machine(ThreadTeam& team, const KernelTable& kernels,
                            const ProbeEffort& effort = {});

}  // namespace ridge::backend::cpu
