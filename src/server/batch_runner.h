#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "platform/batch/batches.h"
#include "platform/metering/server_slot.h"
#include "server/batch_line.h"
#include "server/batch_metrics.h"

namespace ridge::server {

struct Service;

// Runs batches while the server has nothing else to do, on a thread of its own; their lines are
// answered where requests are. (ADR 0032)
class BatchRunner {
 public:
  // Begins at once. `most_lines`: at once. The service must outlive it, and have a database and
  // files. Throws io where its place in the folder cannot be had.
  BatchRunner(Service& service, std::size_t most_lines);
  ~BatchRunner();
  BatchRunner(const BatchRunner&) = delete;
  BatchRunner& operator=(const BatchRunner&) = delete;

  // Begins nothing more, and waits for nothing that was begun. More than once is as good as once.
  void stop();

  // There is something new in the database.
  void wake();

  const BatchMetrics& metrics() const { return metrics_; }

 private:
  struct Job;
  using Time = std::chrono::steady_clock;

  void run();
  void tick();
  void claim();
  void take_outcomes();
  void take_outcome(Job& job, LineOutcome& outcome);
  void wait(Job& job, const LineOutcome& outcome);
  void advance(Job& job);
  void mark_results(Job& job);
  template <typename Work>
  bool for_job(Job& job, Work work);
  void validate(Job& job);
  void open(Job& job);
  bool check_rights(Job& job);
  bool is_idle() const;
  bool is_of_this_kind(const platform::Batch& batch) const;
  void begin_lines();
  bool begin_line(Job& job);
  void cut_off(Job& job);
  void finalize(Job& job);
  void end(Job& job, platform::BatchStatus status);
  void tell_metrics();
  void write_files(const platform::Batch& batch, const std::vector<platform::BatchMark>& marks,
                   platform::FileDraft& output, platform::FileDraft& errors,
                   const std::string& why);
  InputLines input_of(const platform::Batch& batch) const;

  Service& service_;
  platform::Batches& batches_;
  platform::Files& files_;
  const std::size_t most_lines_;
  const platform::ServerSlot slot_;
  BatchMetrics metrics_;

  // The thread's own.
  std::map<std::string, std::unique_ptr<Job>> jobs_;
  std::string last_job_;  // whose turn it was
  Time::time_point claim_at_{};
  std::size_t in_flight_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<std::string, LineOutcome>> outcomes_;  // with the ids of their batches
  bool is_woken_ = false, ends_ = false;
  std::thread thread_;
};

}  // namespace ridge::server
