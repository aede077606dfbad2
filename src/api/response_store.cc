#include "api/response_store.h"

#include <algorithm>
#include <utility>

namespace ridge::api {

std::size_t StoredResponse::bytes() const {
  std::size_t sum = sizeof(StoredResponse) + id.size() + body.size() + conversation.size();
  for (const std::string& item : input) sum += sizeof item + item.size();
  return sum;
}

ResponseStore::ResponseStore(std::size_t max_responses, std::size_t max_bytes)
    : max_responses_(max_responses), max_bytes_(max_bytes) {}

void ResponseStore::put(const std::string& owner, StoredResponse response) {
  const std::size_t bytes = response.bytes();
  if (bytes > max_bytes_ || max_responses_ == 0) return;
  auto kept = std::make_shared<const StoredResponse>(std::move(response));
  std::lock_guard lock(mutex_);
  Owned& owned = owners_[owner];
  owned.by_use.push_front(std::move(kept));
  owned.bytes += bytes;
  bytes_ += bytes;
  ++size_;
  make_room_locked();
}

std::shared_ptr<const StoredResponse> ResponseStore::find(const std::string& owner,
                                                          std::string_view id) {
  std::lock_guard lock(mutex_);
  const auto owned = owners_.find(owner);
  if (owned == owners_.end()) return nullptr;
  auto& by_use = owned->second.by_use;
  const Place place = find_locked(owned->second, id);
  if (place == by_use.end()) return nullptr;
  by_use.splice(by_use.begin(), by_use, place);
  return *place;
}

bool ResponseStore::erase(const std::string& owner, std::string_view id) {
  std::lock_guard lock(mutex_);
  const auto owned = owners_.find(owner);
  if (owned == owners_.end()) return false;
  const Place place = find_locked(owned->second, id);
  if (place == owned->second.by_use.end()) return false;
  remove_locked(owned, place);
  return true;
}

std::size_t ResponseStore::size() const {
  std::lock_guard lock(mutex_);
  return size_;
}

std::size_t ResponseStore::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

ResponseStore::Place ResponseStore::find_locked(Owned& owned, std::string_view id) {
  return std::ranges::find_if(owned.by_use,
                              [&](const auto& response) { return response->id == id; });
}

void ResponseStore::remove_locked(std::map<std::string, Owned>::iterator owner, Place place) {
  const std::size_t bytes = (*place)->bytes();
  owner->second.bytes -= bytes;
  bytes_ -= bytes;
  --size_;
  owner->second.by_use.erase(place);
  if (owner->second.by_use.empty()) owners_.erase(owner);
}

void ResponseStore::make_room_locked() {
  while (size_ > max_responses_ || bytes_ > max_bytes_) {
    const auto largest =
        std::ranges::max_element(owners_, {}, [](const auto& owner) { return owner.second.bytes; });
    remove_locked(largest, std::prev(largest->second.by_use.end()));
  }
}

}  // namespace ridge::api
