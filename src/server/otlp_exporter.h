#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/request_record.h"
#include "platform/retries.h"

namespace ridge::server {

struct OtlpOptions {
  std::string url;  // of a collector's OTLP/HTTP; without a path, /v1/traces is meant
  std::size_t max_waiting = 2048;             // requests; more are dropped
  std::size_t max_batch = 128;                // requests that are sent at once
  std::chrono::milliseconds delay{1'000};     // that a request may wait for others
  std::chrono::milliseconds farewell{2'000};  // for what is left at the end
  // For one batch; at the end there is no time for another attempt.
  platform::RetryPolicy retry = {.attempts = 4, .longest_pause = std::chrono::seconds(30)};
};

// Sends ended requests to a collector of traces, on a thread of its own: whoever pushes one waits
// for nothing. Where the collector is slow or away, requests are dropped and counted.
class OtlpExporter {
 public:
  // Throws invalid_argument for what is no http or https URL.
  explicit OtlpExporter(OtlpOptions options);
  // Sends what is left, for as long as `farewell`.
  ~OtlpExporter();
  OtlpExporter(const OtlpExporter&) = delete;
  OtlpExporter& operator=(const OtlpExporter&) = delete;

  void push(std::shared_ptr<const api::RequestRecord> record);

  struct Counts {
    uint64_t exported = 0;
    uint64_t dropped = 0;         // there was no room for them
    uint64_t failed = 0;          // the collector did not take them
    uint64_t rejected_spans = 0;  // of those exported, that it says it did not keep
  };
  Counts counts() const;

 private:
  using Batch = std::vector<std::shared_ptr<const api::RequestRecord>>;

  void serve();
  bool wait_for_batch(Batch& batch);
  void send(const Batch& batch);
  std::string post(const Batch& batch);
  void note_rejection(std::string_view answer);
  bool is_stopping() const;
  bool is_over() const;

  const OtlpOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Batch waiting_;
  Counts counts_;
  bool failing_ = false;  // since the last batch: a collector that is away is logged once
  std::chrono::steady_clock::time_point rejection_told_at_;
  bool stopping_ = false;
  std::chrono::steady_clock::time_point over_at_ = std::chrono::steady_clock::time_point::max();
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace ridge::server
