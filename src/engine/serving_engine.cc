#include "engine/serving_engine.h"

#include <fmt/format.h>

#include <utility>

#include "engine/request_check.h"
#include "text/tokenizer.h"

namespace ridge::engine {

namespace {

StepLoopOptions with_masks(StepLoopOptions options, MaskPool& masks) {
  options.masks = &masks;
  return options;
}

}  // namespace

ServingEngine::ServingEngine(Parts parts, const Clock& clock)
    : parts_(std::move(parts)),
      clock_(clock),
      loop_(*parts_.runner, parts_.tokenizer, clock, with_masks(parts_.options, masks_),
            parts_.draft_runner.get()),
      stats_(loop_.stats()) {
  thread_ = std::thread([this] { serve(); });
}

ServingEngine::~ServingEngine() {
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
    orders_.cancel_all = true;
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

RequestId ServingEngine::submit(Request request, RequestListener listener) {
  check_request(request, loop_.vocab_size(), parts_.runner->limits().context_tokens,
                parts_.info.adapters.size());
  RequestId id;
  {
    std::lock_guard lock(mutex_);
    if (draining_) {
      throw Error(ErrorCode::unavailable, "the server is shutting down and takes no more requests");
    }
    if (!may_wait(waiting_, request.group, parts_.max_queued)) {
      throw Error(ErrorCode::queue_full,
                  fmt::format("{} requests are waiting already, which is the most that this server "
                              "queues; try again later",
                              total(waiting_)));
    }
    id = RequestId{next_id_++};
    ++waiting_[request.group];
    const Clock::TimePoint submitted = request.submitted.value_or(clock_.now());
    orders_.arrivals.push_back({id, std::move(request), std::move(listener), submitted});
    has_requests_ = true;
  }
  work_.notify_one();
  return id;
}

void ServingEngine::cancel(RequestId id) {
  {
    std::lock_guard lock(mutex_);
    if (!has_requests_) return;
    orders_.cancels.push_back(id);
  }
  work_.notify_one();
}

void ServingEngine::end_thinking(RequestId id) {
  std::lock_guard lock(mutex_);
  if (has_requests_) orders_.thinking_ends.push_back(id);
}

EngineStats ServingEngine::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  if (parts_.expert_counters) {
    const backend::ExpertCounters experts = parts_.expert_counters();
    stats.expert_held_bytes = experts.held_bytes;
    stats.expert_hits_total = experts.hits;
    stats.expert_misses_total = experts.misses;
    stats.expert_read_bytes_total = experts.read_bytes;
  }
  for (const Arrival& arrival : orders_.arrivals) stats.add_waiting(arrival.request);
  return stats;
}

WaitingCounts ServingEngine::waiting() const {
  std::lock_guard lock(mutex_);
  return waiting_;
}

void ServingEngine::drain(Clock::Duration deadline) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto is_idle = [this] { return !has_requests_; };
  if (idle_.wait_for(lock, deadline, is_idle)) return;
  orders_.cancel_all = true;
  work_.notify_one();
  idle_.wait(lock, is_idle);
}

// False when the engine is stopping and has nothing left to end.
bool ServingEngine::wait_for_work(Orders& orders) {
  std::unique_lock lock(mutex_);
  stats_ = loop_.stats();
  waiting_ = loop_.never_scheduled();
  for (const Arrival& arrival : orders_.arrivals) ++waiting_[arrival.request.group];
  has_requests_ = loop_.has_work() || !orders_.arrivals.empty();
  if (!has_requests_) idle_.notify_all();
  work_.wait(lock, [this] {
    return loop_.has_work() || !orders_.arrivals.empty() || !orders_.cancels.empty() || stopping_;
  });
  if (stopping_ && orders_.arrivals.empty() && !loop_.has_work()) return false;
  orders = std::exchange(orders_, {});
  orders.cancel_all |= stopping_;
  orders_.cancel_all = stopping_;
  for (const Arrival& arrival : orders.arrivals) stats_.add_waiting(arrival.request);
  return true;
}

void ServingEngine::serve() {
  Orders orders;
  while (wait_for_work(orders)) {
    for (Arrival& arrival : orders.arrivals) {
      loop_.add(arrival.id, std::move(arrival.request), std::move(arrival.listener),
                arrival.submitted);
    }
    for (RequestId id : orders.cancels) loop_.cancel(id);
    if (orders.cancel_all) loop_.cancel_all();
    for (RequestId id : orders.thinking_ends) loop_.end_thinking(id);
    loop_.step();
  }
}

}  // namespace ridge::engine
