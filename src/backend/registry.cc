#include "backend/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "backend/ascend/device/open.h"
#include "backend/cpu/open.h"
#include "backend/reference/open.h"
#include "base/error.h"

namespace ridge::backend {

namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Device> (*open)(const DeviceOptions&, Communicator*);
  std::vector<std::string> (*isas)() = nullptr;  // where there is a choice
  std::vector<std::string> (*emulated_isas)() = nullptr;
};

// The only list of back ends; the preferred one first.
constexpr Entry entries[] = {
    {"cpu", &cpu::open, &cpu::available_isas, &cpu::emulated_isas},
    {"reference", &reference::open},
};

// Never what "auto" means. `variant` is what stands behind a colon, or "".
struct SpecialEntry {
  std::string_view name;
  std::unique_ptr<Device> (*open)(std::string_view variant, const DeviceOptions&);
};
constexpr SpecialEntry special_entries[] = {
    {"ascend", &ascend::open},
    {"ascend-twin", &ascend::open_twin},
};

const SpecialEntry* find_special(std::string_view name) {
  const std::string_view kind = name.substr(0, name.find(':'));
  const auto found = std::ranges::find(special_entries, kind, &SpecialEntry::name);
  return found == std::end(special_entries) ? nullptr : &*found;
}

const Entry& find_entry(std::string_view name) {
  for (const Entry& entry : entries) {
    if (name == "auto" || name == entry.name) return entry;
  }
  throw Error(ErrorCode::not_found,
              fmt::format("there is no device '{}'; this build has: auto, {}, {}", name,
                          fmt::join(device_names(), ", "), fmt::join(special_device_names(), ", ")));
}

}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const Entry& entry : entries) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> special_device_names() {
  std::vector<std::string> names;
  for (const SpecialEntry& entry : special_entries) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> device_isas(std::string_view name) {
  if (find_special(name) != nullptr) return {};
  const Entry& entry = find_entry(name);
  return entry.isas == nullptr ? std::vector<std::string>{} : entry.isas();
}

std::vector<std::string> device_emulated_isas(std::string_view name) {
  if (find_special(name) != nullptr) return {};
  const Entry& entry = find_entry(name);
  return entry.emulated_isas == nullptr ? std::vector<std::string>{} : entry.emulated_isas();
}

std::vector<DeviceFinding> examine_devices() {
  return {ascend::examine()};
}

std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options) {
  if (const SpecialEntry* special = find_special(name)) {
    const size_t colon = name.find(':');
    return special->open(colon == name.npos ? "" : name.substr(colon + 1), options);
  }
  return find_entry(name).open(options, /*communicator=*/nullptr);
}

std::unique_ptr<Device> open_rank_device(std::string_view name, const DeviceOptions& options,
                                         Communicator& communicator) {
  if (find_special(name) != nullptr) {
    throw Error(ErrorCode::unsupported,
                fmt::format("device {} cannot be one of several ranks; {} can", name,
                            fmt::join(device_names(), " and ")));
  }
  return find_entry(name).open(options, &communicator);
}

std::unique_ptr<Device> open_counting_device(std::string_view name) {
  const size_t colon = name.find(':');
  if (name.substr(0, colon) == "ascend-twin") {
    return ascend::open_counting_twin(colon == name.npos ? "" : name.substr(colon + 1));
  }
  if (find_special(name) == nullptr) find_entry(name);  // throws for what there is not
  throw Error(ErrorCode::unsupported,
              fmt::format("device {} cannot count what a step costs; ascend-twin[:910B2] can", name));
}

}  // namespace ridge::backend
