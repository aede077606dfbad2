#include <cmath>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void rms_norm(Rows32 x, std::span<const float> weight, float eps, Rows32 out) {
  const size_t run = weight.size();
  for (int r = 0; r < x.rows; ++r) {
    for (size_t first = 0; first < static_cast<size_t>(x.columns); first += run) {
      const std::span<const float> from = x.row(r).subspan(first, run);
      const double mean_square = dot(from, from) / static_cast<double>(run);
      const double factor = 1.0 / std::sqrt(mean_square + eps);
      const std::span<float> to = out.row(r).subspan(first, run);
      for (size_t c = 0; c < run; ++c) to[c] = static_cast<float>(from[c] * factor * weight[c]);
    }
  }
}

}  // namespace ridge::backend::reference
