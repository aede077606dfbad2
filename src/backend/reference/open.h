#pragma once

#include <memory>

#include "backend/device.h"

namespace ridge::backend::reference {

std::unique_ptr<Device> open(const DeviceOptions& options);

}  // namespace ridge::backend::reference
