#include "backend/ascend/twin/acl/stream_queue.h"

#include <exception>
#include <utility>

namespace ridge::backend::ascend::twin_acl {

StreamQueue::StreamQueue() : thread_([this] { work(); }) {}

StreamQueue::~StreamQueue() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StreamQueue::push(Task task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
}

bool StreamQueue::wait(std::optional<std::chrono::steady_clock::time_point> deadline) {
  std::unique_lock lock(mutex_);
  const auto is_idle = [&] { return tasks_.empty() && !is_running_; };
  if (deadline) return changed_.wait_until(lock, *deadline, is_idle);
  changed_.wait(lock, is_idle);
  return true;
}

std::optional<Failure> StreamQueue::failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

size_t StreamQueue::pending() {
  const std::lock_guard lock(mutex_);
  return tasks_.size() + (is_running_ ? 1 : 0);
}

void StreamQueue::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return !tasks_.empty() || is_ending_; });
    if (tasks_.empty()) return;
    std::optional<Task> task(std::move(tasks_.front()));
    tasks_.pop_front();
    if (failure_ && !task->runs_after_failure) {
      task.reset();
      if (tasks_.empty()) changed_.notify_all();
      continue;
    }
    is_running_ = true;
    lock.unlock();
    std::optional<Failure> failure;
    try {
      clock_us += task->run();
    } catch (Failure& thrown) {
      failure = std::move(thrown);
    } catch (const std::exception& thrown) {
      failure = Failure{abi::status::internal_error, thrown.what()};
    }
    // What the task holds goes before anybody can see that it is done.
    task.reset();
    lock.lock();
    if (failure && !failure_) failure_ = std::move(failure);
    is_running_ = false;
    if (tasks_.empty()) changed_.notify_all();
  }
}

}  // namespace ridge::backend::ascend::twin_acl
