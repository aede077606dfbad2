#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void add_rms_norm(Rows32 x, Rows32 residual, std::span<const float> weight, float eps, Rows32 out) {
  add(residual, x, residual);
  rms_norm(residual, weight, eps, out);
}

}  // namespace ridge::backend::reference
