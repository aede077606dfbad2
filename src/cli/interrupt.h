#pragma once

namespace ridge::cli {

// While one lives, Ctrl-C asks to stop instead of ending the process; a second Ctrl-C before
// reset() ends it at once, so that a command that hangs can always be left. One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  // True once Ctrl-C was pressed; safe to call from any thread.
  static bool requested();
  // Forgets the press: the next Ctrl-C asks again.
  static void reset();
};

}  // namespace ridge::cli
