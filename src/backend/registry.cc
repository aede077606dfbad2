#include "backend/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "backend/cpu/open.h"
#include "backend/reference/open.h"
#include "base/error.h"

namespace ridge::backend {

namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Device> (*open)(const DeviceOptions&);
};

// The only list of back ends; the preferred one first.
constexpr Entry entries[] = {
    {"cpu", &cpu::open},
    {"reference", &reference::open},
};

}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const Entry& entry : entries) names.emplace_back(entry.name);
  return names;
}

std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options) {
  for (const Entry& entry : entries) {
    if (name == "auto" || name == entry.name) return entry.open(options);
  }
  throw Error(ErrorCode::not_found, fmt::format("there is no device '{}'; this build has: auto, {}",
                                                name, fmt::join(device_names(), ", ")));
}

}  // namespace ridge::backend
