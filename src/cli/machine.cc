#include "cli/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>

#include "base/cpu_count.h"

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

// A line "MemTotal:  123 kB" of /proc/meminfo, in bytes.
int64_t meminfo_bytes(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  int64_t kibibytes = 0;
  while (file >> name >> kibibytes) {
    if (name == key + ":") return kibibytes * 1024;
    std::getline(file, unit);
  }
  return 0;
}

// The first file that holds a number; "max" and absent files are nullopt.
std::optional<int64_t> number_in(const char* version_2, const char* version_1) {
  for (const char* path : {version_2, version_1}) {
    std::ifstream file(path);
    int64_t number = 0;
    if (file >> number) return number;
  }
  return std::nullopt;
}

}  // namespace

Machine look_at_machine() {
  Machine machine;
  machine.processor = processor_name();
  machine.cpus = available_cpus();
  machine.cpus_of_machine = std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
  machine.memory_bytes = meminfo_bytes("MemTotal");
  machine.memory_available_bytes = meminfo_bytes("MemAvailable");
  const auto limit =
      number_in("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes");
  const auto used =
      number_in("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes");
  if (limit && *limit < machine.memory_bytes) {
    machine.memory_bytes = *limit;
    machine.memory_available_bytes =
        std::min(machine.memory_available_bytes, std::max<int64_t>(0, *limit - used.value_or(0)));
  }
  utsname system{};
  if (uname(&system) == 0) {
    machine.system = std::string(system.sysname) + " " + system.release + " " + system.machine;
  }
  return machine;
}

}  // namespace ridge::cli
