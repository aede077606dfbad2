#include "api/response_store.h"

#include <algorithm>
#include <utility>

namespace ridge::api {

std::size_t StoredResponse::bytes() const {
  std::size_t sum = sizeof(StoredResponse) + id.size() + body.size() + conversation.size();
  for (const std::string& item : input) sum += sizeof item + item.size();
  return sum;
}

ResponseStore::ResponseStore(ResponseLimits all, ResponseLimits each_owner)
    : all_(all), each_owner_(each_owner) {}

void ResponseStore::put(const std::string& owner, StoredResponse response) {
  const std::size_t bytes = response.bytes();
  if (bytes > std::min(all_.bytes, each_owner_.bytes)) return;
  if (all_.responses == 0 || each_owner_.responses == 0) return;
  auto kept = std::make_shared<const StoredResponse>(std::move(response));
  std::lock_guard lock(mutex_);
  const auto owned = owners_.try_emplace(owner).first;
  owned->second.by_use.push_front({std::move(kept), uses_++});
  owned->second.bytes += bytes;
  bytes_ += bytes;
  ++size_;
  while (owned->second.by_use.size() > each_owner_.responses ||
         owned->second.bytes > each_owner_.bytes) {
    remove_oldest_locked(owned);
  }
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
  place->used_at = uses_++;
  return place->response;
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
                              [&](const Kept& kept) { return kept.response->id == id; });
}

void ResponseStore::remove_locked(Owners::iterator owner, Place place) {
  const std::size_t bytes = place->response->bytes();
  owner->second.bytes -= bytes;
  bytes_ -= bytes;
  --size_;
  owner->second.by_use.erase(place);
  if (owner->second.by_use.empty()) owners_.erase(owner);
}

void ResponseStore::remove_oldest_locked(Owners::iterator owner) {
  remove_locked(owner, std::prev(owner->second.by_use.end()));
}

template <typename Measure>
ResponseStore::Owners::iterator ResponseStore::largest_locked(Measure measure) {
  return std::ranges::max_element(owners_, {}, [&](const auto& owner) {
    return std::pair(measure(owner.second), UINT64_MAX - owner.second.by_use.back().used_at);
  });
}

void ResponseStore::make_room_locked() {
  while (bytes_ > all_.bytes) {
    remove_oldest_locked(largest_locked([](const Owned& owned) { return owned.bytes; }));
  }
  while (size_ > all_.responses) {
    remove_oldest_locked(largest_locked([](const Owned& owned) { return owned.by_use.size(); }));
  }
}

}  // namespace ridge::api
