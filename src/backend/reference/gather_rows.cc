#include <algorithm>

#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::reference {

void gather_rows(Rows32 x, std::span<const int32_t> output_rows, Rows32 out) {
  for (int r = 0; r < out.rows; ++r) {
    RIDGE_ASSERT(output_rows[r] >= 0 && output_rows[r] < x.rows);
    std::ranges::copy(x.row(output_rows[r]), out.row(r).begin());
  }
}

}  // namespace ridge::backend::reference
