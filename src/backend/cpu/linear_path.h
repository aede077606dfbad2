#pragma once

#include "backend/cpu/kernels.h"

namespace ridge::backend::cpu {

// Which kernels a linear of so many rows of activations uses.
enum class LinearPath : uint8_t {
  dot,       // straight from the weight, a few tokens at a time
  tile_dot,  // the same with TileDotKernels
  panel,     // expanded to bfloat16 (panel.h)
};

inline LinearPath choose_linear_path(int rows, Precision precision, bool all_quantized,
                                     const KernelTable& kernels) {
  const bool may_round = precision != Precision::full;
  if (may_round && kernels.panel.product != nullptr && rows >= kernels.panel.min_tokens) {
    return LinearPath::panel;
  }
  if (all_quantized && kernels.tiles.begin != nullptr && rows >= kernels.tiles.min_tokens) {
    return LinearPath::tile_dot;
  }
  return LinearPath::dot;
}

// Planes of activations for the dot kernels (see ActivationTile).
inline int activation_planes(Precision precision) { return precision == Precision::int8 ? 1 : 2; }

}  // namespace ridge::backend::cpu
