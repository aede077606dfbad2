#pragma once

#include <cstdint>
#include <string>

#include "cli/context.h"
#include "platform/model_fit.h"

namespace ridge::cli {

// What this process may use of the machine.
struct Machine {
  std::string processor;  // as the processor names itself; empty where it does not
  int cpus = 1;           // this process may run on
  int cpus_of_machine = 1;
  int64_t memory_bytes = 0;            // of the machine, or of the cgroups where that is less
  int64_t memory_available_bytes = 0;  // as a server that starts now would find
  std::string system;                  // "Linux 6.1.0 x86_64"
};

// Throws io where the kernel does not tell of its memory.
Machine look_at_machine();

// What a model finds on it, with the disk of the store.
platform::MachineRoom room_of(Context& context, const Machine& machine);

}  // namespace ridge::cli
