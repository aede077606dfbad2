#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "platform/batch/batches.h"

namespace ridge::server {

// The batches that this server runs, and what has become of them since it started. Any thread.
class BatchMetrics {
 public:
  BatchMetrics();

  // As of now.
  struct State {
    std::vector<platform::BatchStatus> jobs;  // that have not ended
    int64_t waiting = 0;                      // of their requests; those that run are not among them
    std::size_t running = 0;
  };
  void set(const State& state);
  void count_job(platform::BatchStatus status);  // that has ended so
  void count_request(bool is_answered);          // or refused

  std::vector<prometheus::MetricFamily> collect() const { return registry_.Collect(); }

 private:
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Gauge>& jobs_;
  prometheus::Gauge &running_, &waiting_;
  prometheus::Family<prometheus::Counter>&ended_, &requests_;
};

}  // namespace ridge::server
