#include <algorithm>
#include <cmath>
#include <numbers>

#include "backend/reference/ops.h"

namespace ridge::backend::reference {

namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// Hendrycks & Gimpel 2016, the tanh approximation.
double gelu_tanh(double x) {
  const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(inner));
}

double gated(Activation kind, double gate, double up) {
  switch (kind) {
    case Activation::silu:
      return gate * sigmoid(gate) * up;
    case Activation::gelu_tanh:
      return gelu_tanh(gate) * up;
    case Activation::swiglu_oai: {
      const double limited = std::min(gate, 7.0);
      return limited * sigmoid(1.702 * limited) * (std::clamp(up, -7.0, 7.0) + 1.0);
    }
  }
  return 0;
}

}  // namespace

void gated_activation(Rows32 x, Activation kind, int groups, Rows32 out) {
  const int columns = out.columns / groups;
  for (int r = 0; r < x.rows; ++r) {
    for (int g = 0; g < groups; ++g) {
      const std::span<const float> gate = head_of(x.row(r), 2 * g, columns);
      const std::span<const float> up = head_of(x.row(r), 2 * g + 1, columns);
      const std::span<float> to = head_of(out.row(r), g, columns);
      for (int c = 0; c < columns; ++c) to[c] = static_cast<float>(gated(kind, gate[c], up[c]));
    }
  }
}

}  // namespace ridge::backend::reference
