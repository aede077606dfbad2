#pragma once

#include <map>
#include <string>

namespace ridge::engine {

// Requests that wait and of which nothing was computed yet, by group.
using WaitingCounts = std::map<std::string, int>;

int total(const WaitingCounts& waiting);

// Whether one more request of the group may wait. While fewer than max_queued do, any may; then
// only those of groups that have less than an equal part of the queue, so that one that fills it
// shuts nobody else out; and never more than twice as many.
bool may_wait(const WaitingCounts& waiting, const std::string& group, int max_queued);

}  // namespace ridge::engine
