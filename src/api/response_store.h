#pragma once

#include <cstddef>
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

  std::size_t bytes() const;
};

// Keeps responses in memory, each for its owner only. Over a limit, the owner who keeps most bytes
// loses what it has not used for longest: nobody can push out what others keep. Any thread.
class ResponseStore {
 public:
  ResponseStore(std::size_t max_responses, std::size_t max_bytes);

  // One that is larger than the store by itself is not kept.
  void put(const std::string& owner, StoredResponse response);
  // nullptr where this owner keeps no such response.
  std::shared_ptr<const StoredResponse> find(const std::string& owner, std::string_view id);
  // Whether there was one.
  bool erase(const std::string& owner, std::string_view id);

  std::size_t size() const;
  std::size_t bytes() const;

 private:
  struct Owned {
    std::list<std::shared_ptr<const StoredResponse>> by_use;  // last used first
    std::size_t bytes = 0;
  };
  using Place = std::list<std::shared_ptr<const StoredResponse>>::iterator;

  void remove_locked(std::map<std::string, Owned>::iterator owner, Place place);
  void make_room_locked();
  static Place find_locked(Owned& owned, std::string_view id);

  const std::size_t max_responses_;
  const std::size_t max_bytes_;
  mutable std::mutex mutex_;
  std::map<std::string, Owned> owners_;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace ridge::api
