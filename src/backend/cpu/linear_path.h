#pragma once

#include "backend/cpu/kernels.h"

namespace ridge::backend::cpu {

// Which kernels a linear of so many rows of activations uses.
enum class LinearPath : uint8_t {
  dot,    // straight from the tiles, a few tokens at a time
  panel,  // expanded to bfloat16 (panel.h)
};

inline LinearPath choose_linear_path(int rows, const KernelTable& kernels) {
  if (kernels.panel.product != nullptr && rows >= kernels.panel.min_tokens) {
    return LinearPath::panel;
  }
  return LinearPath::dot;
}

}  // namespace ridge::backend::cpu
