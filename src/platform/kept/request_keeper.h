#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "platform/kept/kept_requests.h"

namespace ridge::platform {

struct RequestKeeperOptions {
  // What may wait for the database; beyond it, requests are dropped.
  std::size_t most_waiting = 1'000, most_waiting_bytes = 64u << 20;
  // In one transaction, and at least one: while it is written, nobody else writes.
  std::size_t most_bytes_at_once = 1u << 20;
  // What comes meanwhile is written together, so that answers that end seldom meet a writer.
  std::chrono::milliseconds gathers_for{250};
  std::chrono::milliseconds retries_after{1'000};                    // while the database is away
  std::chrono::milliseconds looks_after = std::chrono::minutes(10);  // for what is too old
};

// Writes what is to be kept of requests on a thread of its own, so that no answer waits for it, and
// takes away what is too old. Servers that share a database each have one.
class RequestKeeper {
 public:
  struct Counts {
    int64_t kept = 0;
    int64_t dropped = 0;  // for want of room, or because the database would not take them
  };

  // The requests outlive this.
  explicit RequestKeeper(KeptRequests requests, const RequestKeeperOptions& options = {});
  // Writes what waits, if the database takes it at once.
  ~RequestKeeper();
  RequestKeeper(const RequestKeeper&) = delete;
  RequestKeeper& operator=(const RequestKeeper&) = delete;

  // Returns at once. Any thread.
  void keep(KeptRequest request);
  Counts counts() const;
  // Until nothing waits. For tests.
  void wait_idle();

 private:
  using Requests = std::vector<KeptRequest>;

  void run(const std::stop_token& stop);
  void run_looks(const std::stop_token& stop);
  Requests take_some();
  bool write(const Requests& some);  // false: the database is away
  void put_back(Requests&& some);
  void note_dropped(int64_t requests);

  KeptRequests requests_;
  const RequestKeeperOptions options_;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<KeptRequest> waiting_;
  std::size_t waiting_bytes_ = 0;
  bool is_working_ = false;
  Counts counts_;
  int64_t untold_ = 0;  // dropped, and not in the log yet
  std::chrono::steady_clock::time_point tells_at_{};

  std::mutex looks_mutex_;
  std::condition_variable_any looks_;
  std::jthread looker_, writer_;  // last, as they use the others
};

}  // namespace ridge::platform
