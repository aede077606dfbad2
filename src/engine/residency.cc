#include "engine/residency.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace ridge::engine {

namespace {

// How often unused models are looked for.
constexpr std::chrono::seconds sleep_interval{1};

}  // namespace

Residency::Residency(const ResidencyOptions& options, const Clock& clock)
    : options_(options), clock_(clock), thread_([this] { run(); }) {}

Residency::~Residency() {
  {
    std::lock_guard lock(news_mutex_);
    stopping_ = true;
  }
  news_.notify_one();
  thread_.join();
  RIDGE_ASSERT(entries_.empty());
}

void Residency::add(Resident& model, bool is_pinned) {
  std::lock_guard lock(mutex_);
  entries_.push_back({&model, is_pinned});
}

void Residency::remove(Resident& model) {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return waking_ != &model; });
  std::erase_if(entries_, [&](const Entry& entry) { return entry.model == &model; });
}

void Residency::look() {
  {
    std::lock_guard lock(news_mutex_);
    has_news_ = true;
  }
  news_.notify_one();
}

void Residency::run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      while (wake_next(lock)) {
      }
      send_to_sleep();
    }
    std::unique_lock lock(news_mutex_);
    news_.wait_for(lock, std::min<Clock::Duration>(sleep_interval, options_.patience),
                   [this] { return has_news_ || stopping_; });
    has_news_ = false;
    if (stopping_) return;
  }
}

// Wakes one model that is wanted and fits; false where there is none.
bool Residency::wake_next(std::unique_lock<std::mutex>& lock) {
  std::vector<std::pair<Clock::TimePoint, Entry*>> wanted;
  for (Entry& entry : entries_) {
    const auto since = entry.model->wanted_since();
    if (since && !entry.model->is_awake()) wanted.emplace_back(*since, &entry);
  }
  std::ranges::stable_sort(wanted, {}, [](const auto& each) { return each.first; });
  std::vector<Entry*> held;
  for (const auto& [since, entry] : wanted) {
    const Room room = make_room(*entry);
    if (room.is_there) {
      hold_only({});
      wake(*entry, lock);
      return true;
    }
    const Clock::TimePoint now = clock_.now();
    if (room.held_by.empty() || now - since < options_.patience) continue;
    // One that was loaded just now for others has its own time first.
    std::ranges::copy_if(room.held_by, std::back_inserter(held), [&](const Entry* other) {
      return now - other->awake_since >= options_.patience;
    });
    break;
  }
  hold_only(held);
  return false;
}

// Without the lock meanwhile, so that others can be added.
void Residency::wake(Entry& entry, std::unique_lock<std::mutex>& lock) {
  Resident& model = *entry.model;
  waking_ = &model;
  lock.unlock();
  model.wake();
  lock.lock();
  waking_ = nullptr;
  done_.notify_all();
  const auto found = std::ranges::find(entries_, &model, &Entry::model);
  if (found != entries_.end()) found->awake_since = clock_.now();
}

// One that is larger than the whole budget gets all of it.
bool Residency::fits(const Entry& wanted, uint64_t awake_bytes) const {
  return awake_bytes == 0 || awake_bytes + wanted.model->bytes() <= options_.budget_bytes;
}

// Unloads idle models, the least recently used first, where that gives enough room, and else none.
Residency::Room Residency::make_room(const Entry& wanted) {
  if (options_.budget_bytes == 0) return {.is_there = true};
  while (true) {
    uint64_t awake_bytes = 0;
    for (const Entry& entry : entries_) {
      if (entry.model->is_awake()) awake_bytes += entry.model->bytes();
    }
    if (fits(wanted, awake_bytes)) return {.is_there = true};
    // Idle ones go first, then those that are on their way out, then those that came first. Times
    // are read once: those of models in use change while they are sorted.
    struct Other {
      bool is_busy;
      bool is_fresh;
      Clock::TimePoint since;
      Entry* entry;
    };
    std::vector<Other> others;
    for (Entry& entry : entries_) {
      if (entry.is_pinned || !entry.model->is_awake()) continue;
      const bool is_busy = !entry.model->is_idle();
      others.push_back({is_busy, is_busy && !entry.is_held,
                        is_busy ? entry.awake_since : entry.model->last_used(), &entry});
    }
    std::ranges::stable_sort(others, {}, [](const Other& other) {
      return std::tuple(other.is_busy, other.is_fresh, other.since);
    });
    std::vector<Other> leaving;
    for (const Other& other : others) {
      if (fits(wanted, awake_bytes)) break;
      awake_bytes -= std::min(awake_bytes, other.entry->model->bytes());
      leaving.push_back(other);
    }
    if (!fits(wanted, awake_bytes)) return {};
    // A large one at the end may make those before it needless.
    std::ranges::reverse(leaving);
    std::erase_if(leaving, [&](const Other& other) {
      const uint64_t with_it = awake_bytes + other.entry->model->bytes();
      const bool stays = fits(wanted, with_it);
      if (stays) awake_bytes = with_it;
      return stays;
    });
    Room room;
    for (const Other& other : leaving) {
      if (other.is_busy) room.held_by.push_back(other.entry);
    }
    if (!room.held_by.empty()) return room;
    for (const Other& other : leaving) {
      if (other.entry->model->sleep()) other.entry->is_held = false;
    }
  }
}

void Residency::hold_only(const std::vector<Entry*>& held) {
  for (Entry& entry : entries_) {
    const bool is_held = std::ranges::find(held, &entry) != held.end();
    if (is_held != entry.is_held) entry.model->hold(is_held);
    entry.is_held = is_held;
  }
}

void Residency::send_to_sleep() {
  for (const Entry& entry : entries_) {
    const std::optional<Clock::Duration> own = entry.model->stays_for();
    const bool stays =
        own ? *own < Clock::Duration::zero() : options_.sleep_after == Clock::Duration::zero();
    if (stays) continue;
    const bool is_unused =
        clock_.now() - entry.model->last_used() >= own.value_or(options_.sleep_after);
    if (entry.model->is_awake() && !entry.is_pinned && !entry.is_held && is_unused) {
      entry.model->sleep();
    }
  }
}

}  // namespace ridge::engine
