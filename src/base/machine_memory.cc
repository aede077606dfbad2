#include "base/machine_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>

#include "base/error.h"

namespace ridge {

namespace {

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

// The value of `key` in lines of "key value".
std::optional<uint64_t> read_field(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  uint64_t value = 0;
  for (std::string line; std::getline(file, line);) {
    const size_t end = line.find_first_of(" \t");
    if (end == std::string::npos || line.substr(0, end) != key) continue;
    if (std::sscanf(line.c_str() + end, "%lu", &value) == 1) return value;
  }
  return std::nullopt;
}

// What a cgroup folder leaves; no limit where it has none. Cached file pages count as used, but the
// kernel gives them back first.
uint64_t cgroup_rest(const std::string& folder, const char* limit_file, const char* usage_file,
                     const char* cache_field) {
  const auto limit = read_number(folder + limit_file);
  const auto usage = read_number(folder + usage_file);
  if (!limit || !usage) return std::numeric_limits<uint64_t>::max();
  const uint64_t cache = read_field(folder + "/memory.stat", cache_field).value_or(0);
  const uint64_t used = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, used);
}

uint64_t cgroup_limit(const std::string& folder, const char* limit_file) {
  return read_number(folder + limit_file).value_or(std::numeric_limits<uint64_t>::max());
}

// The folder of this process in the hierarchy of `controller` ("" in version 2): the rest of the
// line "N:controller:/path".
std::string cgroup_folder(const std::string& root, const std::string& controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) return line.substr(second + 1);
  }
  return "/";
}

// The least amount of a folder and all above it, each of which may set a limit.
template <typename AmountOf>
uint64_t least_of(const std::string& mount, std::string folder, const AmountOf& amount_of) {
  uint64_t least = amount_of(mount);
  while (folder.size() > 1) {
    least = std::min(least, amount_of(mount + folder));
    folder.resize(folder.rfind('/'));
  }
  return least;
}

uint64_t meminfo_bytes(const std::string& root, std::string_view key) {
  const auto kibibytes = read_field(root + "/proc/meminfo", key);
  if (!kibibytes) throw Error(ErrorCode::io, fmt::format("/proc/meminfo has no line {}", key));
  return *kibibytes * 1024;
}

}  // namespace

uint64_t available_memory_bytes(const std::string& root) {
  const uint64_t version_2 =
      least_of(root + "/sys/fs/cgroup", cgroup_folder(root, ""), [](const std::string& folder) {
        return cgroup_rest(folder, "/memory.max", "/memory.current", "inactive_file");
      });
  const uint64_t version_1 = least_of(
      root + "/sys/fs/cgroup/memory", cgroup_folder(root, "memory"), [](const std::string& folder) {
        return cgroup_rest(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes",
                           "total_inactive_file");
      });
  return std::min({meminfo_bytes(root, "MemAvailable:"), version_1, version_2});
}

uint64_t total_memory_bytes(const std::string& root) {
  const uint64_t version_2 =
      least_of(root + "/sys/fs/cgroup", cgroup_folder(root, ""),
               [](const std::string& folder) { return cgroup_limit(folder, "/memory.max"); });
  const uint64_t version_1 = least_of(
      root + "/sys/fs/cgroup/memory", cgroup_folder(root, "memory"),
      [](const std::string& folder) { return cgroup_limit(folder, "/memory.limit_in_bytes"); });
  return std::min({meminfo_bytes(root, "MemTotal:"), version_1, version_2});
}

}  // namespace ridge
