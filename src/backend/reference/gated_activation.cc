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

void gated_activation(Rows32 x, Activation kind, Rows32 out) {
  for (int r = 0; r < x.rows; ++r) {
    const std::span<const float> gate = x.row(r).first(out.columns);
    const std::span<const float> up = x.row(r).last(out.columns);
    for (int c = 0; c < out.columns; ++c) {
      out.row(r)[c] = static_cast<float>(gated(kind, gate[c], up[c]));
    }
  }
}

}  // namespace ridge::backend::reference
