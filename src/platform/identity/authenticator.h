#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>

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
  // While it does not answer, nobody with a known key waits for longer than this.
  std::chrono::milliseconds most_wait{1'000};
  std::size_t most_cached = 65'536;           // keys
  std::size_t most_strangers_cached = 4'096;  // that no project has; they displace no other keys
};

// Says on whose behalf a request comes. What the database says of a key is kept until something
// changes; whether it did is asked once for each revocation_delay, not for each request. Called
// from any thread.
class Authenticator {
 public:
  Authenticator(Identity& identity, const Clock& clock, const AuthenticatorOptions& options = {},
                Identity::NowMs now_ms = {});
  ~Authenticator();

  // Throws unauthenticated for a key that is missing, malformed, unknown, expired or revoked, and
  // permission_denied for a known one from an address that it does not allow; unavailable where
  // the database must be asked and is away. May wait for the database: as long as that takes for
  // one that is not known yet.
  std::shared_ptr<const Principal> authenticate(std::string_view key, std::string_view address);

  // As authenticate(), but null where the database would have to be asked.
  std::shared_ptr<const Principal> authenticate_from_cache(std::string_view key,
                                                           std::string_view address);

  // Of a change that has been made just now: whoever asks next is told as of then.
  void look_again();

  // Whether authenticate() has nothing to look up, and waits for most_wait at most.
  bool knows(std::string_view key) const;

 private:
  bool is_fresh() const;
  void refresh();
  void run_refreshes();
  void ask_for_changes();
  std::shared_ptr<const Principal> look_up(const Digest& hash);
  void check(const Principal* principal, std::string_view address) const;

  Identity& identity_;
  const Clock& clock_;
  const AuthenticatorOptions options_;
  const Identity::NowMs now_ms_;

  mutable std::shared_mutex mutex_;
  int64_t revision_ = -1;
  bool is_away_ = false;         // the database
  bool has_changed_ = false;     // as somebody says who knows
  Clock::TimePoint asked_at_{};  // successfully
  Clock::TimePoint tried_at_{};
  std::map<Digest, std::shared_ptr<const Principal>> principals_;
  std::set<Digest> strangers_;

  // One thread asks for changes, and all who need to know wait for it. Taken before mutex_.
  std::mutex refresh_mutex_;
  std::condition_variable wanted_changed_, ended_changed_;
  int64_t wanted_ = 0, begun_ = 0, ended_ = 0;  // how many times it was asked
  bool ends_ = false;
  std::thread refresher_;
};

}  // namespace ridge::platform
