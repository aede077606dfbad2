#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>

namespace ridge {

// Waits until `what` is true, which another thread or program makes so; false where it never is. A
// minute is for a slow machine.
inline bool comes_true(const std::function<bool()>& what) {
  for (int tries = 0; tries < 6000; ++tries) {
    if (what()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min(tries, 10)));
  }
  return false;
}

}  // namespace ridge
