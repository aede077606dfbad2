#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/activation_codes.h"
#include "tensor/dtype.h"

// linear for many tokens on vectors of int16, where activations keep 15 bits
// (activation_codes.h): of two strips some columns are unpacked to words once, for all tiles of
// activations. Results are those of the kernels for few tokens, to the last bit.
//
//   panel, of 32 columns:
//     codes    [8 quads][2 strips][2: columns 0 and 2 of the quad, columns 1 and 3][16 rows][2]
//              int16, the formats' offsets taken off
//     products [1 or 2 halves of 16 columns][2 strips][16 rows] int32, -Σ w0 w1 + w2 w3 of the
//              paired quads, see below; halves where they have scales of their own
//     scales   [1 or 2 halves][2][16] float32, then those of formats with minima the minima,
//              likewise
//
// What bounds these products is multiplications: a core of Zen 5 starts two a cycle of whatever
// kind, and two additions beside them. So three of four quads are multiplied as Winograd's inner
// products ("A New Algorithm for Inner Product", 1968):
//
//   x0 w0 + x1 w1 = (x0 + w1) (x1 + w0) - x0 x1 - w0 w1
//
// One multiplication does for two. What is taken off depends on the tokens alone, or on the weight
// alone, and is where the sums begin; all of it is exact, modulo 2^32. Every fourth quad is
// multiplied as it is, which keeps both kinds of pipes busy
// (docs/adr/0049-two-products-for-one-multiplication.md).
namespace ridge::backend::cpu {

inline constexpr int word_panel_group = activation_group;
constexpr bool word_quad_is_paired(int quad) { return quad % 4 != 0; }
inline constexpr int word_panel_columns = 384;  // most: they stay in the first-level cache
inline constexpr int word_panel_rows = 6;  // of a tile, most: so many sums stay in registers, twice
inline constexpr int word_panel_codes = 8 * 2 * 2 * 64;  // bytes of a group's codes
inline constexpr int word_panel_group_bytes = word_panel_codes + 2 * 2 * 2 * 64;  // most
inline constexpr int word_panel_bytes =
    word_panel_columns / word_panel_group * word_panel_group_bytes;
// Tiles that meet a panel, most: so many sums stay in the second-level cache.
inline constexpr int word_panel_tiles = 88;
inline constexpr int word_panel_tile_sums = 2 * word_panel_rows * 16;
// A weight's code is at most 128 apart from zero, and the sum with an activation's is an int16.
static_assert(most_fine_code + 128 <= 32767);

// Some tokens' activations, x ≈ scale · code. K is a multiple of 64, what is missing is zero.
struct WordTile {
  int16_t* codes;          // [K/32][8 quads][count][4]: columns 0, 2, 1 and 3 of the quad
  int32_t* products;       // [K/32][count]: -Σ of the paired quads' x0 x1 + x2 x3, modulo 2^32
  int32_t* half_products;  // [K/32][count]: the same of the first 16 columns
  float* scales;           // [K/32][count]
  float* sums;             // [K/32][count]: Σ scale · code
  int count;               // 1 to word_panel_rows

  // To the next 32 columns.
  void advance() {
    codes += word_panel_group * count;
    products += count;
    half_products += count;
    scales += count;
    sums += count;
  }
  // From a column on that is the first of 32.
  WordTile from_column(int64_t column) const {
    const int64_t rows = column / word_panel_group * count;
    return {codes + word_panel_group * rows,
            products + rows,
            half_products + rows,
            scales + rows,
            sums + rows,
            count};
  }
};

// What will be unpacked soon: so many lines of memory from both places on are fetched with each 32
// columns of a tile, until all are. All at once would hold up the loads behind them.
struct WordFetch {
  const std::byte* first = nullptr;
  const std::byte* second = nullptr;
  int64_t bytes = 0;  // of each
  int lines = 0;
};

// All null where an instruction set has none, and for dtypes without one.
struct WordPanelKernels {
  // Fewer rows are better off with the other kernels; on some processors any number.
  int min_rows;
  // x[columns], a multiple of 32, becomes row `row` of a tile.
  void (*quantize)(const float* x, int64_t columns, const WordTile& tile, int row);
  // Columns [0, columns) from `from` on, whole units of tile_format.h, become a strip's part of a
  // panel.
  //   which: 0 or 1, of the panel's strips
  void (*unpack[dtype_count])(const std::byte* from, int64_t columns, int which, std::byte* panel);
  // out[tiles][word_panel_tile_sums] = the panel's strips times each row of each tile, or out +=
  // it; of a tile [2 strips][count][16] are used.
  //   columns: of the panel
  //   x: [tiles], from the panel's first column on
  void (*multiply[dtype_count])(const std::byte* panel, int64_t columns, const WordTile* x,
                                int tiles, bool accumulate, WordFetch fetch, float* out);
};

const WordPanelKernels& avx512_vnni_word_panels();

}  // namespace ridge::backend::cpu
