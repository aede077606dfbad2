#pragma once

#include "backend/ascend/acl/memory.h"
#include "backend/ascend/device/arena.h"

namespace ridge::backend::ascend {

// Whether an op has no kernel here and is done by the reference on the host. Throws unsupported for
// what neither does.
bool is_on_host(const Op& op);

// Does an op that has no kernel, by the reference: copies its values from the device, computes, and
// copies back what it writes. `arena` holds the recording's storages; the stream that writes it has
// come to rest.
void run_on_host(const Recording& recording, const Op& op, const StepShape& shape,
                 const acl::Context& context, const acl::DeviceSpan& memory, const Arena& arena);

}  // namespace ridge::backend::ascend
