#pragma once

#include "backend/ascend/device/arena.h"
#include "backend/ascend/device/feeds.h"
#include "backend/ascend/device/hardware.h"
#include "backend/ascend/device/plan.h"
#include "backend/ascend/device/weight.h"

namespace ridge::backend::ascend {

// Where a program's memory is.
struct ProgramMemory {
  acl::DeviceSpan storages;  // as Arena
  acl::DeviceSpan halves;    // of the linears' last input, and
  acl::DeviceSpan scales;    // of its rows
  acl::DeviceSpan scratch;   // of one op
};

// What lowering reads of a program.
struct LoweringContext {
  Hardware& hardware;
  const Recording& recording;
  const Arena& arena;
  const Feeds& feeds;
  ProgramMemory memory;
};

// The launches of a recording for steps of one shape. Throws unsupported for what kernels cannot
// take. Addresses are sums with those of `context.memory`; what memory is needed the plan tells.
Plan lower(const LoweringContext& context, const PlanKey& key);

}  // namespace ridge::backend::ascend
