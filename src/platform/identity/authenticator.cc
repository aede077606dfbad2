#include "platform/identity/authenticator.h"

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

}  // namespace

Authenticator::Authenticator(Identity& identity, const Clock& clock,
                             const AuthenticatorOptions& options, Identity::NowMs now_ms)
    : identity_(identity), clock_(clock), options_(options), now_ms_(std::move(now_ms)) {}

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
    if (entry == principals_.end()) return nullptr;
    principal = entry->second;
  }
  check(principal.get(), address);
  return principal;
}

bool Authenticator::is_fresh() const {
  return revision_ >= 0 && clock_.now() - tried_at_ < options_.revocation_delay;
}

void Authenticator::refresh() {
  const std::lock_guard one(refresh_mutex_);
  {
    const std::shared_lock lock(mutex_);
    if (is_fresh()) return;
  }
  const Clock::TimePoint asked_at = clock_.now();  // what is learned is as of now, or later
  try {
    const int64_t revision = identity_.revision();
    const std::unique_lock lock(mutex_);
    if (revision != revision_) principals_.clear();
    revision_ = revision;
    asked_at_ = tried_at_ = asked_at;
  } catch (const Error& error) {
    const std::unique_lock lock(mutex_);
    const bool survives =
        revision_ >= 0 && asked_at - asked_at_ < options_.survives_without_database;
    if (!survives) {
      throw Error(ErrorCode::unavailable, "keys cannot be checked at the moment; try again soon");
    }
    tried_at_ = asked_at;
    log::warning("keys are checked against what was known before: {}", error.message());
  }
}

std::shared_ptr<const Principal> Authenticator::look_up(const Digest& hash) {
  {
    const std::shared_lock lock(mutex_);
    const auto entry = principals_.find(hash);
    if (entry != principals_.end()) return entry->second;
  }
  Identity::Found found;
  try {
    found = identity_.find_principal(hash);
  } catch (const Error& error) {
    log::error("a key could not be looked up: {}", error.message());
    throw Error(ErrorCode::unavailable, "keys cannot be checked at the moment; try again soon");
  }
  std::shared_ptr<const Principal> principal;
  if (found.principal) principal = std::make_shared<Principal>(std::move(*found.principal));
  const std::unique_lock lock(mutex_);
  // What was read before or after a change that the others were not may not be kept beside them.
  if (found.revision == revision_) {
    if (principals_.size() >= options_.most_cached) principals_.clear();
    principals_.insert_or_assign(hash, principal);
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
