#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/device.h"
#include "backend/ops.h"
#include "model/adapter_file.h"

namespace ridge::model {

// A low-rank adapter's weights on one device.
class Adapter {
 public:
  // `file` is fitted to the model (fit_adapter); `scale` multiplies its own. Throws what the device
  // throws. The device must outlive it.
  static std::unique_ptr<Adapter> load(AdapterFile file, float scale, backend::Device& device);

  // Without weights where it leaves this linear as it is.
  backend::Adapter at(int layer, AdaptedLinear linear) const;
  uint64_t size_bytes() const { return size_bytes_; }  // on the device

 private:
  struct Pair {
    std::unique_ptr<backend::Weight> down, up;
    float scale = 0;
  };

  explicit Adapter(AdapterFile file) : file_(std::move(file)) {}

  const AdapterFile file_;                                 // some devices read its bytes in place
  std::vector<std::array<Pair, adapted_linears>> layers_;  // up to the last that it changes
  uint64_t size_bytes_ = 0;
};

// All adapters that one program may use, in the order of their numbers.
using Adapters = std::span<const std::unique_ptr<Adapter>>;

// What the linear's lora_linear needs; empty where no adapter changes it.
std::vector<backend::Adapter> adapters_at(Adapters adapters, int layer, AdaptedLinear linear);

}  // namespace ridge::model
