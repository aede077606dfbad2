#include "server/revocation_watch.h"

#include "base/error.h"
#include "base/log.h"

namespace ridge::server {

RevocationWatch::RevocationWatch(std::shared_ptr<platform::Identity> identity,
                                 std::shared_ptr<platform::Sessions> sessions,
                                 RunningRequests& requests, std::chrono::milliseconds interval)
    : identity_(std::move(identity)),
      sessions_(std::move(sessions)),
      requests_(requests),
      interval_(interval),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

void RevocationWatch::look() {
  if (!requests_.has_any()) return;
  try {
    const int64_t revision = identity_->revision();
    for (const auto& principal : requests_.principals_known_before(revision)) {
      if (may_still_ask(*principal)) {
        requests_.still_known(*principal, revision);
        continue;
      }
      log::info("answers for '{}' end, as it may ask no more", principal->key_id);
      requests_.cancel(*principal, Error(ErrorCode::unauthenticated,
                                         why_not(*principal) + ", so that the answer ends here"));
    }
  } catch (const Error& error) {
    log::warning("answers of keys that were revoked go on for now: {}", error.message());
  }
}

bool RevocationWatch::may_still_ask(const platform::Principal& principal) const {
  if (principal.is_session && sessions_ == nullptr) return true;
  const auto now = principal.is_session
                       ? sessions_->principal_of(principal.user_id, principal.project_id)
                       : identity_->principal_of(principal.key_id);
  return now && now->rights.has(platform::Scope::inference);
}

std::string RevocationWatch::why_not(const platform::Principal& principal) const {
  if (principal.is_session) return "you may not ask models any more";
  const auto key = identity_->find_key(principal.key_id);
  if (!key || key->revoked_at_ms) return "the API key was revoked";
  if (!key->is_valid_at(identity_->now_ms())) return "the API key has expired";
  // What is left is what became of its owner.
  return "the user of the API key may not ask models any more";
}

void RevocationWatch::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    look();
    stopped_.wait_for(lock, stop, interval_, [] { return false; });
  }
}

}  // namespace ridge::server
