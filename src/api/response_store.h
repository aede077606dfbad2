#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "api/json_text.h"

namespace ridge::api {

// A response of POST /v1/responses that its client may ask for again, or go on from.
struct StoredResponse {
  std::string id;
  std::string body;                // as it was sent
  std::vector<std::string> input;  // its items as JSON, in order
  std::string conversation;        // ChatRequest::messages as JSON, without instructions, up to and
                                   // with the answer
  std::string model;               // the name that it was asked for by

  std::size_t bytes() const;
};

struct ResponseLimits {
  std::size_t responses = 0;
  std::size_t bytes = 0;
};

// Keeps responses in memory, each for its owner only. An owner over its own limits loses what it
// has not used for longest. Where all are over theirs, so does the owner who has most of what is
// short: responses or bytes; of several who have as much, the one who has not used its own for
// longest. So no owner pushes out those who keep less than it does; who appears as many owners at
// once still can. Any thread.
class ResponseStore {
 public:
  ResponseStore(ResponseLimits all, ResponseLimits each_owner);

  // One that is larger than what its owner may keep is not kept.
  void put(const std::string& owner, StoredResponse response);
  // nullptr where this owner keeps no such response.
  std::shared_ptr<const StoredResponse> find(const std::string& owner, std::string_view id);
  // Whether there was one.
  bool erase(const std::string& owner, std::string_view id);

  std::size_t size() const;
  std::size_t bytes() const;

 private:
  struct Kept {
    std::shared_ptr<const StoredResponse> response;
    uint64_t used_at = 0;  // on the store's own clock, which counts uses
  };
  struct Owned {
    std::list<Kept> by_use;  // last used first
    std::size_t bytes = 0;
  };
  using Owners = std::map<std::string, Owned>;
  using Place = std::list<Kept>::iterator;

  void remove_locked(Owners::iterator owner, Place place);
  void remove_oldest_locked(Owners::iterator owner);
  void make_room_locked();
  template <typename Measure>
  Owners::iterator largest_locked(Measure measure);
  static Place find_locked(Owned& owned, std::string_view id);

  const ResponseLimits all_, each_owner_;
  mutable std::mutex mutex_;
  Owners owners_;
  uint64_t uses_ = 0;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace ridge::api
