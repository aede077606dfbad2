#pragma once

#include <cstdint>
#include <string>

namespace ridge::backend {

enum class DeviceState : uint8_t {
  absent,   // there is nothing of the kind, and nobody has asked for it
  ready,    // it can be used
  lacking,  // it is partly there: `advice` says what it lacks
};

// What a back end sees of its devices in this machine.
struct DeviceFinding {
  std::string subject;  // "Ascend"
  DeviceState state = DeviceState::absent;
  std::string found;
  std::string advice;  // empty where there is nothing to do
};

}  // namespace ridge::backend
