#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "platform/http_client.h"

namespace ridge::platform {

struct RetryPolicy {
  int attempts = 6;                                 // one after the other, 1 to 100
  std::chrono::milliseconds first_pause{500};       // doubled after each failure
  std::chrono::milliseconds longest_pause{60'000};  // a server that asks for more is given up
};

// Whether and when to ask a server again after it failed: after pauses that double, or after what
// it asked for with Retry-After.
class Retries {
 public:
  // `is_cancelled`, where given, is asked a few times a second; `on_note` gets one line for a
  // person before each pause.
  explicit Retries(const RetryPolicy& policy, std::function<bool()> is_cancelled = {},
                   std::function<void(std::string_view)> on_note = {});

  // Only while `error` is handled: throws it on where no other attempt would help or may be made,
  // else says so to on_note and waits. Throws cancelled.
  void wait_after(const HttpError& error);
  // Something came in spite of the failure: attempts are counted anew.
  void reset() { failures_ = 0; }

 private:
  std::chrono::milliseconds pause_after(const HttpError& error) const;

  const RetryPolicy policy_;
  const std::function<bool()> is_cancelled_;
  const std::function<void(std::string_view)> on_note_;
  int failures_ = 0;  // one after the other
};

// Sleeps, and throws cancelled as soon as `is_cancelled`, where given, says so.
void wait(std::chrono::milliseconds time, const std::function<bool()>& is_cancelled);

// Calls `ask` until it does not fail. Throws what its last attempt threw.
template <typename Ask>
auto with_retries(Retries retries, Ask ask) {
  while (true) {
    try {
      return ask();
    } catch (const HttpError& error) {
      retries.wait_after(error);
    }
  }
}

}  // namespace ridge::platform
