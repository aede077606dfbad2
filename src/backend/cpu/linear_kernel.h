#pragma once

#include <array>
#include <bit>

#include "backend/cpu/kernels.h"
#include "tensor/blocks.h"

// linear: a strip of rows of a weight times a few tokens, straight from the tiles.
namespace ridge::backend::cpu {
namespace {

// Levels plus their format's offset.
template <DType D>
constexpr std::array<uint8_t, 16> unsigned_levels(const std::array<int8_t, 16>& levels) {
  std::array<uint8_t, 16> sums{};
  for (int i = 0; i < 16; ++i) sums[i] = static_cast<uint8_t>(levels[i] + tile_format(D).offset);
  return sums;
}
constexpr auto unsigned_iq4_levels = unsigned_levels<DType::iq4_nl>(iq4_codebook);
constexpr auto unsigned_mxfp4_levels = unsigned_levels<DType::mxfp4>(mxfp4_levels);

// The codes of quad `Quad` of 32 columns, in bytes, for the rows from the one that `at` points to.
//   at: the codes of 32 columns, plus 4 bytes for each row before
template <class V, DType D, int Quad>
typename V::B quad_codes(const std::byte* at) {
  constexpr TileFormat format = tile_format(D);
  constexpr int bits = format.bits;
  const auto nibble = [at] {
    const auto both = V::load_bytes(at + 64 * (Quad % 4));
    return Quad < 4 ? V::low_nibbles(both) : V::high_nibbles(both);
  };
  // Moves the bits from `Field` on to bit `To` of each byte; what comes along is for the caller to
  // drop.
  const auto part = []<int Field, int To>(const std::byte* plane) {
    return V::template shifted<Field - To>(V::load_bytes(plane));
  };
  if constexpr (bits == 8) {
    return V::load_bytes(at + 64 * Quad);
  } else if constexpr (bits == 4) {
    if constexpr (format.levels == Levels::iq4) return V::level(unsigned_iq4_levels, nibble());
    if constexpr (format.levels == Levels::mxfp4) return V::level(unsigned_mxfp4_levels, nibble());
    return nibble();
  } else if constexpr (bits == 5) {
    return V::join(nibble(), part.template operator()<Quad, 4>(at + 256), 0x10);
  } else if constexpr (bits == 6) {
    const auto* pairs = at + 256 + 64 * (Quad / 4);
    return V::join(nibble(), part.template operator()<2 * (Quad % 4), 4>(pairs), 0x30);
  } else {
    const auto* pairs = at + 64 * (Quad / 4);
    const auto low = V::masked(part.template operator()<2 * (Quad % 4), 0>(pairs), 3);
    if constexpr (bits == 2) {
      return low;
    } else {
      return V::join(low, part.template operator()<Quad, 2>(at + 128), 4);
    }
  }
}

// Codes of two planes, or sums of products of them, from the planes'.
template <class V>
typename V::I join_planes(typename V::I coarse, typename V::I fine) {
  static_assert(plane_steps == 255);
  return V::iadd(V::isub(V::template ishift<8>(coarse), coarse), fine);
}

// A strip times a tile of exactly `Tokens` tokens of `Planes` planes.
template <class V, DType D, int Tokens, int Planes = 1>
struct QuantizedDot {
  static constexpr TileFormat format = tile_format(D);
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;

  static constexpr int groups32 = format.unit_columns() / 32;
  static constexpr bool wide_codes = format.has_wide_codes();
  static constexpr int offset = wide_codes && V::byte_codes_are_signed ? 0 : format.offset;

  // One vector of rows of a unit.
  struct Rows {
    const std::byte* unit;
    int first_row;
    F d, dmin;

    Rows(const std::byte* unit_bytes, int row) : unit(unit_bytes), first_row(row) {
      if constexpr (format.super) {
        d = V::load_f16(unit + 2 * row);
        if constexpr (format.has_min) dmin = V::load_f16(unit + 2 * (strip_rows + row));
      }
    }
    const std::byte* codes(int group32) const {
      return unit + format.codes_at() + group32 * format.code_bytes() + 4 * first_row;
    }
    F scale(int group) const {
      const std::byte* at = unit + format.scales_at();
      if constexpr (format.super) return V::mul(d, V::load_i8(at + group * strip_rows + first_row));
      at += 2 * (group * strip_rows + first_row);
      if constexpr (format.has_bf16_scales()) return V::load_bf16(at);
      return V::load_f16(at);
    }
    F min(int group) const {
      const std::byte* at = unit + format.mins_at();
      if constexpr (!format.super) return V::load_f16(at + 2 * (group * strip_rows + first_row));
      return V::fnma(dmin, V::load_i8(at + group * strip_rows + first_row), V::zero());
    }
  };

  using Dots = I[Tokens][Planes];
  using Sums = F[Tokens];

  // What Σ (code - offset) x starts from, in the last plane; offsets are powers of two.
  //   code_sums: [Halves of 16 columns][Tokens], negative
  template <int Halves>
  static void start(const int32_t* code_sums, Dots& dots) {
    for (int i = 0; i < Tokens; ++i) {
      I sum = V::izero();
      if constexpr (offset != 0) {
        sum = V::iset1(code_sums[i]);
        if constexpr (Halves == 2) sum = V::iadd(sum, V::iset1(code_sums[Tokens + i]));
        sum = V::template ishift<std::countr_zero(static_cast<unsigned>(offset))>(sum);
      }
      dots[i][0] = V::izero();
      dots[i][Planes - 1] = sum;
    }
  }

  template <int Quad>
  static void multiply_quad(const Rows& rows, int group32, const int8_t* x, Dots& dots) {
    const B codes = quad_codes<V, D, Quad>(rows.codes(group32));
    for (int i = 0; i < Tokens; ++i) {
      for (int plane = 0; plane < Planes; ++plane) {
        const int8_t* quad = x + 4 * ((Quad * Tokens + i) * Planes + plane);
        I& dot = dots[i][plane];
        dot = wide_codes ? V::dot4_byte(dot, codes, quad) : V::dot4_small(dot, codes, quad);
      }
    }
  }

  template <int... Quads>
  static void multiply(const Rows& rows, int group32, const int8_t* x, Dots& dots) {
    (multiply_quad<Quads>(rows, group32, x, dots), ...);
  }

  // acc += scale · x's scale · dots.
  static void add_dots(const Rows& rows, int group, const float* scales, const Dots& dots,
                       Sums& acc) {
    const F scale = rows.scale(group);
    for (int i = 0; i < Tokens; ++i) {
      const I dot = Planes == 1 ? dots[i][0] : join_planes<V>(dots[i][0], dots[i][Planes - 1]);
      acc[i] = V::fma(V::mul(scale, V::set1(scales[i])), V::to_float(dot), acc[i]);
    }
  }

  // acc += min · Σ x.
  static void add_min(const Rows& rows, int group, const float* sums, Sums& acc) {
    const F min = rows.min(group);
    for (int i = 0; i < Tokens; ++i) acc[i] = V::fma(min, V::set1(sums[i]), acc[i]);
  }

  // acc += the products of columns [32 g, + 32) of a unit, at which `x` stands.
  static void add_group(const Rows& rows, int g, const ActivationTile& x, Sums& acc) {
    Dots dots;
    if constexpr (format.group == 32) {
      start<2>(x.code_sums, dots);
      multiply<0, 4, 1, 5, 2, 6, 3, 7>(rows, g, x.codes, dots);
      add_dots(rows, g, x.scales, dots, acc);
      if constexpr (format.has_min) add_min(rows, g, x.group_sums, acc);
    } else {
      start<1>(x.code_sums, dots);
      multiply<0, 1, 2, 3>(rows, g, x.codes, dots);
      add_dots(rows, 2 * g, x.scales, dots, acc);
      start<1>(x.code_sums + Tokens, dots);
      multiply<4, 5, 6, 7>(rows, g, x.codes, dots);
      add_dots(rows, 2 * g + 1, x.scales, dots, acc);
      if constexpr (format.has_min) {
        add_min(rows, 2 * g, x.half_sums, acc);
        add_min(rows, 2 * g + 1, x.half_sums + Tokens, acc);
      }
    }
  }

  // Asks for what 32 columns of a unit take: all at once would hold up the loads behind them.
  static void fetch_share(const std::byte* unit, int g) {
    constexpr int lines = format.unit_bytes() / 64;
    for (int i = g * lines / groups32; i < (g + 1) * lines / groups32; ++i) {
      __builtin_prefetch(unit + 64 * i, 0, 2);
    }
  }

  // One vector of the strip's rows, from `row` on.
  static void run_rows(const std::byte* strip, int64_t units, ActivationTile x, int row,
                       const std::byte* next, float* out) {
    x.tokens = Tokens;
    x.planes = Planes;
    Sums acc;
    for (F& a : acc) a = V::zero();
    for (int64_t u = 0; u < units; ++u, strip += format.unit_bytes()) {
      const Rows rows(strip, row);
      for (int g = 0; g < groups32; ++g, x.advance()) {
        if (next != nullptr) fetch_share(next + u * format.unit_bytes(), g);
        add_group(rows, g, x, acc);
      }
    }
    for (int i = 0; i < Tokens; ++i) V::store(out + i * strip_rows + row, acc[i]);
  }

  static void run(const std::byte* strip, int64_t units, const ActivationTile& x,
                  const std::byte* next, float* out) {
    for (int row = 0; row < strip_rows; row += V::lanes) {
      run_rows(strip, units, x, row, row == 0 ? next : nullptr, out);
    }
  }
};

template <class V, DType D>
typename V::F load_weight(const std::byte* p) {
  if constexpr (D == DType::f16) {
    return V::load_f16(p);
  } else if constexpr (D == DType::bf16) {
    return V::load_bf16(p);
  } else {
    return V::load(reinterpret_cast<const float*>(p));
  }
}

template <class V, DType D, int Tokens>
void float_dot(const std::byte* strip, int64_t columns, const float* x, int64_t stride,
               float* out) {
  constexpr int element = D == DType::f32 ? 4 : 2;
  // A single token would leave the multiply-adds waiting for each other, so columns take turns; for
  // any number of tokens the same, so that each one's sum is the same in any batch.
  constexpr int turns = 2;
  using F = typename V::F;
  for (int part = 0; part < strip_rows; part += V::lanes) {
    F acc[turns][Tokens];
    for (auto& row : acc) {
      for (F& a : row) a = V::zero();
    }
    const std::byte* w = strip + part * element;
    int64_t k = 0;
    for (; k + turns <= columns; k += turns) {
      for (int turn = 0; turn < turns; ++turn) {
        const F weight = load_weight<V, D>(w + (k + turn) * strip_rows * element);
        for (int t = 0; t < Tokens; ++t) {
          acc[turn][t] = V::fma(weight, V::set1(x[t * stride + k + turn]), acc[turn][t]);
        }
      }
    }
    for (; k < columns; ++k) {
      const F weight = load_weight<V, D>(w + k * strip_rows * element);
      for (int t = 0; t < Tokens; ++t) {
        acc[0][t] = V::fma(weight, V::set1(x[t * stride + k]), acc[0][t]);
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      F sum = acc[0][t];
      for (int turn = 1; turn < turns; ++turn) sum = V::add(sum, acc[turn][t]);
      V::store(out + t * strip_rows + part, sum);
    }
  }
}

template <class V, DType D, int Tokens = 1>
void fill_dot(KernelTable& table) {
  if constexpr (Tokens <= V::max_tile_rows) {
    constexpr auto dtype = static_cast<int>(D);
    if constexpr (D == DType::f32 || D == DType::f16 || D == DType::bf16) {
      table.float_dot[dtype][Tokens] = &float_dot<V, D, Tokens>;
    } else {
      table.dot[0][dtype][Tokens] = &QuantizedDot<V, D, Tokens>::run;
      if constexpr (2 * Tokens <= V::max_tile_rows) {
        table.dot[1][dtype][Tokens] = &QuantizedDot<V, D, Tokens, 2>::run;
      }
    }
    fill_dot<V, D, Tokens + 1>(table);
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
