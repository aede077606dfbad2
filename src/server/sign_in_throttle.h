#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"

namespace ridge::server {

struct ThrottleOptions {
  int free_of_name = 5;      // attempts at a name from an address before any has to wait
  int free_of_address = 30;  // attempts at all names together
  std::chrono::seconds first_wait{1};
  std::chrono::seconds longest_wait{300};
  std::chrono::minutes forgotten_after{15};  // of no attempt
  std::size_t most_entries = 16'384;         // those unused for longest go
};

// How often passwords may be tried. Each attempt beyond the free ones doubles the wait until the
// next, for its address and name together and for its address; nobody elsewhere is kept from a name
// by it. An attempt counts before it is made, so that many at once gain nothing, and a right one is
// then taken back. Called from any thread.
class SignInThrottle {
 public:
  explicit SignInThrottle(const Clock& clock, const ThrottleOptions& options = {});

  // Null where the attempt may be made, which it then is; else how long to wait.
  std::optional<std::chrono::milliseconds> begin(std::string_view address, std::string_view name);
  void succeeded(std::string_view address, std::string_view name);

  std::size_t entries() const;

 private:
  struct Entry {
    std::string key;
    int attempts = 0;
    Clock::TimePoint tried_at{}, next_at{};
  };
  using Entries = std::list<Entry>;

  Entry& entry(const std::string& key);
  void count(Entry& entry, int free) const;

  const Clock& clock_;
  const ThrottleOptions options_;
  mutable std::mutex mutex_;
  Entries used_;  // the latest first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
};

// Whose attempts count together: an IPv4 address, or the first 64 bits of an IPv6 address, which is
// what a household gets.
std::string throttled_address(std::string_view address);

}  // namespace ridge::server
