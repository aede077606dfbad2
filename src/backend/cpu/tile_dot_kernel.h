#pragma once

#include <utility>

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/tiles.h"

// linear straight from the weight's tiles on AMX: 16 rows of a weight times up to 64 rows of
// activations, the same sums in the same order as QuantizedDot, bit for bit.
//
// The activations are one int8 matrix, cut into blocks of 16 rows; 32 columns of a strip are 8 rows
// of a B tile as they stand in memory, once codes of less than 8 bits are unpacked. Groups of 16
// columns multiply all 32 with the other half's codes zero, so that one configuration serves every
// format. Sums of a group leave the tiles as int32 and are scaled and added up in float32, one
// group behind the tiles, so that the two overlap.
namespace ridge::backend::cpu {
namespace {

// The 8 quads of 32 columns in bytes (see quad_codes).
template <class V, DType D>
void load_quads(const std::byte* at, typename V::B (&quads)[8]) {
  const auto load = [&]<int... Quad>(std::integer_sequence<int, Quad...>) {
    ((quads[Quad] = quad_codes<V, D, Quad>(at)), ...);
  };
  load(std::make_integer_sequence<int, 8>());
}

// Tiles: sums 0 … 3, activations 4 (a whole block) and 5 (the last one), weights 6.
constexpr int dot_full = 4;
constexpr int dot_last = 5;
constexpr int dot_codes = 6;

template <class Tiles>
void begin_tile_dots(int count) {
  const int blocks = (count + tile_rows - 1) / tile_rows;
  const int last_rows = count - (blocks - 1) * tile_rows;
  TileConfig config;
  for (int block = 0; block < blocks - 1; ++block) config.set(block, tile_rows, tile_row_bytes);
  config.set(blocks - 1, last_rows, tile_row_bytes);
  if (blocks > 1) config.set(dot_full, tile_rows, activation_group);
  config.set(dot_last, last_rows, activation_group);
  config.set(dot_codes, activation_group / 4, tile_row_bytes);
  Tiles::configure(config);
}

template <class V, class Tiles, DType D>
struct TileDot {
  static constexpr TileFormat format = tile_format(D);
  static constexpr int groups32 = format.unit_columns() / 32;
  static constexpr int halves = 32 / format.group;
  using Dot = QuantizedDot<V, D, 1>;
  using Rows = typename Dot::Rows;
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;
  static_assert(!V::byte_codes_are_signed, "tiles take the codes as they are");

  using Dots = int32_t[halves][max_dot_rows][strip_rows];

  // 32 columns of codes, 64 bytes a quad. With two halves: quads 0 to 3, four of zeros, quads 4 to
  // 7, so that the first 8 are the first half's tile and the last 8 the second's.
  struct Codes {
    alignas(64) std::byte quads[(halves == 2 ? 12 : 8) * 64] = {};

    const std::byte* unpack(const std::byte* unit, int g) {
      const std::byte* from = unit + format.codes_at() + g * format.code_bytes();
      if constexpr (format.bits == 8 && halves == 1) return from;
      for (int row = 0; row < strip_rows; row += V::lanes) {
        B unpacked[8];
        load_quads<V, D>(from + 4 * row, unpacked);
        for (int quad = 0; quad < 8; ++quad) {
          const int place = halves == 2 && quad >= 4 ? quad + 4 : quad;
          V::store_bytes(quads + 64 * place + 4 * row, unpacked[quad]);
        }
      }
      return quads;
    }
  };

  // dots[half][row of the matrix][16] of one group of 32 columns, for `Blocks` blocks of rows.
  template <int Blocks>
  static void multiply(const std::byte* quads, const int8_t* matrix, Dots& dots) {
    for (int half = 0; half < halves; ++half) {
      Tiles::template load<dot_codes>(quads + half * 4 * 64, tile_row_bytes);
      const auto each = [&]<int... Block>(std::integer_sequence<int, Block...>) {
        (multiply_block<Block, Blocks>(matrix, dots[half]), ...);
      };
      each(std::make_integer_sequence<int, Blocks>());
    }
  }
  template <int Block, int Blocks>
  static void multiply_block(const int8_t* matrix, int32_t (&dots)[max_dot_rows][strip_rows]) {
    constexpr int rows = Block == Blocks - 1 ? dot_last : dot_full;
    Tiles::template zero<Block>();
    Tiles::template load<rows>(matrix + Block * tile_rows * activation_group, activation_group);
    Tiles::template dot_s8u8<Block, rows, dot_codes>();
    Tiles::template store<Block>(dots[Block * tile_rows], tile_row_bytes);
  }

  // Σ (code - offset) x of one row of the matrix, from Σ code · x.
  static I centred(const int32_t* dots, int32_t code_sum) {
    const I sum = V::load_ints(dots);
    if constexpr (Dot::offset == 0) return sum;
    return V::iadd(sum, V::iset1(code_sum * Dot::offset));
  }

  // -Σ codes of a row, of half a group where halves have scales of their own.
  static int32_t code_sum(const ActivationTile& x, int half, int i) {
    if (halves == 2) return x.code_sums[half * x.count + i];
    return x.code_sums[i] + x.code_sums[x.count + i];
  }

  // out += what one group of 32 columns gives; x stands at the group.
  static void apply(const std::byte* unit, int g, const Dots& dots, const ActivationTile& x,
                    float* out) {
    const float* sums = halves == 1 ? x.group_sums : x.half_sums;
    for (int row = 0; row < strip_rows; row += V::lanes) {
      const Rows rows(unit, row);
      F scale[halves], min[halves];
      for (int half = 0; half < halves; ++half) {
        scale[half] = rows.scale(halves * g + half);
        if constexpr (format.has_min) min[half] = rows.min(halves * g + half);
      }
      for (int i = 0; i < x.count; ++i) {
        F acc = V::load(out + i * strip_rows + row);
        for (int half = 0; half < halves; ++half) {
          const I dot = centred(dots[half][i] + row, code_sum(x, half, i));
          acc = V::fma(V::mul(scale[half], V::set1(x.scales[i])), V::to_float(dot), acc);
        }
        if constexpr (format.has_min) {
          for (int half = 0; half < halves; ++half) {
            acc = V::fma(min[half], V::set1(sums[half * x.count + i]), acc);
          }
        }
        V::store(out + i * strip_rows + row, acc);
      }
    }
  }

  template <int Blocks>
  static void run_blocks(const std::byte* strip, int64_t units, ActivationTile x,
                         const std::byte* next, float* out) {
    Codes codes[2];
    alignas(64) Dots dots[2];
    ActivationTile ahead = x;
    const auto unit = [&](int64_t g) { return strip + g / groups32 * format.unit_bytes(); };
    const int64_t groups = units * groups32;
    for (int64_t g = 0; g <= groups; ++g) {
      if (g < groups) {
        const auto in_unit = static_cast<int>(g % groups32);
        if (next != nullptr && in_unit == 0) Dot::prefetch_unit(next + (unit(g) - strip));
        multiply<Blocks>(codes[g % 2].unpack(unit(g), in_unit), ahead.codes, dots[g % 2]);
        ahead.advance();
      }
      if (g == 0) continue;
      apply(unit(g - 1), static_cast<int>((g - 1) % groups32), dots[(g - 1) % 2], x, out);
      x.advance();
    }
  }

  static void run(const std::byte* strip, int64_t units, const ActivationTile& x,
                  const std::byte* next, float* out) {
    for (int i = 0; i < x.count * strip_rows; i += V::lanes) V::store(out + i, V::zero());
    switch ((x.count + tile_rows - 1) / tile_rows) {
      case 1:
        return run_blocks<1>(strip, units, x, next, out);
      case 2:
        return run_blocks<2>(strip, units, x, next, out);
      case 3:
        return run_blocks<3>(strip, units, x, next, out);
      default:
        return run_blocks<4>(strip, units, x, next, out);
    }
  }
};

template <class V, class Tiles, DType... Quantized>
void fill_tile_dots_of(TileDotKernels& tiles) {
  ((tiles.dot[static_cast<int>(Quantized)] = &TileDot<V, Tiles, Quantized>::run), ...);
}

template <class V, class Tiles>
void fill_tile_dots(KernelTable& table) {
  using enum DType;
  TileDotKernels& tiles = table.tiles;
  tiles.min_tokens = 5;
  fill_tile_dots_of<V, Tiles, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl,
                    iq4_xs>(tiles);
  tiles.quantize_row = &quantize_row<V, CodeOrder::rows>;
  tiles.begin = &begin_tile_dots<Tiles>;
  tiles.end = &Tiles::release;
}

}  // namespace
}  // namespace ridge::backend::cpu
