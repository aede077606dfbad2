#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "platform/identity/identity.h"
#include "platform/identity/sessions.h"
#include "server/running_requests.h"

namespace ridge::server {

// Ends the answers that are made for keys which were revoked meanwhile, and for people who may ask
// models no more. Looks after each change that this server makes, and while it makes answers each
// `interval` for changes of others.
class RevocationWatch {
 public:
  // `sessions` may be null.
  RevocationWatch(std::shared_ptr<platform::Identity> identity,
                  std::shared_ptr<platform::Sessions> sessions, RunningRequests& requests,
                  std::chrono::milliseconds interval = std::chrono::seconds(1));

  // Now. Any thread that may wait for the database; where that is away, a later one does it.
  void look();

 private:
  bool may_still_ask(const platform::Principal& principal) const;
  // Of one that may not; who is cut off is told.
  std::string why_not(const platform::Principal& principal) const;
  void run(const std::stop_token& stop);

  const std::shared_ptr<platform::Identity> identity_;
  const std::shared_ptr<platform::Sessions> sessions_;
  RunningRequests& requests_;
  const std::chrono::milliseconds interval_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;
};

}  // namespace ridge::server
