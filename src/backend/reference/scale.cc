#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void scale(Rows32 x, float factor, Rows32 out) {
  for (int r = 0; r < out.rows; ++r) {
    for (int c = 0; c < out.columns; ++c) out.row(r)[c] = x.row(r)[c] * factor;
  }
}

}  // namespace ridge::backend::reference
