#include <algorithm>
#include <vector>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

void expert_linear(Rows32 x, const ReferenceWeight& weight, std::span<const float> bias, Ids ids,
                   Rows32 weights, Rows32 out) {
  const int n_count = static_cast<int>(weight.rows());
  const int k_count = static_cast<int>(weight.columns());
  std::vector<float> row(k_count);
  for (int t = 0; t < x.rows; ++t) {
    std::vector<double> mixed(n_count, 0.0);
    for (int j = 0; j < ids.columns; ++j) {
      // One x for all choices, or one for each.
      const std::span<const float> x_j =
          x.columns == k_count ? x.row(t) : head_of(x.row(t), j, k_count);
      for (int n = 0; n < n_count; ++n) {
        const int64_t expert = ids.row(t)[j];
        weight.read_row(expert, n, row);
        double value = dot(x_j, row);
        if (!bias.empty()) value += bias[expert * n_count + n];
        if (weights.data == nullptr) {
          head_of(out.row(t), j, n_count)[n] = static_cast<float>(value);
        } else {
          mixed[n] += weights.row(t)[j] * value;
        }
      }
    }
    if (weights.data != nullptr) std::copy(mixed.begin(), mixed.end(), out.row(t).begin());
  }
}

}  // namespace ridge::backend::reference
