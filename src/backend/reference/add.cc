#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void add(Rows32 a, Rows32 b, Rows32 out) {
  for (int r = 0; r < out.rows; ++r) {
    for (int c = 0; c < out.columns; ++c) out.row(r)[c] = a.row(r)[c] + b.row(r)[c];
  }
}

}  // namespace ridge::backend::reference
