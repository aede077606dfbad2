#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void store_kv(Rows32 k, Rows32 v, std::span<const int32_t> slots, ReferenceKvCache& cache,
              int layer) {
  const KvCacheLayout& layout = cache.layout();
  for (int t = 0; t < k.rows; ++t) {
    for (int h = 0; h < layout.kv_heads; ++h) {
      cache.store(layer, slots[t], h, KvPart::key, head_of(k.row(t), h, layout.key_dim));
      cache.store(layer, slots[t], h, KvPart::value, head_of(v.row(t), h, layout.value_dim));
    }
  }
}

}  // namespace ridge::backend::reference
