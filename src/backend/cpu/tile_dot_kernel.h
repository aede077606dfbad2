#pragma once

#include <utility>

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/tiles.h"

// linear straight from the weight's tiles on AMX: 16 rows of a weight times up to 32 rows of
// activations, the same sums in the same order as QuantizedDot, bit for bit.
//
// The activations are one int8 matrix, cut into blocks of 16 rows; 32 columns of a strip are 8 rows
// of a B tile as they stand in memory, once codes of less than 8 bits are unpacked. Groups of 16
// columns multiply all 32 with the other half's codes zero, so that one configuration serves every
// format. Sums of a group leave the tiles as int32 and are scaled and added up in float32, one unit
// behind the tiles, so that the two overlap and a row's sum stays in a register for a whole unit.
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

// Tiles: sums 0 and 1, in the groups between 2 and 3; activations 4 (a whole block) and 5 (the last
// one); weights 6, in the groups between 7. A product waits for its loads and a store for its
// product, and those of the next group need not wait for that.
constexpr int dot_full = 4;
constexpr int dot_last = 5;
constexpr int dot_codes = 6;

template <class Tiles>
void begin_tile_dots(int rows) {
  const int blocks = (rows + tile_rows - 1) / tile_rows;
  const int last_rows = rows - (blocks - 1) * tile_rows;
  TileConfig config;
  for (int turn = 0; turn < 2; ++turn) {
    if (blocks > 1) config.set(2 * turn, tile_rows, tile_row_bytes);
    config.set(2 * turn + blocks - 1, last_rows, tile_row_bytes);
    config.set(dot_codes + turn, activation_group / 4, tile_row_bytes);
  }
  if (blocks > 1) config.set(dot_full, tile_rows, activation_group);
  config.set(dot_last, last_rows, activation_group);
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

  // Of the 32 columns of a group, and of all groups of a unit.
  using Dots = int32_t[halves][max_dot_rows][strip_rows];
  using UnitDots = Dots[groups32];

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
  template <int Blocks, int Turn>
  static void multiply(const std::byte* quads, const int8_t* matrix, Dots& dots) {
    if constexpr (Blocks == 2) Tiles::template load<dot_full>(matrix, activation_group);
    Tiles::template load<dot_last>(matrix + (Blocks - 1) * tile_rows * activation_group,
                                   activation_group);
    multiply_half<Blocks, Turn>(quads, dots[0]);
    if constexpr (halves == 2) multiply_half<Blocks, 1 - Turn>(quads + 4 * 64, dots[1]);
  }
  template <int Blocks, int Turn>
  static void multiply_half(const std::byte* quads, int32_t (&dots)[max_dot_rows][strip_rows]) {
    constexpr int codes = dot_codes + Turn, last = 2 * Turn + Blocks - 1;
    Tiles::template load<codes>(quads, tile_row_bytes);
    if constexpr (Blocks == 2) {
      Tiles::template zero<2 * Turn>();
      Tiles::template dot_s8u8<2 * Turn, dot_full, codes>();
    }
    Tiles::template zero<last>();
    Tiles::template dot_s8u8<last, dot_last, codes>();
    if constexpr (Blocks == 2) Tiles::template store<2 * Turn>(dots[0], tile_row_bytes);
    Tiles::template store<last>(dots[(Blocks - 1) * tile_rows], tile_row_bytes);
  }

  // Σ (code - offset) x of one row of the matrix, from Σ code · x.
  static I centred(const int32_t* dots, int32_t code_sum) {
    const I sum = V::load_ints(dots);
    if constexpr (Dot::offset == 0) return sum;
    return V::iadd(sum, V::iset1(code_sum * Dot::offset));
  }

  // -Σ codes of a token, of half a group where halves have scales of their own.
  static int32_t code_sum(const ActivationTile& x, int half, int i) {
    if (halves == 2) return x.code_sums[half * x.tokens + i];
    return x.code_sums[i] + x.code_sums[x.tokens + i];
  }
  // Of a token's rows.
  static I dot_of(const int32_t (&dots)[max_dot_rows][strip_rows], const ActivationTile& x,
                  int half, int i, int first_row) {
    const int32_t* last = dots[(i + 1) * x.planes - 1] + first_row;
    const I dot = centred(last, code_sum(x, half, i));
    if (x.planes == 1) return dot;
    return join_planes<V>(V::load_ints(last - strip_rows), dot);
  }

  // The scales and minima of a unit.
  struct UnitScales {
    static constexpr int parts = strip_rows / V::lanes;
    F scale[parts][groups32 * halves];
    F min[parts][format.has_min ? groups32 * halves : 1];

    void load(const std::byte* unit) {
      for (int part = 0; part < parts; ++part) {
        const Rows rows(unit, part * V::lanes);
        for (int i = 0; i < groups32 * halves; ++i) {
          scale[part][i] = rows.scale(i);
          if constexpr (format.has_min) min[part][i] = rows.min(i);
        }
      }
    }
  };

  // out += what a unit gives for tokens [first, last); x stands at the unit.
  static void apply(const UnitDots& dots, const UnitScales& scales, const ActivationTile& x,
                    int first, int last, float* out) {
    for (int i = first; i < last; ++i) {
      for (int part = 0; part < UnitScales::parts; ++part) {
        apply_row(dots, scales, x, i, part, out + i * strip_rows + part * V::lanes);
      }
    }
  }
  static void apply_row(const UnitDots& dots, const UnitScales& scales, ActivationTile x, int i,
                        int part, float* out) {
    F acc = V::load(out);
#pragma GCC unroll 8
    for (int g = 0; g < groups32; ++g, x.advance()) {
      const auto& scale = scales.scale[part];
      for (int half = 0; half < halves; ++half) {
        const I dot = dot_of(dots[g][half], x, half, i, part * V::lanes);
        acc = V::fma(V::mul(scale[halves * g + half], V::set1(x.scales[i])), V::to_float(dot), acc);
      }
      if constexpr (format.has_min) {
        const float* sums = halves == 1 ? x.group_sums : x.half_sums;
        for (int half = 0; half < halves; ++half) {
          acc =
              V::fma(scales.min[part][halves * g + half], V::set1(sums[half * x.tokens + i]), acc);
        }
      }
    }
    V::store(out, acc);
  }

  // The walk over a strip: in each turn the codes of one group are unpacked, the tiles multiply the
  // group before, whose bytes have reached the cache by then, and the vectors scale some rows of
  // the unit before.
  template <int Blocks>
  static void run_blocks(const std::byte* strip, int64_t units, ActivationTile x,
                         const std::byte* next, float* out) {
    Codes codes[2];
    alignas(64) UnitDots dots[2];
    UnitScales scales;
    ActivationTile ahead = x;
    const int share = (x.tokens + groups32 - 1) / groups32;
    const std::byte* ready = codes[0].unpack(strip, 0);
    const auto turn = [&]<int Turn>(int64_t u, int g) {
      if (u < units) {
        const std::byte* unit = strip + u * format.unit_bytes();
        if (next != nullptr) Dot::fetch_share(next + u * format.unit_bytes(), g);
        const std::byte* quads = ready;
        if (g + 1 < groups32) {
          ready = codes[1 - Turn].unpack(unit, g + 1);
        } else if (u + 1 < units) {
          ready = codes[1 - Turn].unpack(unit + format.unit_bytes(), 0);
        }
        multiply<Blocks, Turn>(quads, ahead.codes, dots[u % 2][g]);
        ahead.advance();
      }
      if (u > 0) {
        const int last = (g + 1) * share < x.tokens ? (g + 1) * share : x.tokens;
        apply(dots[(u - 1) % 2], scales, x, g * share, last, out);
      }
    };
    for (int64_t u = 0; u <= units; ++u) {
      if (u > 0) scales.load(strip + (u - 1) * format.unit_bytes());
      for (int g = 0; g < groups32; g += 2) {
        turn.template operator()<0>(u, g);
        turn.template operator()<1>(u, g + 1);
      }
      if (u == 0) continue;
      for (int g = 0; g < groups32; ++g) x.advance();
    }
  }

  static void run(const std::byte* strip, int64_t units, const ActivationTile& x,
                  const std::byte* next, float* out) {
    for (int i = 0; i < x.tokens * strip_rows; i += V::lanes) V::store(out + i, V::zero());
    if (x.rows() <= tile_rows) {
      run_blocks<1>(strip, units, x, next, out);
    } else {
      run_blocks<2>(strip, units, x, next, out);
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
                    iq4_xs, mxfp4>(tiles);
  tiles.quantize_row = &quantize_row<V, CodeOrder::rows>;
  tiles.begin = &begin_tile_dots<Tiles>;
  tiles.end = &Tiles::release;
}

}  // namespace
}  // namespace ridge::backend::cpu
