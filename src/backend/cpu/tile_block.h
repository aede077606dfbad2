#pragma once

#include "backend/cpu/tiles.h"

// Two by two tiles of products, which four loads feed; with M or N of 1 the second row or column of
// tiles is left out.
//
//                   B: tile 6    B: tile 7
//   A: tile 4     ┌────────────┬────────────┐
//                 │ sum tile 0 │ sum tile 1 │
//   A: tile 5     ├────────────┼────────────┤
//                 │ sum tile 2 │ sum tile 3 │
//                 └────────────┴────────────┘
namespace ridge::backend::cpu {
namespace {

// This thread's tiles for blocks whose A has `rows` rows; B has 16.
template <class Tiles>
void begin_tile_blocks(int rows) {
  TileConfig config;
  for (int tile = 0; tile < 6; ++tile) config.set(tile, rows, tile_row_bytes);
  for (int tile = 6; tile < 8; ++tile) config.set(tile, tile_rows, tile_row_bytes);
  Tiles::configure(config);
}

template <class Tiles, int M, int N>
struct TileBlock {
  // Where the tiles of sums, float32 or int32, lie: [2 rows][2 columns].
  using Places = void* [4];

  static void zero_sums() {
    Tiles::template zero<0>();
    if constexpr (N == 2) Tiles::template zero<1>();
    if constexpr (M == 2) Tiles::template zero<2>();
    if constexpr (M == 2 && N == 2) Tiles::template zero<3>();
  }
  // stride: bytes between a tile's rows
  static void load_sums(const Places& at, int64_t stride) {
    Tiles::template load<0>(at[0], stride);
    if constexpr (N == 2) Tiles::template load<1>(at[1], stride);
    if constexpr (M == 2) Tiles::template load<2>(at[2], stride);
    if constexpr (M == 2 && N == 2) Tiles::template load<3>(at[3], stride);
  }
  static void store_sums(const Places& at, int64_t stride) {
    Tiles::template store<0>(at[0], stride);
    if constexpr (N == 2) Tiles::template store<1>(at[1], stride);
    if constexpr (M == 2) Tiles::template store<2>(at[2], stride);
    if constexpr (M == 2 && N == 2) Tiles::template store<3>(at[3], stride);
  }
  static void load_rows(const void* first, const void* second, int64_t stride) {
    Tiles::template load<4>(first, stride);
    if constexpr (M == 2) Tiles::template load<5>(second, stride);
  }
  static void load_columns(const void* first, const void* second, int64_t stride) {
    Tiles::template load<6>(first, stride);
    if constexpr (N == 2) Tiles::template load<7>(second, stride);
  }
  static void dot() {
    Tiles::template dot_bf16<0, 4, 6>();
    if constexpr (N == 2) Tiles::template dot_bf16<1, 4, 7>();
    if constexpr (M == 2) Tiles::template dot_bf16<2, 5, 6>();
    if constexpr (M == 2 && N == 2) Tiles::template dot_bf16<3, 5, 7>();
  }
  // Of int8; the first column of B is unsigned, the second may be either.
  template <bool SecondIsSigned>
  static void dot_bytes() {
    static_assert(M == 2 && N == 2);
    Tiles::template dot_s8u8<0, 4, 6>();
    Tiles::template dot_s8u8<2, 5, 6>();
    if constexpr (SecondIsSigned) {
      Tiles::template dot_s8s8<1, 4, 7>();
      Tiles::template dot_s8s8<3, 5, 7>();
    } else {
      Tiles::template dot_s8u8<1, 4, 7>();
      Tiles::template dot_s8u8<3, 5, 7>();
    }
  }
};

}  // namespace
}  // namespace ridge::backend::cpu
