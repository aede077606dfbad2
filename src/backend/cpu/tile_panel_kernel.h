#pragma once

#include "backend/cpu/panel_kernel.h"
#include "backend/cpu/tile_block.h"

// panel.h's products on AMX tiles (tile_block.h): the rows are two blocks of tokens, the columns
// two strips.
namespace ridge::backend::cpu {
namespace {

template <class Tiles>
struct TilePanel {
  // Sums of up to two blocks.
  template <int Blocks, int Strips, int Parts>
  static void multiply(const PanelProduct& job, const bf16_bits* tokens, const std::byte*& fetch,
                       float* sums) {
    using Block = TileBlock<Tiles, Blocks, Strips>;
    constexpr int64_t line = tile_row_bytes;
    const int64_t block_floats = static_cast<int64_t>(job.block_tokens) * strip_rows;
    const typename Block::Places at = {sums, sums + block_floats, sums + Strips * block_floats,
                                       sums + (Strips + 1) * block_floats};
    job.accumulate ? Block::load_sums(at, line) : Block::zero_sums();
    const int64_t rest = static_cast<int64_t>(job.block_tokens) * panel_group;
    const int64_t block_stride = job.block_stride, panel_stride = job.panel_stride;
    const bf16_bits* panel = job.panels;
    const bf16_bits* const end = panel + panel_elements(job.columns, Parts);
    for (; panel < end; panel += panel_elements(panel_group, Parts), tokens += Parts * rest) {
      for (int i = 0; i < job.fetch_lines; ++i, fetch += 64) __builtin_prefetch(fetch, 0, 2);
      Block::load_columns(panel, panel + panel_stride, line);
      Block::load_rows(tokens, tokens + block_stride, line);
      Block::dot();
      if constexpr (Parts == 2) {
        Block::load_rows(tokens + rest, tokens + rest + block_stride, line);
        Block::dot();
        const bf16_bits* panel_rest = panel + panel_elements(panel_group, 1);
        Block::load_columns(panel_rest, panel_rest + panel_stride, line);
        Block::load_rows(tokens, tokens + block_stride, line);
        Block::dot();
      }
    }
    Block::store_sums(at, line);
  }

  template <int Strips, int Parts>
  static void run(const PanelProduct& job) {
    const int64_t floats = static_cast<int64_t>(job.block_tokens) * strip_rows * Strips;
    const bf16_bits* tokens = job.tokens;
    const std::byte* fetch = job.fetch;
    int block = 0;
    for (; block + 2 <= job.blocks; block += 2, tokens += 2 * job.block_stride) {
      multiply<2, Strips, Parts>(job, tokens, fetch, job.sums + block * floats);
    }
    if (block < job.blocks) {
      multiply<1, Strips, Parts>(job, tokens, fetch, job.sums + block * floats);
    }
  }

  static void product(const PanelProduct& job) {
    if (job.parts == 2) {
      job.strips == 2 ? run<2, 2>(job) : run<1, 2>(job);
    } else {
      job.strips == 2 ? run<2, 1>(job) : run<1, 1>(job);
    }
  }
};

template <class V, class Tiles>
void fill_tile_panel(KernelTable& table) {
  fill_panel_operands<V, 1>(table.panel);
  fill_panel_operands<V, 2>(table.panel);
  table.panel.min_tokens[0] = 16;
  table.panel.min_tokens[1] = 32;
  table.panel.begin_products = &begin_tile_blocks<Tiles>;
  table.panel.end_products = &Tiles::release;
  table.panel.product = &TilePanel<Tiles>::product;
}

}  // namespace
}  // namespace ridge::backend::cpu
