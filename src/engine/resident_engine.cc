#include "engine/resident_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "engine/admission.h"
#include "engine/request_check.h"
#include "engine/request_trace.h"

namespace ridge::engine {

namespace {

// That a caller may ask for: others who use the model between its requests need not wait for
// loading each time.
constexpr Clock::Duration shortest_stay = std::chrono::minutes(1);

// Counters go on where the last engine's ended; figures of the moment are the present one's.
void add_totals(EngineStats& to, const EngineStats& more) {
  to.prompt_tokens_total += more.prompt_tokens_total;
  to.generated_tokens_total += more.generated_tokens_total;
  to.steps_total += more.steps_total;
  to.finished_total += more.finished_total;
  to.queried_tokens_total += more.queried_tokens_total;
  to.cached_tokens_total += more.cached_tokens_total;
  to.preemptions_total += more.preemptions_total;
  to.blocks_spilled_total += more.blocks_spilled_total;
  to.blocks_restored_total += more.blocks_restored_total;
  to.drafts_total += more.drafts_total;
  to.draft_tokens_total += more.draft_tokens_total;
  to.accepted_tokens_total += more.accepted_tokens_total;
  to.expert_hits_total += more.expert_hits_total;
  to.expert_misses_total += more.expert_misses_total;
  to.expert_read_bytes_total += more.expert_read_bytes_total;
  for (size_t i = 0; i < to.choices_by_reason.size(); ++i) {
    to.choices_by_reason[i] += more.choices_by_reason[i];
  }
  to.step_tokens.add(more.step_tokens);
  to.queue.add(more.queue);
  to.first_token.add(more.first_token);
  to.inter_token.add(more.inter_token);
  to.end_to_end.add(more.end_to_end);
}

}  // namespace

ResidentEngine::ResidentEngine(Parts parts, Residency& residency, const Clock& clock)
    : parts_(std::move(parts)), residency_(residency), clock_(clock), last_used_(clock.now()) {
  if (parts_.is_pinned) to_be_loaded_since_ = clock.now();
  residency_.add(*this, parts_.is_pinned);
  if (parts_.is_pinned) residency_.look();
  overdue_ = std::thread([this] { end_overdue(); });
}

ResidentEngine::~ResidentEngine() {
  drain(Clock::Duration::zero());
  residency_.remove(*this);
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  deadlines_.notify_one();
  overdue_.join();
}

std::optional<Clock::TimePoint> ResidentEngine::Pending::deadline() const {
  if (!request.deadline) return std::nullopt;
  return submitted + *request.deadline;
}

RequestId ResidentEngine::submit(Request request, RequestListener listener) {
  check_request(request, parts_.info.vocab_size, parts_.info.context_tokens,
                parts_.info.adapters.size());
  bool waits;
  RequestId id;
  {
    std::lock_guard lock(mutex_);
    if (draining_) {
      throw Error(ErrorCode::unavailable, "the server is shutting down and takes no more requests");
    }
    last_used_ = clock_.now();
    id = RequestId{next_id_++};
    waits = engine_ == nullptr || is_held_;
    if (waits) {
      const WaitingCounts waiting = waiting_for_all();
      if (!may_wait(waiting, request.group, parts_.max_queued)) {
        throw Error(ErrorCode::queue_full,
                    fmt::format("{} requests wait for this model, which is to be loaded first; more "
                                "are not queued by this server; try again later",
                                total(waiting)));
      }
    }
    Pending pending{id, std::move(request), watched(id, std::move(listener)), last_used_};
    if (waits && pending.request.trace) {
      pending.request.trace->add({.kind = TraceEvent::Kind::queued, .at = pending.submitted});
      pending.request.trace->add(
          {.kind = TraceEvent::Kind::waiting, .at = pending.submitted, .wait = Wait::model});
    }
    if (!waits) {
      running_[id] = {};
      try {
        running_[id] = engine_->submit(std::move(pending.request), std::move(pending.listener));
      } catch (...) {
        running_.erase(id);
        throw;
      }
    } else {
      pending_.push_back(std::move(pending));
    }
  }
  if (waits) {
    deadlines_.notify_one();
    residency_.look();
  }
  return id;
}

// With the lock. A held model's own line counts as well: what waits here joins it, once the model is
// released, in the same order and with no more before it than now, so that it is not refused then.
WaitingCounts ResidentEngine::waiting_for_all() const {
  WaitingCounts waiting = engine_ ? engine_->waiting() : WaitingCounts();
  for (const Pending& pending : pending_) ++waiting[pending.request.group];
  return waiting;
}

bool ResidentEngine::is_held() const {
  std::lock_guard lock(mutex_);
  return is_held_;
}

WaitingCounts ResidentEngine::waiting() const {
  std::lock_guard lock(mutex_);
  return waiting_for_all();
}

// Gives what waits to the engine, with the lock; the caller tells those that it does not take.
std::vector<ResidentEngine::Refused> ResidentEngine::submit_pending() {
  std::vector<Refused> refused;
  for (Pending& pending : std::exchange(pending_, {})) {
    Pending told{pending.id, {}, pending.listener, pending.submitted};
    told.request.choices = pending.request.choices;
    told.request.trace = pending.request.trace;
    pending.request.submitted = pending.submitted;
    running_[pending.id] = {};
    try {
      running_[pending.id] =
          engine_->submit(std::move(pending.request), std::move(pending.listener));
    } catch (const Error& error) {
      running_.erase(pending.id);
      refused.push_back({std::move(told), error});
    }
  }
  return refused;
}

// Of one that was taken out of pending_; without the lock.
void ResidentEngine::end(const Pending& pending, FinishReason reason,
                         const std::optional<Error>& error) {
  Finish finish;
  finish.error = error;
  finish.reasons.assign(static_cast<size_t>(pending.request.choices), reason);
  const Clock::TimePoint now = clock_.now();
  finish.usage.queue_ms = finish.usage.duration_ms = milliseconds(now - pending.submitted);
  {
    std::lock_guard lock(mutex_);
    ++before_.finished_total;
    before_.choices_by_reason[static_cast<size_t>(reason)] += finish.reasons.size();
    before_.end_to_end.observe(seconds(now - pending.submitted));
  }
  for (int choice = 0; choice < pending.request.choices; ++choice) {
    if (pending.request.trace) {
      pending.request.trace->add(
          {.kind = TraceEvent::Kind::finished, .at = now, .choice = choice, .reason = reason});
    }
    if (pending.listener.on_choice_finish) pending.listener.on_choice_finish(choice, reason);
  }
  if (pending.listener.on_finish) pending.listener.on_finish(finish);
}

// A thread of its own: the residency's may be loading a model for minutes.
void ResidentEngine::end_overdue() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const Clock::TimePoint now = clock_.now();
    std::optional<Clock::TimePoint> next;
    std::vector<Pending> overdue;
    for (Pending& pending : std::exchange(pending_, {})) {
      const auto deadline = pending.deadline();
      const bool is_over = deadline && *deadline <= now;
      if (deadline && !is_over) next = std::min(next.value_or(*deadline), *deadline);
      (is_over ? overdue : pending_).push_back(std::move(pending));
    }
    if (!overdue.empty()) {
      lock.unlock();
      for (const Pending& pending : overdue) {
        end(pending, FinishReason::failed,
            Error(ErrorCode::timed_out,
                  fmt::format("the request's deadline passed after {:.0f} ms, while it waited for "
                              "its model to be loaded",
                              milliseconds(now - pending.submitted))));
      }
      lock.lock();
    } else if (next) {
      deadlines_.wait_for(lock, *next - now);
    } else {
      deadlines_.wait(lock);
    }
  }
}

// The listener of a request that takes note of its end.
RequestListener ResidentEngine::watched(RequestId id, RequestListener listener) {
  listener.on_finish = [this, id, on_finish = std::move(listener.on_finish)](const Finish& finish) {
    if (on_finish) on_finish(finish);
    ended(id);
  };
  return listener;
}

void ResidentEngine::ended(RequestId id) {
  bool is_idle;
  {
    std::lock_guard lock(mutex_);
    running_.erase(id);
    last_used_ = clock_.now();
    is_idle = running_.empty();
  }
  if (is_idle) residency_.look();
}

void ResidentEngine::end_thinking(RequestId id) {
  std::lock_guard lock(mutex_);
  const auto waiting = std::ranges::find(pending_, id, &Pending::id);
  if (waiting != pending_.end()) {
    waiting->request.thinking_budget = 0;
  } else if (const auto running = running_.find(id); running != running_.end() && engine_) {
    engine_->end_thinking(running->second);
  }
}

void ResidentEngine::cancel(RequestId id) {
  std::optional<Pending> waiting;
  {
    std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(pending_, id, &Pending::id);
    if (found != pending_.end()) {
      waiting = std::move(*found);
      pending_.erase(found);
    } else if (const auto running = running_.find(id); running != running_.end() && engine_) {
      engine_->cancel(running->second);
    }
  }
  if (waiting) end(*waiting, FinishReason::cancelled, std::nullopt);
}

void ResidentEngine::keep_loaded(Clock::Duration unused_for, WhoAsks who) {
  const bool is_callers = who == WhoAsks::caller;
  if (is_callers) {
    const Clock::Duration longest = residency_.sleep_after();
    if (longest == Clock::Duration::zero()) return;  // all stay until others need the room
    if (unused_for < Clock::Duration::zero()) unused_for = longest;
    unused_for = std::clamp(unused_for, std::min(shortest_stay, longest), longest);
  }
  {
    std::lock_guard lock(mutex_);
    if (is_callers && administrator_decided_) return;
    stays_for_ = unused_for;
    administrator_decided_ = !is_callers;
  }
  residency_.look();
}

EngineStats ResidentEngine::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = engine_ ? engine_->stats() : EngineStats();
  stats.is_loaded = engine_ != nullptr;
  for (const Pending& pending : pending_) stats.add_waiting(pending.request);
  stats.is_loading = !engine_ && !pending_.empty();
  add_totals(stats, before_);
  return stats;
}

void ResidentEngine::drain(Clock::Duration deadline) {
  std::vector<Pending> waiting;
  std::shared_ptr<Engine> engine;
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
    waiting = std::exchange(pending_, {});
    engine = engine_;
  }
  for (const Pending& pending : waiting) {
    end(pending, FinishReason::failed,
        Error(ErrorCode::unavailable, "the server is shutting down"));
  }
  if (engine) engine->drain(deadline);
}

bool ResidentEngine::is_awake() const {
  std::lock_guard lock(mutex_);
  return engine_ != nullptr;
}

bool ResidentEngine::is_idle() const {
  std::lock_guard lock(mutex_);
  return engine_ != nullptr && running_.empty();
}

std::optional<Clock::TimePoint> ResidentEngine::wanted_since() const {
  std::lock_guard lock(mutex_);
  if (pending_.empty()) return to_be_loaded_since_;
  return pending_.front().submitted;
}

Clock::TimePoint ResidentEngine::last_used() const {
  std::lock_guard lock(mutex_);
  return last_used_;
}

std::optional<Clock::Duration> ResidentEngine::stays_for() const {
  std::lock_guard lock(mutex_);
  return stays_for_;
}

void ResidentEngine::wake() {
  std::shared_ptr<Engine> engine;
  std::optional<Error> failure;
  try {
    engine = parts_.load();
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error(ErrorCode::internal, error.what());
  }
  std::vector<Refused> refused;
  {
    std::lock_guard lock(mutex_);
    last_used_ = clock_.now();
    to_be_loaded_since_.reset();
    if (!draining_) engine_ = std::move(engine);
    if (engine_) {
      refused = submit_pending();
    } else {
      const Error error =
          failure.value_or(Error(ErrorCode::unavailable, "the server is shutting down"));
      for (Pending& pending : std::exchange(pending_, {})) {
        refused.push_back({std::move(pending), error});
      }
    }
  }
  if (failure) log::error("{} could not be loaded: {}", parts_.info.name, failure->message());
  for (const auto& [pending, error] : refused) end(pending, FinishReason::failed, error);
}

void ResidentEngine::hold(bool is_held) {
  std::vector<Refused> refused;
  {
    std::lock_guard lock(mutex_);
    is_held_ = is_held && engine_;
    if (engine_ && !is_held_) refused = submit_pending();
  }
  for (const auto& [pending, error] : refused) end(pending, FinishReason::failed, error);
}

bool ResidentEngine::sleep() {
  std::shared_ptr<Engine> engine;
  {
    std::lock_guard lock(mutex_);
    if (!engine_ || !running_.empty()) return false;
    engine = std::exchange(engine_, nullptr);
    is_held_ = false;
    stays_for_.reset();  // or one client's wish to unload would hold for all who come later
    administrator_decided_ = false;
    // Its last step is counted once it says that it is idle.
    engine->drain(Clock::Duration::zero());
    add_totals(before_, engine->stats());
  }
  log::info("unloading {}", parts_.info.name);
  return true;
}

}  // namespace ridge::engine
