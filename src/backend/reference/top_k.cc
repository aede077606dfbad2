#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void top_k(Rows32 logits, Rows32 values, Ids ids) {
  std::vector<int32_t> order(logits.columns);
  for (int r = 0; r < logits.rows; ++r) {
    const std::span<const float> row = logits.row(r);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(
        order.begin(), order.begin() + ids.columns, order.end(),
        [&](int32_t a, int32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
    for (int j = 0; j < ids.columns; ++j) {
      ids.row(r)[j] = order[j];
      values.row(r)[j] = row[order[j]];
    }
  }
}

}  // namespace ridge::backend::reference
