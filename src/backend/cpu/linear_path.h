#pragma once

#include "backend/cpu/kernels.h"

namespace ridge::backend::cpu {

// Which kernels a linear of so many rows of activations uses.
enum class LinearPath : uint8_t {
  dot,         // straight from the weight, a few tokens at a time
  tile_dot,    // the same with TileDotKernels
  byte_panel,  // unpacked to bytes (byte_panel.h)
  panel,       // expanded to bfloat16 (panel.h)
};

// How far ahead a stream of weights from memory is asked for, where that helps: enough for its
// latency.
inline constexpr int64_t read_ahead_bytes = 3072;

// Of bfloat16, for weights and activations of a panel.
inline int panel_parts(Precision precision) { return precision == Precision::full ? 2 : 1; }

// Planes of activations for the dot kernels (see ActivationTile).
inline int activation_planes(Precision precision) { return precision == Precision::int8 ? 1 : 2; }

// fits_bytes: LinearStrips::fits, of kernels.byte_panel
inline LinearPath choose_linear_path(int rows, Precision precision, bool all_quantized,
                                     bool fits_bytes, const KernelTable& kernels) {
  const int parts = panel_parts(precision);
  const bool is_exact_enough = parts == 1 || all_quantized;
  if (is_exact_enough && kernels.panel.product != nullptr &&
      rows >= kernels.panel.min_tokens[parts - 1]) {
    return LinearPath::panel;
  }
  if (all_quantized && kernels.tiles.begin != nullptr && rows >= kernels.tiles.min_tokens) {
    return LinearPath::tile_dot;
  }
  if (fits_bytes && precision == Precision::int8 && rows >= kernels.byte_panel.min_rows) {
    return LinearPath::byte_panel;
  }
  return LinearPath::dot;
}

}  // namespace ridge::backend::cpu
