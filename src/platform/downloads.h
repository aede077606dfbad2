#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "platform/pull.h"

namespace ridge::platform {

enum class DownloadState {
  waiting,  // for others that run
  running,
  finished,
  failed,
  cancelled,
};
std::string_view name(DownloadState state);

// A model that is or was fetched in the background. Times are milliseconds since 1970.
struct DownloadStatus {
  std::string id;     // "dl_..."
  std::string model;  // as it was asked for
  std::string name;   // as the store has it, once it is there
  DownloadState state = DownloadState::waiting;
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;  // 0 where it is not known yet
  std::string note;         // what happens meanwhile, as a retry: one line for a person
  std::string error;        // why it failed
  int64_t started_at_ms = 0;
  int64_t ended_at_ms = 0;  // 0 while it has not

  bool has_ended() const {
    return state != DownloadState::waiting && state != DownloadState::running;
  }
};

// Fetches models one after the other on a thread of its own, whoever looks on. One that was
// cancelled, or that a stop of the program cut off, goes on from where it was when it is asked for
// again. Called from any thread.
class Downloads {
 public:
  using Pull = std::function<PullResult(const ModelReference&, const DownloadOptions&)>;
  // Called on the thread of the downloads once a model is in the store.
  using OnPulled = std::function<void(const Manifest&)>;

  static constexpr std::size_t most_waiting = 32;
  static constexpr std::size_t most_kept = 64;  // that have ended

  explicit Downloads(Pull pull, OnPulled on_pulled = {});
  // Cancels what runs.
  ~Downloads();
  Downloads(const Downloads&) = delete;
  Downloads& operator=(const Downloads&) = delete;

  // What can be fetched. Throws invalid_argument where `model` is no reference, or a path.
  static ModelReference check(const std::string& model);
  // One that waits or runs for the same model is returned as it is. Throws as check(), and
  // queue_full where too many wait.
  DownloadStatus start(const std::string& model);
  std::vector<DownloadStatus> list() const;  // the newest first
  // Throws not_found.
  DownloadStatus find(std::string_view id) const;
  // Without effect on one that has ended. What was fetched stays, for another try. Throws
  // not_found. The state is `cancelled` at once.
  DownloadStatus cancel(std::string_view id);

 private:
  struct Job {
    DownloadStatus status;
    std::map<std::string, std::pair<int64_t, int64_t>> files;  // bytes done and in total
    std::atomic<bool> is_cancelled{false};
  };
  using JobPtr = std::shared_ptr<Job>;

  JobPtr job_locked(std::string_view id) const;
  void run();
  void fetch(const JobPtr& job);
  void end(Job& job, DownloadState state, const std::string& error);
  void drop_old_locked();

  const Pull pull_;
  const OnPulled on_pulled_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<JobPtr> jobs_;  // in the order of their start
  std::shared_ptr<Job> running_;
  bool ends_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace ridge::platform
