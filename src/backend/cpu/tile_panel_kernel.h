#pragma once

#include "backend/cpu/panel_kernel.h"
#include "backend/cpu/tiles.h"

// panel.h's products on AMX tiles: two blocks of tokens by two strips at a time, so that four loads
// feed four products.
//
//              B: strip 0   B: strip 1
//                 tile 6       tile 7
//   A: block 0 ┌──────────┬──────────┐
//      tile 4  │  tile 0  │  tile 1  │
//   A: block 1 ├──────────┼──────────┤
//      tile 5  │  tile 2  │  tile 3  │
//              └──────────┴──────────┘
namespace ridge::backend::cpu {
namespace {

template <class Tiles>
struct TilePanel {
  static void begin(int block_tokens) {
    TileConfig config;
    for (int tile = 0; tile < 6; ++tile) config.set(tile, block_tokens, tile_row_bytes);
    for (int tile = 6; tile < 8; ++tile) config.set(tile, tile_rows, tile_row_bytes);
    Tiles::configure(config);
  }
  static void end() { Tiles::release(); }

  template <int Blocks, int Strips>
  static void dot() {
    Tiles::template dot_bf16<0, 4, 6>();
    if constexpr (Strips == 2) Tiles::template dot_bf16<1, 4, 7>();
    if constexpr (Blocks == 2) Tiles::template dot_bf16<2, 5, 6>();
    if constexpr (Blocks == 2 && Strips == 2) Tiles::template dot_bf16<3, 5, 7>();
  }
  template <int Blocks>
  static void load_tokens(const bf16_bits* tokens, int64_t block_stride) {
    Tiles::template load<4>(tokens, tile_row_bytes);
    if constexpr (Blocks == 2) Tiles::template load<5>(tokens + block_stride, tile_row_bytes);
  }
  template <int Strips>
  static void load_panels(const bf16_bits* panel, int64_t panel_stride) {
    Tiles::template load<6>(panel, tile_row_bytes);
    if constexpr (Strips == 2) Tiles::template load<7>(panel + panel_stride, tile_row_bytes);
  }

  // Sums of up to two blocks.
  template <int Blocks, int Strips, int Parts>
  static void multiply(const PanelProduct& job, const bf16_bits* tokens, const std::byte*& fetch,
                       float* sums) {
    constexpr int64_t line = tile_row_bytes;
    const int64_t block_floats = static_cast<int64_t>(job.block_tokens) * strip_rows;
    float* const at[4] = {sums, sums + block_floats, sums + Strips * block_floats,
                          sums + (Strips + 1) * block_floats};
    const auto each_sum = [&](auto zero_or_load) {
      zero_or_load.template operator()<0>(at[0]);
      if constexpr (Strips == 2) zero_or_load.template operator()<1>(at[1]);
      if constexpr (Blocks == 2) zero_or_load.template operator()<2>(at[2]);
      if constexpr (Blocks == 2 && Strips == 2) zero_or_load.template operator()<3>(at[3]);
    };
    if (job.accumulate) {
      each_sum([]<int T>(float* from) { Tiles::template load<T>(from, line); });
    } else {
      each_sum([]<int T>(float*) { Tiles::template zero<T>(); });
    }
    const int64_t rest = static_cast<int64_t>(job.block_tokens) * panel_group;
    const int64_t block_stride = job.block_stride, panel_stride = job.panel_stride;
    const bf16_bits* panel = job.panels;
    const bf16_bits* const end = panel + panel_elements(job.columns, Parts);
    for (; panel < end; panel += panel_elements(panel_group, Parts), tokens += Parts * rest) {
      for (int i = 0; i < job.fetch_lines; ++i, fetch += 64) __builtin_prefetch(fetch, 0, 2);
      load_panels<Strips>(panel, panel_stride);
      load_tokens<Blocks>(tokens, block_stride);
      dot<Blocks, Strips>();
      if constexpr (Parts == 2) {
        load_tokens<Blocks>(tokens + rest, block_stride);
        dot<Blocks, Strips>();
        load_panels<Strips>(panel + panel_elements(panel_group, 1), panel_stride);
        load_tokens<Blocks>(tokens, block_stride);
        dot<Blocks, Strips>();
      }
    }
    each_sum([]<int T>(float* to) { Tiles::template store<T>(to, line); });
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
  table.panel.begin_products = &TilePanel<Tiles>::begin;
  table.panel.end_products = &TilePanel<Tiles>::end;
  table.panel.product = &TilePanel<Tiles>::product;
}

}  // namespace
}  // namespace ridge::backend::cpu
