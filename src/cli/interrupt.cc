#include "cli/interrupt.h"

#include <signal.h>

#include <atomic>

namespace ridge::cli {
namespace {

// A signal handler reaches nothing but a lock-free global.
std::atomic<int> presses{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_interrupt(int number) {
  if (presses.fetch_add(1) == 0) return;
  signal(number, SIG_DFL);
  raise(number);
}

}  // namespace

InterruptScope::InterruptScope() {
  reset();
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: a blocked read returns, and the caller looks
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
}

InterruptScope::~InterruptScope() { signal(SIGINT, SIG_DFL); }

bool InterruptScope::requested() { return presses.load() > 0; }

void InterruptScope::reset() { presses.store(0); }

}  // namespace ridge::cli
