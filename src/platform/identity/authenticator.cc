#include "platform/identity/authenticator.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "platform/identity/api_key_text.h"

namespace ridge::platform {
namespace {

ApiKeyText parse_key(std::string_view key) {
  if (key.empty()) {
    throw Error(ErrorCode::unauthenticated,
                "no API key was sent; send one as 'Authorization: Bearer rgk_...' or as "
                "'x-api-key: rgk_...'");
  }
  if (auto text = ApiKeyText::parse(key)) return *text;
  throw Error(ErrorCode::unauthenticated,
              "the API key is malformed: keys begin with rgk_ and end with a checksum, which "
              "fails here; it may be mistyped or cut off");
}

Error away() {
  return Error(ErrorCode::unavailable, "keys cannot be checked at the moment; try again soon");
}

}  // namespace

Authenticator::Authenticator(Identity& identity, const Clock& clock,
                             const AuthenticatorOptions& options, Identity::NowMs now_ms)
    : identity_(identity),
      clock_(clock),
      options_(options),
      now_ms_(now_ms ? std::move(now_ms) : [&identity] { return identity.now_ms(); }),
      refresher_([this] { run_refreshes(); }) {}

Authenticator::~Authenticator() {
  {
    const std::lock_guard lock(refresh_mutex_);
    ends_ = true;
  }
  wanted_changed_.notify_one();
  refresher_.join();
}

std::shared_ptr<const Principal> Authenticator::authenticate(std::string_view key,
                                                             std::string_view address) {
  const Digest hash = parse_key(key).hash();
  refresh();
  auto principal = look_up(hash);
  check(principal.get(), address);
  return principal;
}

std::shared_ptr<const Principal> Authenticator::authenticate_from_cache(std::string_view key,
                                                                        std::string_view address) {
  const Digest hash = parse_key(key).hash();
  std::shared_ptr<const Principal> principal;
  {
    const std::shared_lock lock(mutex_);
    if (!is_fresh()) return nullptr;
    const auto entry = principals_.find(hash);
    if (entry != principals_.end()) {
      principal = entry->second;
    } else if (!strangers_.contains(hash)) {
      return nullptr;
    }
  }
  check(principal.get(), address);
  return principal;
}

bool Authenticator::knows(std::string_view key) const {
  const auto text = ApiKeyText::parse(key);
  if (!text) return false;
  const std::shared_lock lock(mutex_);
  return principals_.contains(text->hash());
}

void Authenticator::look_again() {
  const std::unique_lock lock(mutex_);
  has_changed_ = true;
}

bool Authenticator::is_fresh() const {
  return revision_ >= 0 && !has_changed_ && clock_.now() - tried_at_ < options_.revocation_delay;
}

// Returns once what is kept is as new as it has to be, or the database has not said so in time.
void Authenticator::refresh() {
  std::unique_lock lock(refresh_mutex_);
  const auto is_told = [this] {
    const std::shared_lock state(mutex_);
    return is_fresh();
  };
  if (is_told()) return;
  const Clock::TimePoint asked_at = clock_.now();
  const int64_t wanted = begun_ + 1;  // what was asked before may be older than this call
  wanted_ = std::max(wanted_, wanted);
  wanted_changed_.notify_one();
  const bool hangs = begun_ > ended_ && [this] {
    const std::shared_lock state(mutex_);
    return is_away_;
  }();
  const bool has_ended = !hangs && ended_changed_.wait_for(lock, options_.most_wait, [&] {
    return ended_ >= wanted || is_told();
  });
  const std::unique_lock state(mutex_);
  if (has_ended && !is_away_) return;
  is_away_ = true;
  const bool survives = revision_ >= 0 && asked_at - asked_at_ < options_.survives_without_database;
  if (!survives) throw away();
  tried_at_ = std::max(tried_at_, asked_at);
}

void Authenticator::run_refreshes() {
  std::unique_lock lock(refresh_mutex_);
  while (true) {
    wanted_changed_.wait(lock, [this] { return ends_ || wanted_ > begun_; });
    if (ends_) return;
    ++begun_;
    lock.unlock();
    ask_for_changes();
    lock.lock();
    ended_ = begun_;
    ended_changed_.notify_all();
  }
}

void Authenticator::ask_for_changes() {
  const Clock::TimePoint asked_at = clock_.now();  // what is learned is as of now, or later
  {
    const std::unique_lock lock(mutex_);
    has_changed_ = false;
  }
  try {
    const int64_t revision = identity_.revision();
    const std::unique_lock lock(mutex_);
    if (revision != revision_) {
      principals_.clear();
      strangers_.clear();
    }
    revision_ = revision;
    asked_at_ = tried_at_ = asked_at;
    is_away_ = false;
  } catch (const Error& error) {
    log::warning("keys are checked against what was known before: {}", error.message());
    const std::unique_lock lock(mutex_);
    is_away_ = true;
  }
}

std::shared_ptr<const Principal> Authenticator::look_up(const Digest& hash) {
  {
    const std::shared_lock lock(mutex_);
    const auto entry = principals_.find(hash);
    if (entry != principals_.end()) return entry->second;
    if (strangers_.contains(hash)) return nullptr;
    if (is_away_) throw away();
  }
  Identity::Found found;
  try {
    found = identity_.find_principal(hash);
  } catch (const Error& error) {
    log::error("a key could not be looked up: {}", error.message());
    throw away();
  }
  std::shared_ptr<const Principal> principal;
  if (found.principal) principal = std::make_shared<Principal>(std::move(*found.principal));
  const std::unique_lock lock(mutex_);
  // What was read before or after a change that the others were not may not be kept beside them.
  if (found.revision != revision_) return principal;
  if (principal) {
    if (principals_.size() >= options_.most_cached) principals_.clear();
    principals_.insert_or_assign(hash, principal);
  } else {
    if (strangers_.size() >= options_.most_strangers_cached) strangers_.clear();
    strangers_.insert(hash);
  }
  return principal;
}

void Authenticator::check(const Principal* principal, std::string_view address) const {
  if (principal == nullptr || principal->is_revoked) {
    throw Error(ErrorCode::unauthenticated, "the API key is unknown or was revoked");
  }
  if (principal->expires_at_ms && now_ms_() >= *principal->expires_at_ms) {
    throw Error(ErrorCode::unauthenticated, "the API key has expired");
  }
  if (!principal->rights.allows_address(address)) {
    throw Error(ErrorCode::permission_denied, "the API key may not be used from this address");
  }
}

}  // namespace ridge::platform
