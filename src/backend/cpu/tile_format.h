#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// How quantised weights lie in memory for the kernels.
//
// A weight [N, K] is cut into strips of 16 rows; a strip is a run of units, each 64 columns wide
// for formats with blocks of 32 and 256 wide for the K formats. All that one unit needs lies
// together, so that a thread reads one stream:
//
//   unit of a simple format (64 columns)      unit of a K format (256 columns)
//   ┌────────────────────────────┐            ┌─────────────────────────────────────┐
//   │ scale f16 [2 groups][16]   │            │ d f16 [16], dmin f16 [16]           │
//   │ min   f16 [2 groups][16] ? │            │ scale i8 [groups][16]               │
//   │ codes     [2 groups]       │            │ min   i8 [groups][16] ?             │
//   └────────────────────────────┘            │ codes    [8 groups of 32]           │
//                                             └─────────────────────────────────────┘
// The codes of 32 columns × 16 rows take 64 bytes for each of their bits. A vector of 64 bytes
// holds quad j, the columns 4j … 4j+3, with row r at byte 4r, so that one 512-bit dot product takes
// 4 columns of all 16 rows. Codes of less than 8 bits come in planes, one after the other:
//
//   bits   planes
//   8      bytes    [8 quads][64]
//   4      nibbles  [4][64]: quad j in the low halves, quad j + 4 in the high ones
//   5      nibbles, then bits [64]: bit j is the highest of quad j
//   6      nibbles, then pairs of bits [2][64]: quad j is pair j % 4 of vector j / 4
//   2      pairs of bits
//   3      pairs of bits, then bits
//
// Codes are the file's, made unsigned: value = scale · (code - offset), or scale · code + min. Those of
// a table of levels stand as they are, and become the level plus `offset` when they are read.
// Rows past N and columns past K have zero codes and zero scales.
namespace ridge::backend::cpu {

inline constexpr int strip_rows = 16;

enum class Levels : uint8_t { none, iq4, mxfp4 };

struct TileFormat {
  DType dtype;
  int bits;       // of a code in memory
  Levels levels;  // a code is an index into a table of these
  bool super;     // two levels of scales (the K formats and IQ4_XS)
  bool has_min;   // value = scale · code + min; min is subtracted in super formats
  int offset;     // of the unsigned code
  int group;      // columns that share a scale

  // Scales of MXFP4 are powers of two beyond F16's, and stand as bfloat16.
  constexpr bool has_bf16_scales() const { return levels == Levels::mxfp4; }
  // What a code becomes takes all eight bits, else six at most.
  constexpr bool has_wide_codes() const { return offset == 128; }

  constexpr int unit_columns() const { return super ? 256 : 64; }
  constexpr int groups() const { return unit_columns() / group; }
  constexpr int scale_bytes() const {
    return super ? groups() * strip_rows : groups() * strip_rows * 2;
  }
  // Byte offsets within a unit.
  constexpr int scales_at() const { return super ? 64 : 0; }
  constexpr int mins_at() const { return scales_at() + scale_bytes(); }
  constexpr int codes_at() const { return mins_at() + (has_min ? scale_bytes() : 0); }
  // Bytes of the codes of 32 columns.
  constexpr int code_bytes() const { return 64 * bits; }
  constexpr int unit_bytes() const { return codes_at() + unit_columns() / 32 * code_bytes(); }
};

constexpr TileFormat tile_format(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return {dtype, 4, Levels::none, false, false, 8, 32};
    case DType::q4_1:
      return {dtype, 4, Levels::none, false, true, 0, 32};
    case DType::q5_0:
      return {dtype, 5, Levels::none, false, false, 16, 32};
    case DType::q5_1:
      return {dtype, 5, Levels::none, false, true, 0, 32};
    case DType::q8_0:
      return {dtype, 8, Levels::none, false, false, 128, 32};
    case DType::iq4_nl:
      return {dtype, 4, Levels::iq4, false, false, 128, 32};
    case DType::mxfp4:
      return {dtype, 4, Levels::mxfp4, false, false, 16, 32};
    case DType::q2_k:
      return {dtype, 2, Levels::none, true, true, 0, 16};
    case DType::q3_k:
      return {dtype, 3, Levels::none, true, false, 4, 16};
    case DType::q4_k:
      return {dtype, 4, Levels::none, true, true, 0, 32};
    case DType::q5_k:
      return {dtype, 5, Levels::none, true, true, 0, 32};
    case DType::q6_k:
      return {dtype, 6, Levels::none, true, false, 32, 16};
    case DType::iq4_xs:
      return {dtype, 4, Levels::iq4, true, false, 128, 32};
    default:
      return {dtype, 8, Levels::none, false, false, 0, 0};  // not a tile format
  }
}

// Packs up to 16 rows of `columns` columns into one strip of `units` units.
// Writes every byte of it. Exact for every bit pattern of a block.
//   rows: pointers to file rows; the first `count` of 16.
void pack_strip(DType dtype, const std::byte* const* rows, int count, int64_t columns,
                std::byte* strip);
// The file's bytes of row `row` of a strip again.
void unpack_row(DType dtype, const std::byte* strip, int row, int64_t columns, std::byte* out);

constexpr int64_t units_of(const TileFormat& format, int64_t columns) {
  return (columns + format.unit_columns() - 1) / format.unit_columns();
}

}  // namespace ridge::backend::cpu
