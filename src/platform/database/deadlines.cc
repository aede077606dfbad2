#include "platform/database/deadlines.h"

#include <sys/socket.h>

#include <utility>

namespace ridge::platform {

using Time = std::chrono::steady_clock;

Deadlines::Watch::Watch(Deadlines& deadlines, int socket, std::chrono::milliseconds most)
    : deadlines_(deadlines) {
  const std::lock_guard lock(deadlines.mutex_);
  entry_ = deadlines.sockets_.emplace(Time::now() + most, socket);
  if (!deadlines.thread_.joinable()) {
    deadlines.thread_ = std::thread([&deadlines] { deadlines.run(); });
  }
  // Most come behind those that wait already, whose end wakes the thread early enough.
  if (entry_ == deadlines.sockets_.begin()) deadlines.changed_.notify_one();
}

Deadlines::Watch::~Watch() {
  const std::lock_guard lock(deadlines_.mutex_);
  deadlines_.sockets_.erase(entry_);
}

bool Deadlines::Watch::has_passed() const {
  const std::lock_guard lock(deadlines_.mutex_);
  return entry_->second == shut;
}

Deadlines::~Deadlines() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Deadlines::run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    auto next = sockets_.begin();
    while (next != sockets_.end() && next->second == shut) ++next;
    if (next == sockets_.end()) {
      changed_.wait(lock);
    } else if (next->first > Time::now()) {
      changed_.wait_until(lock, Time::time_point(next->first));
    } else {
      ::shutdown(std::exchange(next->second, shut), SHUT_RDWR);
    }
  }
}

}  // namespace ridge::platform
