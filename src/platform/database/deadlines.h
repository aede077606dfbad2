#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace ridge::platform {

// Ends connections on which nothing has come for too long. libpq itself waits for ever for a server
// that is stopped, or whose disk hangs, while its machine answers. Any thread.
class Deadlines {
  using Sockets = std::multimap<std::chrono::steady_clock::time_point, int>;

 public:
  // Watches a socket as long as it lives; then the socket must still be open.
  class Watch {
   public:
    Watch(Deadlines& deadlines, int socket, std::chrono::milliseconds most);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    // Whether the socket was shut down.
    bool has_passed() const;

   private:
    Deadlines& deadlines_;
    Sockets::iterator entry_;
  };

  Deadlines() = default;
  ~Deadlines();
  Deadlines(const Deadlines&) = delete;
  Deadlines& operator=(const Deadlines&) = delete;

 private:
  static constexpr int shut = -1;  // in place of a socket

  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  Sockets sockets_;
  bool ends_ = false;
  std::thread thread_;  // from the first watch on
};

}  // namespace ridge::platform
