#include "engine/residency.h"

#include <algorithm>
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

void Residency::want(Resident& model) {
  {
    std::lock_guard lock(mutex_);
    if (Entry* entry = entry_of(model)) entry->is_wanted = true;
  }
  tell();
}

void Residency::tell() {
  {
    std::lock_guard lock(news_mutex_);
    has_news_ = true;
  }
  news_.notify_one();
}

Residency::Entry* Residency::entry_of(const Resident& model) {
  const auto found = std::ranges::find(entries_, &model, &Entry::model);
  return found == entries_.end() ? nullptr : &*found;
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
    news_.wait_for(lock, sleep_interval, [this] { return has_news_ || stopping_; });
    has_news_ = false;
    if (stopping_) return;
  }
}

// Wakes one model that is wanted and fits; false where there is none. Without the lock meanwhile,
// so that others can be wanted.
bool Residency::wake_next(std::unique_lock<std::mutex>& lock) {
  for (Entry& entry : entries_) {
    if (!entry.is_wanted) continue;
    if (!entry.model->is_awake() && !make_room(entry)) continue;
    entry.is_wanted = false;
    if (entry.model->is_awake()) continue;
    waking_ = entry.model;
    lock.unlock();
    waking_->wake();
    lock.lock();
    waking_ = nullptr;
    done_.notify_all();
    return true;
  }
  return false;
}

// One that is larger than the whole budget gets all of it.
bool Residency::make_room(const Entry& wanted) {
  if (options_.budget_bytes == 0) return true;
  while (true) {
    uint64_t awake_bytes = 0;
    for (const Entry& entry : entries_) {
      if (entry.model->is_awake()) awake_bytes += entry.model->bytes();
    }
    if (awake_bytes == 0 || awake_bytes + wanted.model->bytes() <= options_.budget_bytes) {
      return true;
    }
    // Times are read once: those of models in use change while they are sorted.
    std::vector<std::pair<Clock::TimePoint, Resident*>> others;
    for (const Entry& entry : entries_) {
      if (entry.is_pinned || !entry.model->is_awake()) continue;
      others.emplace_back(entry.model->last_used(), entry.model);
    }
    std::ranges::sort(others, {}, [](const auto& other) { return other.first; });
    const bool has_slept =
        std::ranges::any_of(others, [](const auto& other) { return other.second->sleep(); });
    if (!has_slept) return false;
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
    if (entry.model->is_awake() && !entry.is_pinned && !entry.is_wanted && is_unused) {
      entry.model->sleep();
    }
  }
}

}  // namespace ridge::engine
