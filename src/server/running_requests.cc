#include "server/running_requests.h"

#include <algorithm>
#include <set>
#include <utility>

namespace ridge::server {
namespace {

bool is_same(const platform::Principal& one, const platform::Principal& other) {
  return one.key_id == other.key_id && one.project_id == other.project_id &&
         one.is_session == other.is_session;
}

}  // namespace

RunningRequests::Listing::Listing(RunningRequests& requests, std::string_view id,
                                  std::string_view other_id, std::string group, std::string model,
                                  SharedPrincipal principal, Generation& generation)
    : requests_(requests), generation_(generation) {
  std::lock_guard lock(requests_.mutex_);
  const int64_t revision = principal ? principal->revision : 0;
  const Entry entry{std::move(group), std::move(model), std::move(principal), revision,
                    &generation};
  requests_.entries_.emplace(id, entry);
  if (other_id != id) requests_.entries_.emplace(other_id, entry);
}

RunningRequests::Listing::~Listing() {
  std::lock_guard lock(requests_.mutex_);
  std::erase_if(requests_.entries_,
                [&](const auto& entry) { return entry.second.generation == &generation_; });
}

template <typename Do>
std::optional<std::string> RunningRequests::for_each_of(std::string_view id, std::string_view group,
                                                        const MayUse& may_use, Do act) {
  const std::lock_guard lock(mutex_);
  std::optional<std::string> model;
  const auto [first, last] = entries_.equal_range(id);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second.group != group || !may_use(entry->second.model)) continue;
    act(*entry->second.generation);
    model = entry->second.model;
  }
  return model;
}

bool RunningRequests::end_thinking(std::string_view id, std::string_view group,
                                   const MayUse& may_use) {
  const auto end = [](Generation& generation) { generation.end_thinking(); };
  return for_each_of(id, group, may_use, end).has_value();
}

std::optional<std::string> RunningRequests::cancel(std::string_view id, std::string_view group,
                                                   const MayUse& may_use, const Error& why) {
  return for_each_of(id, group, may_use, [&](Generation& generation) { generation.cancel(why); });
}

bool RunningRequests::has_any() const {
  const std::lock_guard lock(mutex_);
  return !entries_.empty();
}

std::vector<RunningRequests::SharedPrincipal> RunningRequests::principals_known_before(
    int64_t revision) const {
  std::vector<SharedPrincipal> found;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, entry] : entries_) {
    if (!entry.principal || entry.revision >= revision) continue;
    const auto is_this = [&](const auto& other) { return is_same(*entry.principal, *other); };
    if (std::ranges::none_of(found, is_this)) found.push_back(entry.principal);
  }
  return found;
}

void RunningRequests::still_known(const platform::Principal& principal, int64_t revision) {
  const std::lock_guard lock(mutex_);
  for (auto& [id, entry] : entries_) {
    if (entry.principal && is_same(*entry.principal, principal)) entry.revision = revision;
  }
}

void RunningRequests::cancel(const platform::Principal& principal, const Error& why) {
  const std::lock_guard lock(mutex_);
  std::set<Generation*> found;  // as one may be listed by two ids
  for (auto& [id, entry] : entries_) {
    if (entry.principal && is_same(*entry.principal, principal)) found.insert(entry.generation);
  }
  for (Generation* generation : found) generation->cancel(why);
}

}  // namespace ridge::server
