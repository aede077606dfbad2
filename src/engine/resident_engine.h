#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/residency.h"

namespace ridge::engine {

// An engine whose weights are in memory only while they are used: requests wait while they are
// loaded. What needs no weights, the tokenizer and the template, is there all the time.
class ResidentEngine final : public Engine, private Resident {
 public:
  struct Parts {
    // Loads the model. Throws what Engine::start does; the requests that wait then fail with it.
    std::function<std::unique_ptr<Engine>()> load;
    std::shared_ptr<const text::Tokenizer> tokenizer;
    std::shared_ptr<const text::ChatTemplate> chat_template;
    ModelInfo info;
    uint64_t bytes = 0;  // that it takes in memory
    int max_queued = 256;
    bool is_pinned = false;  // loaded at once, and never unloaded
  };
  // Residency and clock must outlive it.
  ResidentEngine(Parts parts, Residency& residency, const Clock& clock);
  ~ResidentEngine() override;

  const ModelInfo& model_info() const override { return parts_.info; }
  const text::Tokenizer& tokenizer() const override { return *parts_.tokenizer; }
  const text::ChatTemplate& chat_template() const override { return *parts_.chat_template; }

  RequestId submit(Request request, RequestListener listener) override;
  void cancel(RequestId id) override;
  void end_thinking(RequestId id) override;
  void keep_loaded(Clock::Duration unused_for, WhoAsks who) override;
  EngineStats stats() const override;
  WaitingCounts waiting() const override;
  void drain(Clock::Duration deadline) override;
  // In memory, but to make room: what comes waits until it was unloaded and loaded again.
  bool is_held() const;

 private:
  struct Pending {
    RequestId id;
    Request request;
    RequestListener listener;
    Clock::TimePoint submitted;
    std::optional<Clock::TimePoint> deadline() const;
  };

  uint64_t bytes() const override { return parts_.bytes; }
  bool is_awake() const override;
  bool is_idle() const override;
  std::optional<Clock::TimePoint> wanted_since() const override;
  Clock::TimePoint last_used() const override;
  std::optional<Clock::Duration> stays_for() const override;
  void wake() override;
  bool sleep() override;
  void hold(bool is_held) override;

  struct Refused {
    Pending pending;
    Error error;
  };
  WaitingCounts waiting_for_all() const;
  std::vector<Refused> submit_pending();
  void end(const Pending& pending, FinishReason reason, const std::optional<Error>& error);
  void end_overdue();
  RequestListener watched(RequestId id, RequestListener listener);
  void ended(RequestId id);

  const Parts parts_;
  Residency& residency_;
  const Clock& clock_;

  mutable std::mutex mutex_;
  std::shared_ptr<Engine> engine_;  // while awake
  std::vector<Pending> pending_;    // while asleep or held
  bool is_held_ = false;
  // Since when it is to be loaded without a request; a pinned one is, from the beginning.
  std::optional<Clock::TimePoint> to_be_loaded_since_;
  std::map<RequestId, RequestId> running_;  // ours → the engine's
  EngineStats before_;                      // of engines that were unloaded
  Clock::TimePoint last_used_;
  std::optional<Clock::Duration> stays_for_;
  bool administrator_decided_ = false;  // of stays_for_
  uint64_t next_id_ = 1;
  bool draining_ = false;
  bool stopping_ = false;
  std::condition_variable deadlines_;  // of pending_, or stopping_
  std::thread overdue_;                // last: it uses all of the above
};

}  // namespace ridge::engine
