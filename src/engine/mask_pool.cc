#include "engine/mask_pool.h"

#include <tuple>
#include <utility>

namespace ridge::engine {

void MaskJob::run() noexcept {
  try {
    work_();
  } catch (...) {
    failure_ = std::current_exception();
  }
  work_ = nullptr;
  is_done_.store(true, std::memory_order_release);
}

void MaskJob::check() const {
  if (failure_) std::rethrow_exception(failure_);
}

MaskThreads::MaskThreads() = default;

MaskThreads::~MaskThreads() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void MaskThreads::start(const std::string& group, std::shared_ptr<MaskJob> job) {
  {
    std::lock_guard lock(mutex_);
    // Most servers never see a grammar.
    while (threads_.size() < most_threads) threads_.emplace_back([this] { run(); });
    groups_[group].waiting.push_back(std::move(job));
  }
  work_.notify_one();
}

void MaskThreads::wait(std::chrono::nanoseconds most, const std::function<bool()>& holds) {
  std::unique_lock lock(mutex_);
  done_.wait_for(lock, most, holds);
}

// Whose turn it is: the group with the fewest jobs under way, and of those the one that waits
// longest. The last free thread is for a group that has none.
std::map<std::string, MaskThreads::Group>::iterator MaskThreads::next() {
  auto best = groups_.end();
  for (auto each = groups_.begin(); each != groups_.end(); ++each) {
    const Group& group = each->second;
    if (group.waiting.empty() || group.running >= most_threads - 1) continue;
    if (best == groups_.end() || std::tuple(group.running, group.last_turn) <
                                     std::tuple(best->second.running, best->second.last_turn)) {
      best = each;
    }
  }
  return best;
}

void MaskThreads::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    auto turn = groups_.end();
    work_.wait(lock, [&] {
      turn = next();
      return stopping_ || turn != groups_.end();
    });
    if (stopping_) return;
    Group& group = turn->second;
    const std::shared_ptr<MaskJob> job = std::move(group.waiting.front());
    group.waiting.pop_front();
    ++group.running;
    group.last_turn = ++turns_;
    lock.unlock();
    job->run();
    lock.lock();
    --group.running;
    if (group.waiting.empty() && group.running == 0) groups_.erase(turn);
    done_.notify_all();
    work_.notify_one();
  }
}

}  // namespace ridge::engine
