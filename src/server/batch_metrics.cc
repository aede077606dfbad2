#include "server/batch_metrics.h"

#include <algorithm>
#include <string>

namespace ridge::server {
namespace {

using platform::BatchStatus;
using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::Labels;

constexpr BatchStatus open_statuses[] = {BatchStatus::validating, BatchStatus::in_progress,
                                         BatchStatus::finalizing, BatchStatus::cancelling};
constexpr BatchStatus last_statuses[] = {BatchStatus::completed, BatchStatus::failed,
                                         BatchStatus::expired, BatchStatus::cancelled};

Labels labels_of(BatchStatus status) { return {{"status", std::string(platform::name(status))}}; }
Labels labels_of(bool is_answered) { return {{"result", is_answered ? "completed" : "failed"}}; }

}  // namespace

BatchMetrics::BatchMetrics()
    : jobs_(BuildGauge()
                .Name("ridge:batch_jobs")
                .Help("Batches that this server runs and that have not ended, by status.")
                .Register(registry_)),
      running_(BuildGauge()
                   .Name("ridge:batch_requests_running")
                   .Help("Requests of batches that are being answered.")
                   .Register(registry_)
                   .Add({})),
      waiting_(BuildGauge()
                   .Name("ridge:batch_requests_waiting")
                   .Help("Requests of batches that wait for idle time or for a limit.")
                   .Register(registry_)
                   .Add({})),
      ended_(BuildCounter()
                 .Name("ridge:batch_jobs_total")
                 .Help("Batches that have ended here, by status.")
                 .Register(registry_)),
      requests_(BuildCounter()
                    .Name("ridge:batch_requests_total")
                    .Help("Requests of batches that have a result, by the file that has it: "
                          "completed (output) or failed (errors).")
                    .Register(registry_)) {
  // So that a rate is known from the first one on.
  set({});
  for (const BatchStatus status : last_statuses) ended_.Add(labels_of(status));
  for (const bool is_answered : {true, false}) requests_.Add(labels_of(is_answered));
}

void BatchMetrics::set(const State& state) {
  for (const BatchStatus status : open_statuses) {
    jobs_.Add(labels_of(status))
        .Set(static_cast<double>(std::ranges::count(state.jobs, status)));
  }
  running_.Set(static_cast<double>(state.running));
  waiting_.Set(static_cast<double>(state.waiting));
}

void BatchMetrics::count_job(BatchStatus status) { ended_.Add(labels_of(status)).Increment(); }

void BatchMetrics::count_request(bool is_answered) {
  requests_.Add(labels_of(is_answered)).Increment();
}

}  // namespace ridge::server
