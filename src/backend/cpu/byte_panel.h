#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// linear for many tokens on vectors of int8, of weights in K formats (but Q2_K) and IQ4_XS, where
// activations may be rounded to 8 bits: of two strips some columns are unpacked to bytes once, for
// all tiles of activations.
//
//   panel, of a unit of 256 columns:
//     8 groups of 32   codes  [8 quads][2 strips][16 rows][4]
//                      scales [1 or 2 halves][2 strips][16] float32
//     of formats with minima, the unit's dmin [2][16] float32, then minima [4][2][16][2] int16
//
// What bounds these products is multiplications: a core of Zen 5 starts two a cycle of whatever
// kind, while loads and other arithmetic go beside them. Of 32 columns 8 are the products
// themselves; with a scale of its own for each 32 columns of a token, scaling takes 3 more. Here
// the scales of a token's 256 columns are one step times powers of two, added to the exponents of
// sums; minima meet sums of codes two by two in integers. That leaves 2, and it takes up to a bit
// from activations that are below half of the largest of the 256 but above its eighth
// (docs/adr/0048-scales-of-activations-in-powers-of-two.md).
namespace ridge::backend::cpu {

inline constexpr int byte_panel_unit = 256;
inline constexpr int byte_panel_columns =
    512;                                   // of a slice, most: it stays in the first-level cache
inline constexpr int byte_panel_rows = 6;  // of a tile, most: so many sums stay in registers, twice
inline constexpr int byte_panel_codes = 8 * 2 * 64;  // bytes of 32 columns' codes
// Of 256 columns, most.
inline constexpr int byte_panel_unit_bytes = 8 * (byte_panel_codes + 4 * 64) + 2 * 64 + 4 * 128;
inline constexpr int byte_panel_bytes =
    byte_panel_columns / byte_panel_unit * byte_panel_unit_bytes;
// Tiles that meet a panel, most: so many sums stay in the second-level cache.
inline constexpr int byte_panel_tiles = 88;
inline constexpr int byte_panel_tile_sums = 2 * byte_panel_rows * 16;
// Steps between the scales of a token's 256 columns: powers of two up to this one.
inline constexpr int byte_panel_most_shift = 3;

// Some tokens' activations, x ≈ step · 2^shift · code. K is a multiple of 256, as it is of every
// weight in these formats.
struct ByteTile {
  int8_t* codes;       // [K/32][8 quads][count][4]
  int32_t* code_sums;  // [K/32][2 halves of 16 columns][count]: -Σ codes
  int32_t* shifts;     // [K/32][count]: shift << 23, as a float's exponent has it
  int16_t* pair_sums;  // [K/64][count][2]: Σ 2^shift · code of 32 columns
  float* steps;        // [K/256][count]
  int count;           // 1 to byte_panel_rows

  // From a column on that is the first of 256.
  ByteTile from_column(int64_t column) const {
    const int64_t rows = column / 32 * count;
    return {codes + 32 * rows, code_sums + 2 * rows, shifts + rows,
            pair_sums + rows,  steps + rows / 8,     count};
  }
};

// All null where an instruction set has none, and for dtypes without one.
struct BytePanelKernels {
  // Fewer rows are better off with the other kernels.
  int min_rows;
  // x[columns], whole units, becomes row `row` of a tile.
  void (*quantize)(const float* x, int64_t columns, const ByteTile& tile, int row);
  // Columns [0, columns) from `from` on, whole units of tile_format.h, become a strip's part of a
  // panel.
  //   which: 0 or 1, of the panel's strips
  //   ahead: what will be unpacked later is fetched, from each byte's place + ahead; 0: nothing is
  void (*unpack[dtype_count])(const std::byte* from, int64_t columns, int which, int64_t ahead,
                              std::byte* panel);
  // out[tiles][byte_panel_tile_sums] = the panel's strips times each row of each tile, or out +=
  // it; of a tile [2 strips][count][16] are used.
  //   columns: of the panel
  //   x: [tiles], from the panel's first column on
  void (*multiply[dtype_count])(const std::byte* panel, int64_t columns, const ByteTile* x,
                                int tiles, bool accumulate, float* out);
};

const BytePanelKernels& avx512_vnni_byte_panels();

}  // namespace ridge::backend::cpu
