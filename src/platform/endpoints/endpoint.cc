#include "platform/endpoints/endpoint.h"

#include <algorithm>

#include "base/error.h"

namespace ridge::platform {
namespace {

// FNV-1a, 64 bits, with the length behind, so that ("a", "bc") is not ("ab", "c").
uint64_t add(uint64_t hash, std::string_view text) {
  constexpr uint64_t prime = 0x100000001b3u;
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * prime;
  return (hash ^ text.size()) * prime;
}

// SplitMix64's last step: FNV's upper bits alone are not even enough for shares.
uint64_t mixed(uint64_t hash) {
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
  return hash ^ (hash >> 31);
}

}  // namespace

const EndpointVersion* Endpoint::find(int64_t number) const {
  const auto found = std::ranges::find(versions, number, &EndpointVersion::number);
  return found == versions.end() ? nullptr : &*found;
}

const EndpointVersion& choose_version(const Endpoint& endpoint, std::string_view caller,
                                      std::string_view beginning) {
  RIDGE_ASSERT(!endpoint.shares.empty());
  const EndpointShare& newer = endpoint.shares.back();
  const EndpointVersion* chosen = endpoint.find(newer.version);
  if (endpoint.shares.size() > 1) {
    uint64_t hash = add(0xcbf29ce484222325u, endpoint.id);
    hash = add(hash, std::to_string(newer.version));
    hash = mixed(add(add(hash, caller), beginning));
    const auto place = static_cast<int>((static_cast<unsigned __int128>(hash) * 100) >> 64);
    if (place >= newer.percent) chosen = endpoint.find(endpoint.shares.front().version);
  }
  RIDGE_ASSERT(chosen != nullptr);
  return *chosen;
}

}  // namespace ridge::platform
