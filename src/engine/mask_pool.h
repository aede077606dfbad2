#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ridge::engine {

// A grammar's masks that are computed while the step goes on; see MaskPool.
class MaskJob {
 public:
  explicit MaskJob(std::function<void()> work) : work_(std::move(work)) {}

  // On the pool's thread, once.
  void run() noexcept;
  bool is_done() const { return is_done_.load(std::memory_order_acquire); }
  // Of one that is done: throws what its work threw.
  void check() const;

 private:
  std::function<void()> work_;
  std::exception_ptr failure_;
  std::atomic<bool> is_done_ = false;
};

// Where masks are computed, so that those of a hard grammar stall nobody's step.
class MaskPool {
 public:
  virtual ~MaskPool() = default;
  // Returns at once. Groups take turns.
  virtual void start(const std::string& group, std::shared_ptr<MaskJob> job) = 0;
  // Blocks until `holds`, which is asked again after each job, or for `most`.
  virtual void wait(std::chrono::nanoseconds most, const std::function<bool()>& holds) = 0;
};

// Two threads, of which no group ever holds both. A choice of an answer has at most one job here,
// so that there are never more than a step has rows.
class MaskThreads final : public MaskPool {
 public:
  MaskThreads();
  // What has not begun is left undone.
  ~MaskThreads() override;
  MaskThreads(const MaskThreads&) = delete;
  MaskThreads& operator=(const MaskThreads&) = delete;

  void start(const std::string& group, std::shared_ptr<MaskJob> job) override;
  void wait(std::chrono::nanoseconds most, const std::function<bool()>& holds) override;

 private:
  struct Group {
    std::deque<std::shared_ptr<MaskJob>> waiting;
    int running = 0;
    uint64_t last_turn = 0;
  };

  void run();
  std::map<std::string, Group>::iterator next();

  static constexpr int most_threads = 2;

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::map<std::string, Group> groups_;  // with jobs
  uint64_t turns_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // begun with the first job
};

}  // namespace ridge::engine
