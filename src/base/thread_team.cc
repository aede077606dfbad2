#include "base/thread_team.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "base/cpu_count.h"
#include "base/error.h"

namespace ridge {

namespace {

void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Turns of 0.1 ms, the shortest there are: whoever asks for short ones may interrupt those with
// long ones when it wakes. Kernels before Linux 6.12 know no such wish and ignore it, and so do we
// where it is refused. Threads started from here have turns as usual. Source: sched_setattr(2),
// sched_attr::sched_runtime of SCHED_OTHER (Linux commit 857b158dc5e8).
void ask_for_short_turns() {
#if defined(__linux__)
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
  } attributes{};
  constexpr uint32_t ordinary = 0;          // SCHED_OTHER
  constexpr uint64_t reset_on_fork = 0x01;  // SCHED_FLAG_RESET_ON_FORK
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  if (attributes.policy != ordinary || attributes.nice < 0) return;  // somebody has chosen already
  attributes.size = sizeof attributes;
  attributes.flags |= reset_on_fork;
  attributes.runtime_ns = 100'000;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
#endif
}

}  // namespace

ThreadTeam::ThreadCounts::~ThreadCounts() {
  if (file_ >= 0) close(file_);
}

void ThreadTeam::ThreadCounts::open_own() {
  const int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  const int before = file_.exchange(file);
  if (before >= 0) close(before);
}

// "RUNNING WAITING TURNS", the first two in nanoseconds.
std::chrono::nanoseconds ThreadTeam::ThreadCounts::waited() const {
  char text[64] = {};
  const int file = file_;
  if (file < 0 || pread(file, text, sizeof text - 1, 0) <= 0) return {};
  long long running = 0, waiting = 0;
  if (std::sscanf(text, "%lld %lld", &running, &waiting) != 2) return {};
  return std::chrono::nanoseconds(waiting);
}

// Spinning pays only where each member has a core of its own.
ThreadTeam::ThreadTeam(int threads, bool may_spin)
    : size_(threads), spins_(may_spin && threads <= available_cpus() ? 20000 : 50) {
  RIDGE_ASSERT(threads >= 1 && threads <= 1024);
  members_ = std::make_unique<Member[]>(static_cast<size_t>(threads));
  threads_.reserve(threads - 1);
  for (int member = 1; member < threads; ++member) {
    threads_.emplace_back([this, member] { work(member); });
  }
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  for (int member = 1; member < size_; ++member) call(member);
}

void ThreadTeam::call(int member) {
  members_[member].calls.fetch_add(1, std::memory_order_release);
  members_[member].calls.notify_one();
}

bool ThreadTeam::pin(std::span<const int> processors) {
  RIDGE_ASSERT(static_cast<int>(processors.size()) == size_);
  bool allowed = true;
  for (int member = 1; member < size_; ++member) {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(processors[member], &mask);
    allowed &=
        pthread_setaffinity_np(threads_[member - 1].native_handle(), sizeof mask, &mask) == 0;
  }
  return allowed;
}

std::chrono::nanoseconds ThreadTeam::waited() const {
  std::chrono::nanoseconds sum{};
  for (int member = 0; member < size_; ++member) sum += members_[member].counts.waited();
  return sum;
}

void ThreadTeam::run(const std::function<void(int)>& task, int members) {
  RIDGE_ASSERT(members >= 1 && members <= size_);
  if (size_ > 1 && caller_ != std::this_thread::get_id()) {
    caller_ = std::this_thread::get_id();
    ask_for_short_turns();
    members_[0].counts.open_own();
  }
  task_ = &task;
  active_ = members;
  for (int member = 1; member < members; ++member) call(member);
  task(0);
  barrier();
}

void ThreadTeam::barrier() {
  // Once this member has arrived, the caller may have gone on to a task of other members.
  const auto active = static_cast<uint32_t>(active_);
  if (active == 1) return;
  const uint32_t generation = barrier_generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == active) {
    arrived_.store(0, std::memory_order_relaxed);
    barrier_generation_.fetch_add(1, std::memory_order_release);
    barrier_generation_.notify_all();
    return;
  }
  wait_for_change(barrier_generation_, generation);
}

void ThreadTeam::wait_for_change(std::atomic<uint32_t>& word, uint32_t old) const {
  for (int spin = 0; spin < spins_; ++spin) {
    if (word.load(std::memory_order_acquire) != old) return;
    cpu_relax();
  }
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

void ThreadTeam::work(int member) {
  ask_for_short_turns();
  members_[member].counts.open_own();
  uint32_t seen = 0;
  while (true) {
    wait_for_change(members_[member].calls, seen);
    ++seen;
    if (stopping_) return;
    (*task_)(member);
    barrier();
  }
}

}  // namespace ridge
