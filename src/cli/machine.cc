#include "cli/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/cpu_count.h"
#include "base/machine_memory.h"

namespace ridge::cli {
namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

}  // namespace

Machine look_at_machine() {
  Machine machine;
  machine.processor = processor_name();
  machine.cpus = available_cpus();
  machine.cpus_of_machine = std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
  machine.memory_bytes = static_cast<int64_t>(total_memory_bytes());
  machine.memory_available_bytes = static_cast<int64_t>(available_memory_bytes());
  utsname system{};
  if (uname(&system) == 0) {
    machine.system = std::string(system.sysname) + " " + system.release + " " + system.machine;
  }
  return machine;
}

platform::MachineRoom room_of(Context& context, const Machine& machine) {
  return {.memory_bytes = machine.memory_bytes,
          .memory_available_bytes = machine.memory_available_bytes,
          .disk_free_bytes = context.store().free_bytes()};
}

}  // namespace ridge::cli
