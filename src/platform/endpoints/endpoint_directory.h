#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "platform/endpoints/endpoints.h"

namespace ridge::platform {

// The endpoints as a server knows them: whoever asks waits for no database. A thread looks for
// changes; while the database is away, what was known holds.
class EndpointDirectory {
 public:
  // So often it looks, so that a change of another server or command is seen within a second.
  static constexpr std::chrono::milliseconds looks_each{500};

  // Reads them once before it returns; where that fails, there are none until it succeeds.
  explicit EndpointDirectory(Endpoints& endpoints);
  ~EndpointDirectory();
  EndpointDirectory(const EndpointDirectory&) = delete;
  EndpointDirectory& operator=(const EndpointDirectory&) = delete;

  // Never null, and never changed.
  std::shared_ptr<const EndpointTable> table() const;
  // Looks now, as after a change of one's own. Throws as Database.
  void refresh();

 private:
  void run();
  void look();

  Endpoints& endpoints_;
  std::mutex looks_mutex_;  // taken before mutex_
  mutable std::mutex mutex_;
  std::shared_ptr<const EndpointTable> table_;
  bool is_away_ = false;  // the database, as far as look() knows; the thread's own
  std::condition_variable changed_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace ridge::platform
