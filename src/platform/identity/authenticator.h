#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "platform/digest.h"
#include "platform/identity/identity.h"
#include "platform/identity/principal.h"

namespace ridge::platform {

struct AuthenticatorOptions {
  // A key that any server or command revokes is refused here after at most this long.
  std::chrono::milliseconds revocation_delay{1'000};
  // While the database is away, keys that were known stay so for this long.
  std::chrono::milliseconds survives_without_database{30'000};
  std::size_t most_cached = 65'536;  // keys, unknown ones among them
};

// Says on whose behalf a request comes. What the database says of a key is kept until something
// changes; whether it did is asked once for each revocation_delay, not for each request. Called
// from any thread.
class Authenticator {
 public:
  Authenticator(Identity& identity, const Clock& clock, const AuthenticatorOptions& options = {},
                Identity::NowMs now_ms = Identity::wall_clock_ms);

  // Throws unauthenticated for a key that is missing, malformed, unknown, expired or revoked, and
  // permission_denied for a known one from an address that it does not allow; unavailable where
  // the database must be asked and is away. May wait for the database.
  std::shared_ptr<const Principal> authenticate(std::string_view key, std::string_view address);

  // As authenticate(), but null where the database would have to be asked.
  std::shared_ptr<const Principal> authenticate_from_cache(std::string_view key,
                                                           std::string_view address);

 private:
  bool is_fresh() const;
  void refresh();
  std::shared_ptr<const Principal> look_up(const Digest& hash);
  void check(const Principal* principal, std::string_view address) const;

  Identity& identity_;
  const Clock& clock_;
  const AuthenticatorOptions options_;
  const Identity::NowMs now_ms_;

  std::mutex refresh_mutex_;  // one asks, the others wait for what it learns
  mutable std::shared_mutex mutex_;
  int64_t revision_ = -1;
  Clock::TimePoint asked_at_{};  // successfully
  Clock::TimePoint tried_at_{};
  std::map<Digest, std::shared_ptr<const Principal>> principals_;  // null: no such key
};

}  // namespace ridge::platform
