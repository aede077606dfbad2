#pragma once

#include <cstddef>
#include <utility>

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

// Numbers that a tile's row has, of bfloat16 and of int8.
constexpr int tile_depth = tile_row_bytes / 2;
constexpr int tile_byte_depth = tile_row_bytes;
constexpr int64_t tile_bytes = static_cast<int64_t>(tile_rows) * tile_row_bytes;

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
  // Of rows that pass once.
  static void load_passing_rows(const void* first, const void* second, int64_t stride) {
    Tiles::template load_passing<4>(first, stride);
    if constexpr (M == 2) Tiles::template load_passing<5>(second, stride);
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
  // dot() with new sums: a tile after the other leaves what it held at `done`, where that is not null, takes
  // what is at `next`, or zeros, and meets its product. So some tiles are stored and loaded while others
  // multiply.
  static void exchange_sums_and_dot(const Places* done, const Places& next, bool accumulate,
                                    int64_t stride) {
    const auto take = [&]<int T, int A, int B>() {
      if (done != nullptr) Tiles::template store<T>((*done)[T], stride);
      accumulate ? Tiles::template load<T>(next[T], stride) : Tiles::template zero<T>();
      Tiles::template dot_bf16<T, A, B>();
    };
    take.template operator()<0, 4, 6>();
    if constexpr (N == 2) take.template operator()<1, 4, 7>();
    if constexpr (M == 2) take.template operator()<2, 5, 6>();
    if constexpr (M == 2 && N == 2) take.template operator()<3, 5, 7>();
  }
  // Of int8.
  static void dot_signed_bytes() {
    Tiles::template dot_s8s8<0, 4, 6>();
    if constexpr (N == 2) Tiles::template dot_s8s8<1, 4, 7>();
    if constexpr (M == 2) Tiles::template dot_s8s8<2, 5, 6>();
    if constexpr (M == 2 && N == 2) Tiles::template dot_s8s8<3, 5, 7>();
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

// Calls fn<2>(i) for two tiles at a time, fn<1>(i) for the last of an odd number.
template <class Fn>
void in_pairs(int tiles, Fn fn) {
  int i = 0;
  for (; i + 2 <= tiles; i += 2) fn.template operator()<2>(i);
  if (i < tiles) fn.template operator()<1>(i);
}

// Calls fn.operator()<i>() for i from 0 to N - 1.
template <int N, class Fn>
void for_tiles(Fn fn) {
  [&]<int... I>(std::integer_sequence<int, I...>) { (fn.template operator()<I>(), ...); }
  (std::make_integer_sequence<int, N>());
}

// Up to four tiles of sums, 0 to N - 1, in a line or one below the other, that share an operand. A
// product waits for the one before that has the same sums, so with less than four the tiles are
// idle in between. A load does not wait for the products of what its tile held before: the processor
// renames tiles.
template <class Tiles, int N>
struct TileLine {
  static void zero_sums() {
    for_tiles<N>([]<int T>() { Tiles::template zero<T>(); });
  }
  // Side by side in rows `stride` bytes apart.
  static void load_sums(const float* first, int64_t stride) {
    for_tiles<N>([&]<int T>() { Tiles::template load<T>(first + T * tile_rows, stride); });
  }
  static void store_sums(float* first, int64_t stride) {
    for_tiles<N>([&]<int T>() { Tiles::template store<T>(first + T * tile_rows, stride); });
  }
  // One after the other, whole.
  static void store_sums_below(float* first) {
    for_tiles<N>([&]<int T>() {
      Tiles::template store<T>(first + T * tile_rows * tile_rows, tile_row_bytes);
    });
  }

  // A shared row, and columns: at(t) is where that of sums t lies.
  static void load_row(const void* from, int64_t stride) { Tiles::template load<4>(from, stride); }
  template <class At>
  static void dot_columns(At at, int64_t stride) {
    for_tiles<N>([&]<int T>() {
      Tiles::template load<6>(at(T), stride);
      Tiles::template dot_bf16<T, 4, 6>();
    });
  }

  // Two shared columns, and rows whose tiles are `step` bytes apart: times the first column, or both.
  static void load_columns(const void* first, const void* second, int64_t stride) {
    Tiles::template load<6>(first, stride);
    Tiles::template load<7>(second, stride);
  }
  template <int Columns>
  static void dot_rows(const std::byte* rows, int64_t step) {
    for_tiles<N>([&]<int T>() {
      Tiles::template load<4>(rows + T * step, tile_row_bytes);
      Tiles::template dot_bf16<T, 4, 6>();
      if constexpr (Columns == 2) Tiles::template dot_bf16<T, 4, 7>();
    });
  }
};

}  // namespace
}  // namespace ridge::backend::cpu
