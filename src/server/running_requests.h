#pragma once

#include <functional>
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
            std::string group, std::string model, Generation& generation);
    ~Listing();
    Listing(const Listing&) = delete;
    Listing& operator=(const Listing&) = delete;

   private:
    RunningRequests& requests_;
    Generation& generation_;
  };

  // Whether the asker may use a model.
  using MayUse = std::function<bool(const std::string& model)>;

  // Ends the thinking of what `group` runs under this id with models that the asker may use; false
  // where there is nothing. What else runs under the same id is not touched, nor told of.
  bool end_thinking(std::string_view id, std::string_view group, const MayUse& may_use);

 private:
  struct Entry {
    std::string group, model;
    Generation* generation;
  };

  std::mutex mutex_;
  std::multimap<std::string, Entry, std::less<>> entries_;  // clients may choose the same ids
};

}  // namespace ridge::server
