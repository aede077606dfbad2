#pragma once

#include "backend/cpu/latent_expansion_kernel.h"
#include "backend/cpu/tile_block.h"

// LatentProduct on AMX tiles: 16 rows of it are a tile as they lie, and so are 32 of the rank's columns of 16
// lanes.
namespace ridge::backend::cpu {
namespace {

template <class V, class Tiles>
class TileExpansion {
  static constexpr int depth = tile_row_bytes / 2;  // columns of the rank in a tile

 public:
  static void multiply(const LatentProduct& p) {
    begin_tile_blocks<Tiles>(tile_rows);
    in_pairs(p.vectors, [&]<int N>(int vector) {
      in_pairs(p.count / tile_rows, [&]<int M>(int block) { multiply<M, N>(p, block, vector); });
    });
    Tiles::release();
  }

 private:
  // Rows from 16 · block on by lanes from 16 · vector on.
  template <int M, int N>
  static void multiply(const LatentProduct& p, int block, int vector) {
    using Block = TileBlock<Tiles, M, N>;
    const int64_t stride = static_cast<int64_t>(p.rank) * 2;
    const int64_t vector_bytes = 16 * stride;
    const std::byte* rows = p.rows + block * tile_rows * stride;
    const std::byte* lanes = p.lanes + vector * vector_bytes;
    alignas(64) float sums[2][2][tile_rows][tile_rows];
    Block::zero_sums();
    for (int k = 0; k < p.rank; k += depth, rows += tile_row_bytes, lanes += tile_bytes) {
      Block::load_rows(rows, rows + tile_rows * stride, stride);
      Block::load_columns(lanes, lanes + vector_bytes, tile_row_bytes);
      Block::dot();
    }
    Block::store_sums({sums[0][0], sums[0][1], sums[1][0], sums[1][1]}, tile_row_bytes);
    std::byte* out = p.out + block * tile_rows / 2 * p.out_step + vector * tile_row_bytes;
    for (int m = 0; m < M; ++m) {
      for (int r = 0; r < tile_rows; r += 2, out += p.out_step) {
        for (int n = 0; n < N; ++n) {
          for (int i = 0; i < tile_rows; i += V::lanes) {
            V::store_bf16_pairs(out + n * tile_row_bytes + 4 * i, V::load(sums[m][n][r] + i),
                                V::load(sums[m][n][r + 1] + i));
          }
        }
      }
    }
  }
};

template <class V, class Tiles>
void fill_tile_expansion(KernelTable& table) {
  table.latents[1] = {.dtype = DType::bf16,
                      .rank_multiple = tile_row_bytes / 2,
                      .count_multiple = tile_rows,
                      .take = &take_latents<V, DType::bf16>,
                      .multiply = &TileExpansion<V, Tiles>::multiply};
}

}  // namespace
}  // namespace ridge::backend::cpu
