#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "backend/ascend/acl/abi.h"

namespace ridge::backend::ascend::twin_acl {

// Why an entry point or a task did not do what was asked.
struct Failure {
  abi::Status status;
  std::string message;
};

// A point in streams' work. `queued` and `reached` count its records: it is reached when the last
// one that was queued has run.
struct EventState {
  explicit EventState(bool keeps_time) : keeps_time(keeps_time) {}
  const bool keeps_time;
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t queued = 0, reached = 0;
  double microseconds = 0;         // the stream's clock at the last record
  std::optional<Failure> failure;  // of the stream before that
  int tasks = 0;                   // queued ones that name it
};

struct Task {
  // Returns how long the device would take, in microseconds. Throws Failure.
  std::function<double()> run;
  // Those of events, which run even where the stream has failed: others may wait for them.
  bool runs_after_failure = false;
};

// Work in order on a thread of its own. After a failure the rest is passed over, and the queue stays
// failed.
class StreamQueue {
 public:
  StreamQueue();
  // Runs what is queued.
  ~StreamQueue();

  void push(Task task);
  // False where the time is over before all is done; no deadline waits for ever.
  bool wait(std::optional<std::chrono::steady_clock::time_point> deadline);
  std::optional<Failure> failure();
  size_t pending();

  // Modelled time of what has run, in microseconds. Only for tasks of this queue.
  double clock_us = 0;

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool is_running_ = false, is_ending_ = false;
  std::optional<Failure> failure_;
  std::thread thread_;
};

}  // namespace ridge::backend::ascend::twin_acl
