#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace ridge::backend::ascend::twin {

// A thread of control with a stack of its own that runs only while someone resumes it.
class Fibre {
 public:
  explicit Fibre(std::function<void()> body);  // `body` may not throw
  ~Fibre();  // the body must have ended, or never begun
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // Runs the body until it suspends or ends.
  void resume();
  // Called in the body: goes back to who resumed it.
  void suspend();
  bool ended() const { return ended_; }

 private:
  static void enter(unsigned low, unsigned high);

  std::function<void()> body_;
  std::byte* stack_;
  ucontext_t own_{};
  ucontext_t resumer_{};
  bool ended_ = false;
  // What AddressSanitizer wants to know of the two stacks.
  void* own_fake_stack_ = nullptr;
  void* resumer_fake_stack_ = nullptr;
  const void* resumer_stack_ = nullptr;
  size_t resumer_stack_bytes_ = 0;
};

}  // namespace ridge::backend::ascend::twin
