#include <cmath>

#include "backend/reference/ops.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

void rotate(std::span<float> head, const RopeTable& table, int position) {
  const size_t pairs = table.inverse_frequencies.size();
  for (size_t i = 0; i < pairs; ++i) {
    const bool neox = table.pairs == RopePairs::neox;
    float& a = head[neox ? i : 2 * i];
    float& b = head[neox ? i + pairs : 2 * i + 1];
    const float angle = static_cast<float>(position) * table.inverse_frequencies[i];
    const double cosine = std::cos(static_cast<double>(angle)) * table.magnitude;
    const double sine = std::sin(static_cast<double>(angle)) * table.magnitude;
    const double x = a;
    const double y = b;
    a = static_cast<float>(x * cosine - y * sine);
    b = static_cast<float>(y * cosine + x * sine);
  }
}

}  // namespace

void rope(Rows32 x, std::span<const int32_t> positions, int head_dim, const RopeTable& table) {
  for (int t = 0; t < x.rows; ++t) {
    RIDGE_ASSERT(positions[t] >= 0);
    for (int h = 0; h < x.columns / head_dim; ++h) {
      rotate(head_of(x.row(t), h, head_dim), table, positions[t]);
    }
  }
}

}  // namespace ridge::backend::reference
