#include <algorithm>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void sample(Rows32 logits, Ids ids) {
  for (int r = 0; r < logits.rows; ++r) {
    const std::span<const float> row = logits.row(r);
    // max_element returns the first of equals, so ties go to the smaller id.
    ids.row(r)[0] = static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
  }
}

}  // namespace ridge::backend::reference
