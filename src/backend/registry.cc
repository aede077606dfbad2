#include "backend/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "backend/ascend/acl/examine.h"
#include "backend/cpu/open.h"
#include "backend/reference/open.h"
#include "base/error.h"

namespace ridge::backend {

namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Device> (*open)(const DeviceOptions&);
  std::vector<std::string> (*isas)() = nullptr;  // where there is a choice
  std::vector<std::string> (*emulated_isas)() = nullptr;
};

// The only list of back ends; the preferred one first.
constexpr Entry entries[] = {
    {"cpu", &cpu::open, &cpu::available_isas, &cpu::emulated_isas},
    {"reference", &reference::open},
};

const Entry& find_entry(std::string_view name) {
  for (const Entry& entry : entries) {
    if (name == "auto" || name == entry.name) return entry;
  }
  throw Error(ErrorCode::not_found, fmt::format("there is no device '{}'; this build has: auto, {}",
                                                name, fmt::join(device_names(), ", ")));
}

}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const Entry& entry : entries) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> device_isas(std::string_view name) {
  const Entry& entry = find_entry(name);
  return entry.isas == nullptr ? std::vector<std::string>{} : entry.isas();
}

std::vector<std::string> device_emulated_isas(std::string_view name) {
  const Entry& entry = find_entry(name);
  return entry.emulated_isas == nullptr ? std::vector<std::string>{} : entry.emulated_isas();
}

std::vector<DeviceFinding> examine_devices() {
  DeviceFinding ascend = ascend::acl::examine();
  const auto is_ascend = [](const Entry& entry) { return entry.name == "ascend"; };
  if (ascend.state == DeviceState::ready && std::ranges::none_of(entries, is_ascend)) {
    ascend.state = DeviceState::lacking;
    ascend.advice = "nothing yet: this ridge has no back end for it, and computes on the processor";
  }
  return {std::move(ascend)};
}

std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options) {
  return find_entry(name).open(options);
}

}  // namespace ridge::backend
