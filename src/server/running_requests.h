#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "server/generation.h"

namespace ridge::server {

// The generations that run, under the ids by which their clients know them. Any thread.
class RunningRequests {
 public:
  // Lists a generation for as long as it lives; the generation must outlive it.
  class Listing {
   public:
    Listing(RunningRequests& requests, std::string_view id, std::string_view other_id,
            std::string group, Generation& generation);
    ~Listing();
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;

   private:
    RunningRequests& requests_;
    Generation& generation_;
  };

  // Ends the thinking of what `group` runs under this id; false where there is nothing. What others
  // run under the same id is not touched, nor told of.
  bool end_thinking(std::string_view id, std::string_view group);

 private:
  struct Entry {
    std::string group;
    Generation* generation;
  };

  std::mutex mutex_;
  std::multimap<std::string, Entry, std::less<>> entries_;  // clients may choose the same ids
};

}  // namespace ridge::server
