#include <algorithm>
#include <cmath>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

float quantize_row(std::span<const float> x, std::span<int8_t> codes) {
  float largest = 0;
  for (float value : x) largest = std::max(largest, std::abs(value));
  const float scale = largest / 127.0f;
  for (size_t i = 0; i < x.size(); ++i) {
    const float code = scale == 0.0f ? 0.0f : std::nearbyint(x[i] / scale);
    // A subnormal scale has so few bits that the quotient may pass 127.
    codes[i] = static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f));
  }
  return scale;
}

void quantize_rows(Rows32 x, Matrix<int8_t> codes, Rows32 scales) {
  for (int r = 0; r < x.rows; ++r) scales.row(r)[0] = quantize_row(x.row(r), codes.row(r));
}

}  // namespace ridge::backend::reference
