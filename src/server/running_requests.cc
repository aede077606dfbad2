#include "server/running_requests.h"

#include <utility>

namespace ridge::server {

RunningRequests::Listing::Listing(RunningRequests& requests, std::string_view id,
                                  std::string_view other_id, std::string group, std::string model,
                                  Generation& generation)
    : requests_(requests), generation_(generation) {
  std::lock_guard lock(requests_.mutex_);
  const Entry entry{std::move(group), std::move(model), &generation};
  requests_.entries_.emplace(id, entry);
  if (other_id != id) requests_.entries_.emplace(other_id, entry);
}

RunningRequests::Listing::~Listing() {
  std::lock_guard lock(requests_.mutex_);
  std::erase_if(requests_.entries_,
                [&](const auto& entry) { return entry.second.generation == &generation_; });
}

bool RunningRequests::end_thinking(std::string_view id, std::string_view group,
                                   const MayUse& may_use) {
  std::lock_guard lock(mutex_);
  bool found = false;
  const auto [first, last] = entries_.equal_range(id);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second.group != group || !may_use(entry->second.model)) continue;
    entry->second.generation->end_thinking();
    found = true;
  }
  return found;
}

}  // namespace ridge::server
