#pragma once

#include "backend/cpu/panel_kernel.h"
#include "backend/cpu/tile_block.h"

// panel.h's products on AMX tiles (tile_block.h): the rows are two blocks of tokens, the columns
// two strips.
namespace ridge::backend::cpu {
namespace {

template <class Tiles>
struct TilePanel {
  // Where a product is: of the next blocks, and of what the second-level cache should fetch.
  struct Place {
    const bf16_bits* tokens;
    float* sums;
    const std::byte* fetch;
  };

  // Sums of one or two blocks at once, `turns` times. A turn's sums are stored while the next one's begin, and come
  // to the first-level cache meanwhile: tiles wait for what they load otherwise.
  template <int Blocks, int Strips, int Parts>
  static void multiply(const PanelProduct& job, int turns, Place& at) {
    using Block = TileBlock<Tiles, Blocks, Strips>;
    constexpr int64_t line = tile_row_bytes;
    const int64_t tile_floats = static_cast<int64_t>(job.block_tokens) * strip_rows;
    const int64_t turn_floats = Blocks * Strips * tile_floats;
    const int64_t rest = static_cast<int64_t>(job.block_tokens) * panel_group;
    const auto groups = static_cast<int>(job.columns / panel_group);
    const int sum_lines = (Blocks * Strips * job.block_tokens + groups - 1) / groups;
    typename Block::Places done = {}, sums = {};
    for (int turn = 0; turn < turns; ++turn) {
      for (int tile = 0; tile < 4; ++tile) {
        done[tile] = sums[tile];
        sums[tile] = at.sums + (tile / 2 * Strips + tile % 2) * tile_floats;
      }
      at.sums += turn_floats;
      const auto* next = reinterpret_cast<const std::byte*>(at.sums);
      const bf16_bits* panel = job.panels;
      const bf16_bits* tokens = at.tokens;
      for (int group = 0; group < groups; ++group) {
        for (int i = 0; i < job.fetch_lines; ++i, at.fetch += 64) {
          __builtin_prefetch(at.fetch, 0, 2);
        }
        for (int i = 0; turn + 1 < turns && i < sum_lines; ++i, next += line) {
          __builtin_prefetch(next, 1, 3);
        }
        Block::load_columns(panel, panel + job.panel_stride, line);
        if constexpr (Parts == 1) {
          Block::load_passing_rows(tokens, tokens + job.block_stride, line);
        } else {
          Block::load_rows(tokens, tokens + job.block_stride, line);
        }
        if (group == 0) {
          Block::exchange_sums_and_dot(turn == 0 ? nullptr : &done, sums, job.accumulate, line);
        } else {
          Block::dot();
        }
        if constexpr (Parts == 2) {
          Block::load_rows(tokens + rest, tokens + rest + job.block_stride, line);
          Block::dot();
          const bf16_bits* panel_rest = panel + panel_elements(panel_group, 1);
          Block::load_columns(panel_rest, panel_rest + job.panel_stride, line);
          Block::load_rows(tokens, tokens + job.block_stride, line);
          Block::dot();
        }
        panel += panel_elements(panel_group, Parts);
        tokens += Parts * rest;
      }
      at.tokens += Blocks * job.block_stride;
    }
    Block::store_sums(sums, line);
  }

  template <int Strips, int Parts>
  static void run(const PanelProduct& job) {
    Place at{job.tokens, job.sums, job.fetch};
    if (job.blocks >= 2) multiply<2, Strips, Parts>(job, job.blocks / 2, at);
    if (job.blocks % 2 == 1) multiply<1, Strips, Parts>(job, 1, at);
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
  table.panel.pack_gated = &pack_gated<V>;
  table.panel.min_tokens[0] = 16;
  table.panel.min_tokens[1] = 32;
  table.panel.begin_products = &begin_tile_blocks<Tiles>;
  table.panel.end_products = &Tiles::release;
  table.panel.product = &TilePanel<Tiles>::product;
}

}  // namespace
}  // namespace ridge::backend::cpu
