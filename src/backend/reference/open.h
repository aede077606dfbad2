#pragma once

#include <memory>

#include "backend/communicator.h"
#include "backend/device.h"

namespace ridge::backend::reference {

// communicator: of the ranks that this device is one of, which must outlive it; nullptr: it is alone.
std::unique_ptr<Device> open(const DeviceOptions& options, Communicator* communicator = nullptr);

}  // namespace ridge::backend::reference
