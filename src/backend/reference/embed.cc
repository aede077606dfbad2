#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void embed(std::span<const int32_t> ids, const ReferenceWeight& table, Rows32 out) {
  for (int t = 0; t < out.rows; ++t) table.read_row(/*expert=*/0, ids[t], out.row(t));
}

}  // namespace ridge::backend::reference
