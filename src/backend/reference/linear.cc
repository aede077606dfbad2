#include <vector>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void linear(Rows32 x, const ReferenceWeight& weight, std::span<const float> bias, Rows32 out) {
  std::vector<float> row(weight.columns());
  for (int n = 0; n < out.columns; ++n) {
    weight.read_row(/*expert=*/0, n, row);
    const double offset = bias.empty() ? 0.0 : bias[n];
    for (int r = 0; r < x.rows; ++r)
      out.row(r)[n] = static_cast<float>(dot(x.row(r), row) + offset);
  }
}

}  // namespace ridge::backend::reference
