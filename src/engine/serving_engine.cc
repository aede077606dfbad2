#include "engine/serving_engine.h"

#include <fmt/format.h>

#include <utility>

#include "engine/request_check.h"
#include "text/tokenizer.h"

namespace ridge::engine {

ServingEngine::ServingEngine(Parts parts, const Clock& clock)
    : parts_(std::move(parts)),
      clock_(clock),
      loop_(*parts_.runner, parts_.tokenizer, clock, parts_.options, parts_.draft_runner.get()),
      stats_(loop_.stats()) {
  thread_ = std::thread([this] { serve(); });
}

ServingEngine::~ServingEngine() {
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
    cancel_all_ = true;
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

RequestId ServingEngine::submit(Request request, RequestListener listener) {
  check_request(request, loop_.vocab_size(), parts_.runner->limits().context_tokens);
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
    arrivals_.push_back({id, std::move(request), std::move(listener), clock_.now()});
    has_requests_ = true;
  }
  work_.notify_one();
  return id;
}

void ServingEngine::cancel(RequestId id) {
  {
    std::lock_guard lock(mutex_);
    if (!has_requests_) return;
    cancels_.push_back(id);
  }
  work_.notify_one();
}

EngineStats ServingEngine::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.waiting += static_cast<int>(arrivals_.size());
  return stats;
}

void ServingEngine::drain(Clock::Duration deadline) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto is_idle = [this] { return !has_requests_; };
  if (idle_.wait_for(lock, deadline, is_idle)) return;
  cancel_all_ = true;
  work_.notify_one();
  idle_.wait(lock, is_idle);
}

// False when the engine is stopping and has nothing left to end.
bool ServingEngine::wait_for_work(std::vector<Arrival>& arrivals, std::vector<RequestId>& cancels,
                                  bool& cancel_all) {
  std::unique_lock lock(mutex_);
  stats_ = loop_.stats();
  waiting_ = loop_.never_scheduled();
  for (const Arrival& arrival : arrivals_) ++waiting_[arrival.request.group];
  has_requests_ = loop_.has_work() || !arrivals_.empty();
  if (!has_requests_) idle_.notify_all();
  work_.wait(lock, [this] {
    return loop_.has_work() || !arrivals_.empty() || !cancels_.empty() || stopping_;
  });
  if (stopping_ && arrivals_.empty() && !loop_.has_work()) return false;
  arrivals = std::exchange(arrivals_, {});
  cancels = std::exchange(cancels_, {});
  cancel_all = std::exchange(cancel_all_, stopping_);
  stats_.waiting += static_cast<int>(arrivals.size());
  return true;
}

void ServingEngine::serve() {
  std::vector<Arrival> arrivals;
  std::vector<RequestId> cancels;
  bool cancel_all = false;
  while (wait_for_work(arrivals, cancels, cancel_all)) {
    for (Arrival& arrival : arrivals) {
      loop_.add(arrival.id, std::move(arrival.request), std::move(arrival.listener),
                arrival.submitted);
    }
    arrivals.clear();
    for (RequestId id : cancels) loop_.cancel(id);
    if (cancel_all) loop_.cancel_all();
    loop_.step();
  }
}

}  // namespace ridge::engine
