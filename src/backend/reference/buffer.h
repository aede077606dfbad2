#pragma once

#include <cstring>
#include <vector>

#include "backend/device.h"

namespace ridge::backend::reference {

// Plain host memory, zero at first.
class HostBuffer : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes_(bytes) {}
  size_t size_bytes() const override { return bytes_.size(); }
  std::byte* host_data() override { return bytes_.data(); }
  const std::byte* host_data() const override { return bytes_.data(); }
  const std::byte* data() const { return bytes_.data(); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace ridge::backend::reference
