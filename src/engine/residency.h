#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace ridge::engine {

// A model that may be in memory or not. Calls come from the residency's thread, one at a time.
class Resident {
 public:
  virtual ~Resident() = default;
  virtual uint64_t bytes() const = 0;  // that it takes while awake, as far as that is known
  virtual bool is_awake() const = 0;
  virtual bool is_idle() const = 0;  // awake, and nothing runs: `sleep` would unload it
  // Since when somebody waits for it; absent: nobody does.
  virtual std::optional<Clock::TimePoint> wanted_since() const = 0;
  virtual Clock::TimePoint last_used() const = 0;
  // How long it stays awake unused, where it was told; a negative time: for ever.
  virtual std::optional<Clock::Duration> stays_for() const = 0;
  // Loads it. Must not throw: who waits for it is told of a failure.
  virtual void wake() = 0;
  // Unloads it; false, and unchanged, where it has work.
  virtual bool sleep() = 0;
  // Until it is released or unloaded, what runs goes on to its end and what comes waits.
  virtual void hold(bool is_held) = 0;
};

struct ResidencyOptions {
  uint64_t budget_bytes = 0;  // of all models that are awake; 0: any
  // Unused for so long, a model is unloaded that says nothing else; 0: never.
  Clock::Duration sleep_after{};
  // Whoever waits for room longer than this gets it from a model at work that has been in memory
  // for as long: that one's new requests are held until it is idle.
  Clock::Duration patience = std::chrono::seconds(10);
};

// Decides which models are in memory: one that is wanted is loaded, and where it does not fit the
// budget, those used least recently are unloaded first, once they are idle. Pinned ones stay. Those
// that wait get room in the order in which they were wanted; one that fits beside the others need
// not wait for its turn, but once the first has lost its patience. So nobody waits longer than for
// those before it, each for `patience` and what then runs.
class Residency {
 public:
  // The clock must outlive it.
  Residency(const ResidencyOptions& options, const Clock& clock);
  ~Residency();
  Residency(const Residency&) = delete;
  Residency& operator=(const Residency&) = delete;

  // The model must stay until `remove` returns.
  void add(Resident& model, bool is_pinned);
  void remove(Resident& model);
  Clock::Duration sleep_after() const { return options_.sleep_after; }
  // A model is wanted, is idle, or may go sooner: looks at all of them. Returns at once.
  void look();

 private:
  struct Entry {
    Resident* model;
    bool is_pinned;
    bool is_held = false;
    Clock::TimePoint awake_since{};
  };
  // What stands between a model and its room.
  struct Room {
    bool is_there = false;
    std::vector<Entry*> held_by;  // models at work that must go; empty where no unloading helps
  };

  void run();
  bool wake_next(std::unique_lock<std::mutex>& lock);
  void wake(Entry& entry, std::unique_lock<std::mutex>& lock);
  Room make_room(const Entry& wanted);
  bool fits(const Entry& wanted, uint64_t awake_bytes) const;
  void hold_only(const std::vector<Entry*>& held);
  void send_to_sleep();

  const ResidencyOptions options_;
  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable done_;  // with a wake
  std::vector<Entry> entries_;
  Resident* waking_ = nullptr;
  // Of its own: who tells that a model is idle may be a thread that its `sleep` waits for.
  std::mutex news_mutex_;
  std::condition_variable news_;
  bool has_news_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace ridge::engine
