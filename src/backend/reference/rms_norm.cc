#include <cmath>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void rms_norm(Rows32 x, std::span<const float> weight, float eps, Rows32 out) {
  for (int r = 0; r < x.rows; ++r) {
    const std::span<const float> from = x.row(r);
    const double mean_square = dot(from, from) / x.columns;
    const double factor = 1.0 / std::sqrt(mean_square + eps);
    const std::span<float> to = out.row(r);
    for (int c = 0; c < x.columns; ++c) to[c] = static_cast<float>(from[c] * factor * weight[c]);
  }
}

}  // namespace ridge::backend::reference
