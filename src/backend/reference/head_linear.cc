#include <vector>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void head_linear(Rows32 x, const ReferenceWeight& weight, Rows32 out) {
  const int heads = static_cast<int>(weight.experts());
  const int n_per_head = static_cast<int>(weight.rows());
  const int k_per_head = static_cast<int>(weight.columns());
  std::vector<float> row(k_per_head);
  for (int h = 0; h < heads; ++h) {
    for (int n = 0; n < n_per_head; ++n) {
      weight.read_row(h, n, row);
      for (int t = 0; t < x.rows; ++t) {
        head_of(out.row(t), h, n_per_head)[n] =
            static_cast<float>(dot(head_of(x.row(t), h, k_per_head), row));
      }
    }
  }
}

}  // namespace ridge::backend::reference
