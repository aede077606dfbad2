#pragma once

#include "backend/cpu/kernels.h"

namespace ridge::backend::cpu {

// Which kernels a linear of so many rows of activations uses.
enum class LinearPath : uint8_t {
  dot,         // straight from the weight, a few tokens at a time
  tile_dot,    // the same with TileDotKernels
  byte_panel,  // unpacked to bytes (byte_panel.h)
  word_panel,  // unpacked to words (word_panel.h)
  panel,       // expanded to bfloat16 (panel.h)
};

// How far ahead a stream of weights from memory is asked for, where that helps: enough for its
// latency.
inline constexpr int64_t read_ahead_bytes = 3072;

// Of bfloat16, for weights and activations of a panel.
inline int panel_parts(Precision precision) { return precision == Precision::full ? 2 : 1; }

// Planes of activations for the dot kernels (see ActivationTile).
inline int activation_planes(Precision precision) { return precision == Precision::int8 ? 1 : 2; }

// What of the panels of vectors a weight fits (LinearStrips::fits).
struct PanelFits {
  bool bytes = false;  // kernels.byte_panel
  bool words = false;  // kernels.word_panel
};

inline LinearPath choose_linear_path(int rows, Precision precision, bool all_quantized,
                                     PanelFits fits, const KernelTable& kernels) {
  const int parts = panel_parts(precision);
  const bool is_exact_enough = parts == 1 || all_quantized;
  if (is_exact_enough && kernels.panel.product != nullptr &&
      rows >= kernels.panel.min_tokens[parts - 1]) {
    return LinearPath::panel;
  }
  if (all_quantized && kernels.tiles.begin != nullptr && rows >= kernels.tiles.min_tokens) {
    return LinearPath::tile_dot;
  }
  if (fits.bytes && precision == Precision::int8 && rows >= kernels.byte_panel.min_rows) {
    return LinearPath::byte_panel;
  }
  if (fits.words && precision != Precision::int8 && rows >= kernels.word_panel.min_rows) {
    return LinearPath::word_panel;
  }
  return LinearPath::dot;
}

// Whether linears of so many rows that may be rounded all take panels of bfloat16, whatever their weights are:
// then one may leave its results packed for the next.
inline bool all_take_panels(int rows, const KernelTable& kernels) {
  return kernels.panel.product != nullptr && rows >= kernels.panel.min_tokens[0] &&
         rows > kernels.scaled.max_tokens;
}

}  // namespace ridge::backend::cpu
