#include "server/group_pool.h"

#include <algorithm>

namespace ridge::server {

GroupPool::GroupPool(int threads)
    : threads_(threads),
      most_of_group_(std::max(1, threads - 1)),
      pool_(static_cast<std::size_t>(threads)) {}

void GroupPool::post(const std::string& group, Work work) {
  const std::lock_guard lock(mutex_);
  auto found = std::ranges::find(groups_, group, &Group::name);
  if (found == groups_.end()) {
    found = groups_.insert(groups_.end(), Group{.name = group});
  }
  found->waiting.push_back(std::move(work));
  begin_locked();
}

void GroupPool::begin_locked() {
  while (running_ < threads_) {
    const Place group = next_locked();
    if (group == groups_.end()) return;
    Work work = std::move(group->waiting.front());
    group->waiting.pop_front();
    ++group->running;
    ++running_;
    asio::post(pool_, [this, group, work = std::move(work)]() mutable {
      work();
      work = nullptr;  // what it holds may be large
      ended(group);
    });
  }
}

GroupPool::Place GroupPool::next_locked() {
  Place next = groups_.end();
  for (Place group = groups_.begin(); group != groups_.end(); ++group) {
    if (group->waiting.empty() || group->running >= most_of_group_) continue;
    if (next == groups_.end() || group->running < next->running) next = group;
  }
  return next;
}

void GroupPool::ended(Place group) {
  const std::lock_guard lock(mutex_);
  --running_;
  --group->running;
  groups_.splice(groups_.end(), groups_, group);
  if (group->waiting.empty() && group->running == 0) groups_.erase(group);
  begin_locked();
}

}  // namespace ridge::server
