#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void copy_blocks(std::span<const int32_t> pairs, ReferenceKvCache& cache) {
  for (size_t i = 0; i < pairs.size(); i += 2) cache.copy_block(/*to=*/pairs[i + 1], pairs[i]);
}

}  // namespace ridge::backend::reference
