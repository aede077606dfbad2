#include "planner/device_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "base/error.h"
#include "base/read_text.h"
#include "planner/built_in_data.h"
#include "toml/toml_reader.h"

namespace ridge::planner {
namespace {

using Sources = std::map<std::string, std::string>;

bool is_same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

// { value = 989.4, source = "..." }, where source is a key of [sources] or a text of its own, and
// `how`, which follows it in brackets, says what was converted or chosen.
Figure read_figure(const TomlReader& device, std::string_view key, const Sources& sources,
                   double least, double most) {
  const auto reader = device.table(key);
  if (!reader) return {};
  reader->allow_only({"value", "source", "how"});
  Figure figure{.value = reader->number("value", least, most), .source = reader->text("source")};
  if (const auto found = sources.find(figure.source); found != sources.end()) {
    figure.source = found->second;
  }
  const std::string how = reader->text_or("how", "");
  if (!how.empty()) figure.source = fmt::format("{} ({})", figure.source, how);
  return figure;
}

Device read_device(TomlReader& reader, const Sources& sources) {
  Device device;
  device.name = reader.text("name");
  reader.call("device " + device.name);
  reader.allow_only({"name", "title", "note", "ranks", "f16_tflops", "f8_tflops", "i8_tops",
                     "memory_gb", "memory_gbps", "link_devices", "link_gbps", "link_us",
                     "network_gbps", "network_us"});
  device.title = reader.text_or("title", device.name);
  device.note = reader.text_or("note", "");
  device.ranks = reader.integer_or("ranks", 1, 1, 64);
  device.link_devices = reader.integer_or("link_devices", 1, 1, 1 << 16);
  const auto figure = [&](std::string_view key, double least, double most) {
    return read_figure(reader, key, sources, least, most);
  };
  device.f16_tflops = figure("f16_tflops", 1e-3, 1e6);
  device.f8_tflops = figure("f8_tflops", 1e-3, 1e6);
  device.i8_tops = figure("i8_tops", 1e-3, 1e6);
  device.memory_gb = figure("memory_gb", 1e-3, 1e6);
  device.memory_gbps = figure("memory_gbps", 1e-3, 1e6);
  device.link_gbps = figure("link_gbps", 1e-3, 1e6);
  device.link_us = figure("link_us", 0, 1e6);
  device.network_gbps = figure("network_gbps", 1e-3, 1e6);
  device.network_us = figure("network_us", 0, 1e6);
  for (const auto& [key, value] : {std::pair{"f16_tflops", device.f16_tflops.value},
                                   {"memory_gb", device.memory_gb.value},
                                   {"memory_gbps", device.memory_gbps.value}}) {
    if (value == 0) reader.refuse(fmt::format("'{}' is missing", key));
  }
  if ((device.link_devices > 1 || device.ranks > 1) && device.link_gbps.value == 0) {
    reader.refuse("'link_gbps' is missing, but devices are linked");
  }
  return device;
}

}  // namespace

Arithmetic Device::arithmetic(const std::vector<Arithmetic>& wanted) const {
  for (const Arithmetic each : wanted) {
    if (flops_per_second(each) > 0) return each;
  }
  return Arithmetic::f16;
}

double Device::flops_per_second(Arithmetic arithmetic) const {
  constexpr double tera = 1e12;
  switch (arithmetic) {
    case Arithmetic::f16:
      return f16_tflops.value * tera;
    case Arithmetic::f8:
      return f8_tflops.value * tera;
    case Arithmetic::i8:
      return i8_tops.value * tera;
  }
  return 0;
}

Rank::Rank(const Device& device)
    : memory_bytes(device.memory_gb.value * 1e9 / device.ranks),
      bytes_per_second(device.memory_gbps.value * 1e9 / device.ranks),
      link_bytes_per_second(device.link_gbps.value * 1e9 / device.ranks),
      network_bytes_per_second(device.network_gbps.value * 1e9 / device.ranks),
      link_s(device.link_us.value * 1e-6),
      network_s(device.network_us.value * 1e-6),
      link_ranks(device.link_devices * device.ranks) {}

DeviceTable DeviceTable::built_in() { return parse(built_in_devices(), "data/devices.toml"); }

DeviceTable DeviceTable::parse(std::string_view text, std::string_view source) {
  const toml::table file = parse_toml(text, source);
  const TomlReader reader(file, std::string(source), "file");
  reader.allow_only({"sources", "device"});
  Sources sources;
  if (const toml::table* table = file["sources"].as_table()) {
    for (const auto& [key, node] : *table) {
      if (!node.is_string()) reader.refuse(fmt::format("sources.{} must be a string", key.str()));
      sources.emplace(key.str(), node.as_string()->get());
    }
  }
  DeviceTable table;
  reader.tables("device", [&](TomlReader device) { table.add(read_device(device, sources)); });
  if (table.devices_.empty()) reader.refuse("holds no [[device]]");
  return table;
}

void DeviceTable::add_file(const std::filesystem::path& path) {
  const DeviceTable more = parse(read_text(path, "the devices "), path.string());
  for (const Device& device : more.devices_) add(device);
}

void DeviceTable::add(Device device) {
  for (Device& known : devices_) {
    if (is_same_name(known.name, device.name)) {
      known = std::move(device);
      return;
    }
  }
  devices_.push_back(std::move(device));
}

const Device& DeviceTable::get(std::string_view name) const {
  std::string known;
  for (const Device& device : devices_) {
    if (is_same_name(device.name, name)) return device;
    known += (known.empty() ? "" : ", ") + device.name;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("device '{}' is not known; there are {}, and those of a --devices-file",
                          name, known));
}

}  // namespace ridge::planner
