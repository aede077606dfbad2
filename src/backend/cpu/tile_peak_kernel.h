#pragma once

#include "backend/cpu/kernels.h"
#include "backend/cpu/tiles.h"

// What one thread's tiles can multiply at most: four sums of two by two operands that are loaded
// once.
namespace ridge::backend::cpu {
namespace {

template <class Tiles, bool Bf16>
int64_t peak_tile_products(int64_t rounds) {
  TileConfig config;
  for (int tile = 0; tile < tile_count; ++tile) config.set(tile, tile_rows, tile_row_bytes);
  Tiles::configure(config);
  for (int64_t i = 0; i < rounds; ++i) {
    if constexpr (Bf16) {
      Tiles::template dot_bf16<0, 4, 6>();
      Tiles::template dot_bf16<1, 4, 7>();
      Tiles::template dot_bf16<2, 5, 6>();
      Tiles::template dot_bf16<3, 5, 7>();
    } else {
      Tiles::template dot_s8u8<0, 4, 6>();
      Tiles::template dot_s8u8<1, 4, 7>();
      Tiles::template dot_s8u8<2, 5, 6>();
      Tiles::template dot_s8u8<3, 5, 7>();
    }
  }
  Tiles::release();
  return int64_t{4} * rounds * tile_rows * tile_rows * tile_row_bytes / (Bf16 ? 2 : 1);
}

template <class Tiles>
void fill_tile_peaks(PeakKernels& peaks) {
  peaks.tile_i8 = &peak_tile_products<Tiles, false>;
  peaks.tile_bf16 = &peak_tile_products<Tiles, true>;
}

}  // namespace
}  // namespace ridge::backend::cpu
