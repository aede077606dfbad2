#pragma once

#include <functional>

#include "backend/ascend/twin/acl/world.h"

namespace ridge::backend::ascend::twin_acl {

// Queues work, or keeps it for the graph that is being captured. `run` may be run many times; it
// returns modelled microseconds. Under World::mutex.
void enqueue(StreamState& stream, std::function<double()> run);

}  // namespace ridge::backend::ascend::twin_acl
