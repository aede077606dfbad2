#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "planner/weight_format.h"

namespace ridge::planner {

// A number and the document that states it; "" and 0 where a device has none.
struct Figure {
  double value = 0;
  std::string source;
};

// One accelerator as it is bought, with peaks that nothing exceeds: dense, without sparsity.
struct Device {
  std::string name;   // "910C"
  std::string title;  // "Huawei Ascend 910C, two dies"
  std::string note;
  int ranks = 1;  // equal parts with memory of their own, as the dies of a package
  Figure f16_tflops;
  Figure f8_tflops;  // 0: none
  Figure i8_tops;    // 0: none
  Figure memory_gb;
  Figure memory_gbps;
  int link_devices = 1;  // that reach each other over links
  Figure link_gbps;      // one way, of one device
  Figure link_us;        // the least time of one small transfer
  Figure network_gbps;   // beyond the links, one way, of one device
  Figure network_us;

  // Of the first arithmetic of `wanted` that the device has, FLOP/s; every device has f16.
  Arithmetic arithmetic(const std::vector<Arithmetic>& wanted) const;
  double flops_per_second(Arithmetic arithmetic) const;
};

// The figures of one rank, in bytes and seconds.
struct Rank {
  explicit Rank(const Device& device);

  double memory_bytes;
  double bytes_per_second;
  double link_bytes_per_second;
  double network_bytes_per_second;
  double link_s;
  double network_s;
  int link_ranks;  // that reach each other over links
};

// The devices of data/devices.toml, and of an operator's own files of that form.
class DeviceTable {
 public:
  static DeviceTable built_in();
  // Throws invalid_file.
  static DeviceTable parse(std::string_view toml, std::string_view source);

  // Adds those of a file; one of a name that is known takes its place. Throws not_found, io,
  // invalid_file.
  void add_file(const std::filesystem::path& path);
  void add(Device device);
  const std::vector<Device>& devices() const { return devices_; }
  // In any case. Throws invalid_argument naming all that are known.
  const Device& get(std::string_view name) const;

 private:
  std::vector<Device> devices_;
};

}  // namespace ridge::planner
