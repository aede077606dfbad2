#pragma once

#include "cli/context.h"
#include "cli/device_options.h"

namespace ridge::cli {

// `ridge bench --machine`: what bounds every model here. Throws unsupported for a device that does
// not measure its machine, and as backend::open_device.
void bench_machine(Context& context, const DeviceChoice& choice);

}  // namespace ridge::cli
