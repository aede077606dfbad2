#include "server/sign_in_throttle.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "platform/digest.h"

namespace ridge::server {

std::string throttled_address(std::string_view text) {
  boost::system::error_code failure;
  const auto address = boost::asio::ip::make_address(std::string(text), failure);
  if (failure || address.is_v4()) return std::string(text);
  auto bytes = address.to_v6().to_bytes();
  if (address.to_v6().is_v4_mapped()) {
    return make_address_v4(boost::asio::ip::v4_mapped, address.to_v6()).to_string();
  }
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  return boost::asio::ip::address_v6(bytes).to_string();
}

SignInThrottle::SignInThrottle(const Clock& clock, const ThrottleOptions& options)
    : clock_(clock), options_(options) {}

std::optional<std::chrono::milliseconds> SignInThrottle::begin(std::string_view address,
                                                               std::string_view name) {
  const std::string from = throttled_address(address);
  // Of a fixed size, however long the name is.
  const std::string both = platform::Digest::of(from + '\n' + std::string(name)).to_string();
  const std::lock_guard lock(mutex_);
  Entry& of_address = entry(from);
  Entry& of_name = entry(both);
  const Clock::Duration wait = std::max(of_address.next_at, of_name.next_at) - clock_.now();
  if (wait > Clock::Duration::zero()) {
    return std::chrono::ceil<std::chrono::milliseconds>(wait);
  }
  count(of_address, options_.free_of_address);
  count(of_name, options_.free_of_name);
  return std::nullopt;
}

void SignInThrottle::succeeded(std::string_view address, std::string_view name) {
  const std::string from = throttled_address(address);
  const std::string both = platform::Digest::of(from + '\n' + std::string(name)).to_string();
  const std::lock_guard lock(mutex_);
  Entry& of_address = entry(from);
  of_address.attempts = std::max(0, of_address.attempts - 1);
  of_address.next_at = {};
  Entry& of_name = entry(both);
  of_name.attempts = 0;
  of_name.next_at = {};
}

std::size_t SignInThrottle::entries() const {
  const std::lock_guard lock(mutex_);
  return used_.size();
}

SignInThrottle::Entry& SignInThrottle::entry(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found != by_key_.end()) {
    used_.splice(used_.begin(), used_, found->second);
  } else {
    if (used_.size() >= options_.most_entries) {
      by_key_.erase(used_.back().key);
      used_.pop_back();
    }
    used_.push_front({.key = key});
    by_key_.emplace(used_.front().key, used_.begin());
  }
  Entry& entry = used_.front();
  if (clock_.now() - entry.tried_at >= options_.forgotten_after) {
    entry.attempts = 0;
    entry.next_at = {};
  }
  return entry;
}

void SignInThrottle::count(Entry& entry, int free) const {
  constexpr int most_doublings = 20;
  ++entry.attempts;
  entry.tried_at = clock_.now();
  const int doublings = entry.attempts - free;
  if (doublings < 0) return;
  const auto wait = options_.first_wait * (int64_t{1} << std::min(doublings, most_doublings));
  entry.next_at = entry.tried_at + std::min(wait, options_.longest_wait);
}

}  // namespace ridge::server
