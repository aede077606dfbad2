#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace ridge {

// A persistent team that runs one task on every member at once, the caller being member 0. One
// caller at a time.
//
// Members spin briefly for the next task and at barriers, and then sleep in a futex. They ask the
// kernel for short turns: where others take the processors too, one that wakes need not wait for
// the end of somebody's long turn while the whole team waits for it.
class ThreadTeam {
 public:
  // threads: 1 to 1024, the caller included. Without `may_spin`, members sleep soon: for who shares
  // the processors with others, whose time spinning would take.
  explicit ThreadTeam(int threads, bool may_spin = true);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  // How long the members, and the caller since its first task, have waited for a processor while they had work, all
  // together; zero where the system does not tell (proc_pid_schedstat(5)).
  std::chrono::nanoseconds waited() const;

  // Binds each member to its processor, but for the caller, whose thread is not the team's: it
  // finds what the others leave. Returns whether the system allowed it.
  //   processors: [size()]
  bool pin(std::span<const int> processors);

  // Runs task(member) on all members, member in [0, size()), or on the first `members` of them, while the others
  // sleep on; returns when all are done. The task must not throw.
  void run(const std::function<void(int member)>& task) { run(task, size_); }
  void run(const std::function<void(int member)>& task, int members);

  // Inside a task: returns when every member that it runs on has arrived. What was written before is then
  // visible to all.
  void barrier();

 private:
  // The kernel's counts of one thread: a file, open from when the thread has begun.
  class ThreadCounts {
   public:
    ThreadCounts() = default;
    ~ThreadCounts();
    ThreadCounts(const ThreadCounts&) = delete;
    ThreadCounts& operator=(const ThreadCounts&) = delete;
    void open_own();  // of the thread that calls
    std::chrono::nanoseconds waited() const;

   private:
    std::atomic<int> file_{-1};
  };
  struct alignas(64) Member {
    ThreadCounts counts;
    // Not where a line begins, as barrier_generation_ does: the standard library counts who sleeps on words
    // alike in their last bits together, and would ask the kernel to wake nobody at every barrier.
    std::atomic<uint32_t> calls{0};
  };

  void call(int member);
  void work(int member);
  void wait_for_change(std::atomic<uint32_t>& word, uint32_t old) const;

  const int size_;
  const int spins_;
  const std::function<void(int)>* task_ = nullptr;
  int active_ = 0;  // members that the task runs on
  std::unique_ptr<Member[]> members_;  // [size]
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> barrier_generation_{0};
  bool stopping_ = false;
  std::thread::id caller_;  // that has asked for short turns
  std::vector<std::jthread> threads_;  // of members 1 to size - 1
};

}  // namespace ridge
