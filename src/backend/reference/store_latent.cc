#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void store_latent(Rows32 latent, Rows32 rotary_key, std::span<const int32_t> slots,
                  ReferenceKvCache& cache, int layer) {
  for (int t = 0; t < latent.rows; ++t) {
    cache.store(layer, slots[t], /*head=*/0, KvPart::value, latent.row(t));
    cache.store(layer, slots[t], /*head=*/0, KvPart::key, rotary_key.row(t));
  }
}

}  // namespace ridge::backend::reference
