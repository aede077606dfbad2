#include "platform/model_removal.h"

#include <algorithm>
#include <vector>

#include "platform/prepared_cache.h"

namespace ridge::platform {

int64_t remove_model(Store& store, std::string_view name) {
  const Digest digest = model_digest(store.get(name));
  const int64_t freed_bytes = store.remove(name);
  const auto others = store.list();
  const bool is_anothers = std::ranges::any_of(
      others, [&](const Manifest& other) { return model_digest(other) == digest; });
  if (is_anothers) return freed_bytes;
  return freed_bytes + PreparedCache(store.prepared()).remove({digest});
}

}  // namespace ridge::platform
