#include "base/thread_team.h"

#include "base/cpu_count.h"
#include "base/error.h"

namespace ridge {

namespace {

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

// Spinning pays only where each member has a core of its own.
ThreadTeam::ThreadTeam(int threads)
    : size_(threads), spins_(threads <= available_cpus() ? 20000 : 50) {
  RIDGE_ASSERT(threads >= 1 && threads <= 1024);
  members_.reserve(threads - 1);
  for (int member = 1; member < threads; ++member) {
    members_.emplace_back([this, member] { work(member); });
  }
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
}

void ThreadTeam::run(const std::function<void(int)>& task) {
  task_ = &task;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  task(0);
  barrier();
}

void ThreadTeam::barrier() {
  if (size_ == 1) return;
  const uint32_t generation = barrier_generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    arrived_.store(0, std::memory_order_relaxed);
    barrier_generation_.fetch_add(1, std::memory_order_release);
    barrier_generation_.notify_all();
  } else {
    wait_for_change(barrier_generation_, generation);
  }
}

void ThreadTeam::wait_for_change(std::atomic<uint32_t>& word, uint32_t old) const {
  for (int spin = 0; spin < spins_; ++spin) {
    if (word.load(std::memory_order_acquire) != old) return;
    cpu_relax();
  }
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

void ThreadTeam::work(int member) {
  uint32_t seen = 0;
  while (true) {
    wait_for_change(generation_, seen);
    ++seen;
    if (stopping_) return;
    (*task_)(member);
    barrier();
  }
}

}  // namespace ridge
