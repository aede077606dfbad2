#pragma once

#include <chrono>

#include "platform/download.h"
#include "platform/http_client.h"

namespace ridge::platform {

// Whether and when to ask a server again after it failed: after pauses that double, or after what
// it asked for with Retry-After.
class Retries {
 public:
  explicit Retries(const DownloadOptions& options) : options_(options) {}

  // Only while `error` is handled: throws it on where no other attempt would help or may be made,
  // else says so to on_note and waits. Throws cancelled.
  void wait_after(const HttpError& error);
  // Something came in spite of the failure: attempts are counted anew.
  void reset() { failures_ = 0; }

 private:
  std::chrono::milliseconds pause_after(const HttpError& error) const;

  const DownloadOptions& options_;
  int failures_ = 0;  // one after the other
};

// Calls `ask` until it does not fail. Throws what its last attempt threw.
template <typename Ask>
auto with_retries(const DownloadOptions& options, Ask ask) {
  Retries retries(options);
  while (true) {
    try {
      return ask();
    } catch (const HttpError& error) {
      retries.wait_after(error);
    }
  }
}

}  // namespace ridge::platform
