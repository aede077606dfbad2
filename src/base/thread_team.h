#pragma once

#include <atomic>
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

  // Binds each member to its processor, but for the caller, whose thread is not the team's: it
  // finds what the others leave. Returns whether the system allowed it.
  //   processors: [size()]
  bool pin(std::span<const int> processors);

  // Runs task(member) on all members, member in [0, size()); returns when all are done. The task
  // must not throw.
  void run(const std::function<void(int member)>& task);

  // Inside a task: returns when every member has arrived. What was written before is then visible
  // to all.
  void barrier();

 private:
  void work(int member);
  void wait_for_change(std::atomic<uint32_t>& word, uint32_t old) const;

  const int size_;
  const int spins_;
  const std::function<void(int)>* task_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> barrier_generation_{0};
  bool stopping_ = false;
  std::thread::id caller_;  // that has asked for short turns
  std::vector<std::jthread> members_;
};

}  // namespace ridge
