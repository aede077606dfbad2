#pragma once

#include <memory>

#include "backend/device.h"

namespace ridge::backend::cpu {

std::unique_ptr<Device> open(const DeviceOptions& options);

}  // namespace ridge::backend::cpu
