#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace ridge::server {

// How many files are received at once: of all, and of one project, so that none keeps the others
// from theirs. Any thread.
class UploadSlots {
 public:
  static constexpr int most = 16, most_of_project = 4;

  // One of them; given back when it goes.
  class Slot {
   public:
    Slot(UploadSlots& slots, std::string project);
    ~Slot();
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    UploadSlots& slots_;
    const std::string project_;
  };

  // `project`: empty where nobody is asked who they are; then only the first bound holds. Throws
  // Error(queue_full).
  std::unique_ptr<Slot> take(const std::string& project) {
    return std::make_unique<Slot>(*this, project);
  }

 private:
  std::mutex mutex_;
  int taken_ = 0;
  std::map<std::string, int> taken_of_;
};

}  // namespace ridge::server
