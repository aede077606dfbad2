#pragma once

#include <cstdint>

// AMX's tile registers as the kernels see them. A kernel takes one of two types with the same
// static members: HardwareTiles (tiles_amx.h) and EmulatedTiles (tiles_emulated.h).
//
//   configure(config)           sets the shapes of this thread's tiles, and all of them to zero
//   release()                   this thread has no tiles any more
//   zero<T>()
//   load<T>(from, stride)       rows of column_bytes[T], `stride` bytes apart
//   load_passing<T>(from, stride)   the same of what will not be read again soon
//   store<T>(to, stride)
//   dot_bf16<C, A, B>()         tdpbf16ps: C[m][n] += A[m][k] · B[k / 2][n][k % 2], float32 += bfloat16
//   dot_s8u8<C, A, B>()         tdpbsud:   C[m][n] += A[m][k] · B[k / 4][n][k % 4], int32 += int8 · uint8
//   dot_s8s8<C, A, B>()         tdpbssd:   the same of int8 · int8
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 (LDTILECFG,
// TILELOADD, TILELOADDT1, TILESTORED, TDPBSUD, TDPBSSD, TDPBF16PS).
namespace ridge::backend::cpu {
namespace {  // each kernels_*.cc owns its copy, as in simd_avx512.h

constexpr int tile_count = 8;
constexpr int tile_rows = 16;
constexpr int tile_row_bytes = 64;

// The operand of ldtilecfg, palette 1.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t column_bytes[16] = {};  // of a row, at most 64; tiles from 8 on: zero
  uint8_t rows[16] = {};           // at most 16

  void set(int tile, int tile_rows_used, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows_used);
    column_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace
}  // namespace ridge::backend::cpu
