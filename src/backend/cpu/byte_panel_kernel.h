#pragma once

#include "backend/cpu/byte_panel.h"
#include "backend/cpu/linear_kernel.h"

// byte_panel.h's kernels, for vectors that hold a strip's rows and have a dot product of bytes.
namespace ridge::backend::cpu {
namespace {

constexpr int byte_panel_groups = byte_panel_unit / 32;

// What tells the panels of dtypes apart.
struct BytePanelKind {
  bool has_min;
  int halves;  // scales of 32 columns
  int offset;  // of the codes

  constexpr bool operator==(const BytePanelKind&) const = default;
  constexpr int group_bytes() const { return byte_panel_codes + 2 * halves * 64; }
  // From the unit's first byte.
  constexpr int dmin_at() const { return byte_panel_groups * group_bytes(); }
  constexpr int pairs_at() const { return dmin_at() + 2 * 64; }
  constexpr int unit_bytes() const {
    return has_min ? pairs_at() + byte_panel_groups / 2 * 2 * 64 : dmin_at();
  }
};

constexpr BytePanelKind byte_panel_kind(DType dtype) {
  const TileFormat format = tile_format(dtype);
  return {format.has_min, 32 / format.group, format.offset};
}

template <class V, DType D>
struct BytePanel {
  using Rows = typename QuantizedDot<V, D, 1>::Rows;
  static constexpr TileFormat format = tile_format(D);
  static constexpr BytePanelKind kind = byte_panel_kind(D);
  static_assert(V::lanes == strip_rows && !V::byte_codes_are_signed);
  static_assert(format.super && format.unit_columns() == byte_panel_unit);
  static_assert(kind.unit_bytes() <= byte_panel_unit_bytes);

  // Vector `index` of a place that has one for each strip.
  static float* floats(std::byte* at, int index) {
    return reinterpret_cast<float*>(at) + index * strip_rows;
  }

  static void unpack(const std::byte* from, int64_t columns, int which, int64_t ahead,
                     std::byte* panel) {
    for (; columns > 0; columns -= byte_panel_unit, from += format.unit_bytes()) {
      unpack_unit(Rows(from, 0), which, ahead, panel);
      panel += kind.unit_bytes();
    }
  }

 private:
  static void unpack_unit(const Rows& rows, int which, int64_t ahead, std::byte* unit) {
    std::byte* group = unit;
    for (int g = 0; g < byte_panel_groups; ++g, group += kind.group_bytes()) {
      if (ahead != 0) QuantizedDot<V, D, 1>::fetch_share(rows.unit + ahead, g);
      unpack_quads(rows.codes(g), group + 64 * which, std::make_integer_sequence<int, 8>());
      for (int half = 0; half < kind.halves; ++half) {
        V::store(floats(group + byte_panel_codes, 2 * half + which),
                 rows.scale(kind.halves * g + half));
      }
    }
    if constexpr (kind.has_min) {
      V::store(floats(unit + kind.dmin_at(), which), rows.dmin);
      for (int g = 0; g < byte_panel_groups; g += 2) {
        const std::byte* minima = rows.unit + format.mins_at() + g * strip_rows;
        V::store_bytes(
            unit + kind.pairs_at() + 64 * (g + which),
            V::word_pairs(V::load_byte_ints(minima), V::load_byte_ints(minima + strip_rows)));
      }
    }
  }
  template <int... Quad>
  static void unpack_quads(const std::byte* codes, std::byte* to,
                           std::integer_sequence<int, Quad...>) {
    (V::store_bytes(to + 128 * Quad, quad_codes<V, D, Quad>(codes)), ...);
  }
};

// A panel times a tile of exactly `Count` rows.
template <class V, BytePanelKind Kind, int Count>
struct BytePanelDot {
  using F = typename V::F;
  using I = typename V::I;
  using Sums = F[2][Count];
  using Dots = I[2][Count];

  // What Σ (code - offset) x starts from.
  //   code_sums: of 16 columns, [count], or of both halves
  static void start(const int32_t* code_sums, Dots& dots) {
    for (int i = 0; i < Count; ++i) {
      I sum = V::izero();
      if constexpr (Kind.offset != 0) {
        sum = V::iset1(code_sums[i]);
        if constexpr (Kind.halves == 1) sum = V::iadd(sum, V::iset1(code_sums[Count + i]));
        sum = V::template ishift<std::countr_zero(static_cast<unsigned>(Kind.offset))>(sum);
      }
      dots[0][i] = dots[1][i] = sum;
    }
  }

  // Half: the quads of one scale
  template <int Half>
  static void multiply(const std::byte* codes, const int8_t* x, Dots& dots) {
    constexpr int quads = 8 / Kind.halves;
#pragma GCC unroll 8
    for (int quad = Half * quads; quad < (Half + 1) * quads; ++quad) {
      const auto first = V::load_bytes(codes + 128 * quad);
      const auto second = V::load_bytes(codes + 128 * quad + 64);
      for (int i = 0; i < Count; ++i) {
        const I four = V::quad(x + 4 * (quad * Count + i));
        dots[0][i] = V::dot4(dots[0][i], first, four);
        dots[1][i] = V::dot4(dots[1][i], second, four);
      }
    }
  }

  // acc += scale · 2^shift · dots; scales: [2 strips][16]
  static void add_dots(const float* scales, const int32_t* shifts, const Dots& dots, Sums& acc) {
    for (int s = 0; s < 2; ++s) {
      const F scale = V::load(scales + s * strip_rows);
      for (int i = 0; i < Count; ++i) {
        acc[s][i] = V::fma(scale, V::add_exponent(V::to_float(dots[s][i]), shifts + i), acc[s][i]);
      }
    }
  }

  // 32 columns of both strips.
  static void add_group(const std::byte* group, const int8_t* codes, const int32_t* code_sums,
                        const int32_t* shifts, Sums& acc) {
    const auto* scales = reinterpret_cast<const float*>(group + byte_panel_codes);
    Dots dots;
    start(code_sums, dots);
    multiply<0>(group, codes, dots);
    add_dots(scales, shifts, dots, acc);
    if constexpr (Kind.halves == 2) {
      start(code_sums + Count, dots);
      multiply<1>(group, codes, dots);
      add_dots(scales + 2 * strip_rows, shifts, dots, acc);
    }
  }

  // out (+)= step · (what a unit gave - dmin · its minima).
  static void finish_unit(const std::byte* unit, const ByteTile& x, bool accumulate,
                          const Sums& acc, float* out) {
    constexpr int pairs = byte_panel_groups / 2;
    // Or the sums would have to leave their registers.
#pragma GCC unroll 2
    for (int s = 0; s < 2; ++s) {
      typename V::B minima[pairs];
      if constexpr (Kind.has_min) {
        for (int pair = 0; pair < pairs; ++pair) {
          minima[pair] = V::load_bytes(unit + Kind.pairs_at() + 64 * (2 * pair + s));
        }
      }
      for (int i = 0; i < Count; ++i, out += strip_rows) {
        F sum = acc[s][i];
        if constexpr (Kind.has_min) {
          I taken = V::izero();
          for (int pair = 0; pair < pairs; ++pair) {
            taken = V::dot2_words(taken, minima[pair], x.pair_sums + 2 * (pair * Count + i));
          }
          const auto* dmin = reinterpret_cast<const float*>(unit + Kind.dmin_at());
          sum = V::fnma(V::load(dmin + s * strip_rows), V::to_float(taken), sum);
        }
        V::store(out, V::fma(sum, V::set1(x.steps[i]), accumulate ? V::load(out) : V::zero()));
      }
    }
  }

  static void run(const std::byte* panel, int64_t columns, ByteTile x, bool accumulate,
                  float* out) {
    x.count = Count;
    for (; columns > 0; columns -= byte_panel_unit, panel += Kind.unit_bytes()) {
      Sums acc;
      for (auto& strip : acc) {
        for (F& sum : strip) sum = V::zero();
      }
      for (int g = 0; g < byte_panel_groups; ++g) {
        add_group(panel + g * Kind.group_bytes(), x.codes + g * 32 * Count,
                  x.code_sums + g * 2 * Count, x.shifts + g * Count, acc);
      }
      finish_unit(panel, x, accumulate, acc, out);
      accumulate = true;
      x = x.from_column(byte_panel_unit);
    }
  }
};

template <class V, BytePanelKind Kind, int Count = byte_panel_rows>
void multiply_panel_tile(const std::byte* panel, int64_t columns, const ByteTile& x,
                         bool accumulate, float* out) {
  if constexpr (Count > 1) {
    if (x.count != Count) {
      return multiply_panel_tile<V, Kind, Count - 1>(panel, columns, x, accumulate, out);
    }
  }
  BytePanelDot<V, Kind, Count>::run(panel, columns, x, accumulate, out);
}

template <class V, BytePanelKind Kind>
void multiply_panel(const std::byte* panel, int64_t columns, const ByteTile* x, int tiles,
                    bool accumulate, float* out) {
  for (const ByteTile* end = x + tiles; x < end; ++x, out += byte_panel_tile_sums) {
    multiply_panel_tile<V, Kind>(panel, columns, *x, accumulate, out);
  }
}

// The shifts of groups whose largest numbers are most_of, [lanes], and what the coarsest of them
// has room for, at least `most`, the largest of all: of four choices that with the finest steps on
// the whole.
template <class V>
float choose_shifts(const float* most_of, float most, int32_t* shifts) {
  using F = typename V::F;
  constexpr float least = 1.0f / (1 << byte_panel_most_shift);
  float room = most, fewest = 0;
  const F shares = V::div(V::load(most_of), V::set1(most));
  for (const float wider : {1.0f, 1.189207f, 1.414214f, 1.681793f}) {
    const F of_room = V::mul(shares, V::set1(1 / wider));
    const auto bits = V::power_above(V::max(of_room, V::set1(least)));
    const F steps = V::mul(V::from_bits(bits), V::set1(wider));
    const float squares = V::reduce_add(V::mul(steps, steps));
    if (wider > 1.0f && squares >= fewest) continue;
    fewest = squares;
    room = most * wider;
    const auto above = V::isub(bits, V::iset1(std::bit_cast<int32_t>(least)));
    V::store_ints(shifts, V::template shifted_ints<23>(above));
  }
  return room;
}

// 256 columns of x as row `row` of a tile.
template <class V>
void quantize_unit(const float* x, const ByteTile& to, int row) {
  using F = typename V::F;
  static_assert(byte_panel_groups <= V::lanes);
  static_assert(2 * V::lanes == 32);
  alignas(64) float most_of[V::lanes] = {};
  F best = V::zero();
  for (int first = 0; first < byte_panel_groups; first += 4) {
    F four[4];
    for (int i = 0; i < 4; ++i) {
      const float* group = x + 32 * (first + i);
      four[i] = V::max(V::abs(V::load(group)), V::abs(V::load(group + V::lanes)));
      best = V::max(best, four[i]);
    }
    V::reduce_max(four, most_of + first);
  }
  const float most = V::reduce_max(best);
  int32_t shifts[V::lanes] = {};
  const float room = most > 0 ? choose_shifts<V>(most_of, most, shifts) : 0;
  const float inverse = most > 0 ? 127.0f / room : 0;
  to.steps[row] = room / (127.0f * (1 << byte_panel_most_shift));
  alignas(64) int8_t codes[byte_panel_unit];
  for (int g = 0; g < byte_panel_groups; ++g) {
    const int finer = byte_panel_most_shift - shifts[g];
    const F factor = V::set1(inverse * static_cast<float>(1 << finer));
    for (int i = 32 * g; i < 32 * (g + 1); i += V::lanes) {
      V::store_codes(codes + i, V::mul(V::load(x + i), factor));
    }
  }
  int32_t halves[2 * byte_panel_groups];
  for (int i = 0; i < byte_panel_unit; i += 64) V::sum_sixteens(codes + i, halves + i / 16);
  for (int g = 0; g < byte_panel_groups; ++g) {
    for (int half = 2 * g; half < 2 * g + 2; ++half) {
      to.code_sums[half * to.count + row] = -halves[half];
    }
    const int32_t shifted = (halves[2 * g] + halves[2 * g + 1]) * (1 << shifts[g]);
    to.shifts[g * to.count + row] = shifts[g] << 23;
    to.pair_sums[2 * (g / 2 * to.count + row) + g % 2] = static_cast<int16_t>(shifted);
  }
  auto* out = to.codes + 4 * row;
  for (int i = 0; i < byte_panel_unit; i += 4, out += 4 * to.count) {
    __builtin_memcpy(out, codes + i, 4);
  }
}

template <class V>
void quantize_bytes(const float* x, int64_t columns, const ByteTile& tile, int row) {
  // Inputs of many tokens lie in memory.
  constexpr int64_t ahead = 2 * byte_panel_unit;
  for (int64_t column = 0; column < columns; column += byte_panel_unit) {
    if (column + ahead < columns) {
      for (int i = 0; i < byte_panel_unit; i += V::lanes)
        __builtin_prefetch(x + column + ahead + i);
    }
    quantize_unit<V>(x + column, tile.from_column(column), row);
  }
}

template <class V, DType... Quantized>
void fill_byte_panels(BytePanelKernels& kernels) {
  kernels.min_rows = 24;
  kernels.quantize = &quantize_bytes<V>;
  ((kernels.unpack[static_cast<int>(Quantized)] = &BytePanel<V, Quantized>::unpack,
    kernels.multiply[static_cast<int>(Quantized)] = &multiply_panel<V, byte_panel_kind(Quantized)>),
   ...);
}

}  // namespace
}  // namespace ridge::backend::cpu
