#pragma once

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/word_panel.h"

// word_panel.h's kernels, for vectors that hold a strip's rows and have a dot product of words.
namespace ridge::backend::cpu {
namespace {

// What tells the panels of dtypes apart.
struct WordPanelKind {
  bool has_min;
  int halves;  // scales of 32 columns

  // Bytes from a group's first one.
  constexpr int products_at() const { return word_panel_codes; }
  constexpr int scales_at() const { return products_at() + halves * 2 * 64; }
  constexpr int minima_at() const { return scales_at() + halves * 2 * 64; }
  constexpr int group_bytes() const { return minima_at() + (has_min ? halves * 2 * 64 : 0); }
};

constexpr WordPanelKind word_panel_kind(DType dtype) {
  const TileFormat format = tile_format(dtype);
  return {format.has_min, word_panel_group / format.group};
}

template <class V, DType D>
struct WordPanel {
  using Rows = typename QuantizedDot<V, D, 1>::Rows;
  using I = typename V::I;
  static constexpr TileFormat format = tile_format(D);
  static constexpr WordPanelKind kind = word_panel_kind(D);
  static constexpr int groups = format.unit_columns() / word_panel_group;
  static_assert(V::lanes == strip_rows && !V::byte_codes_are_signed);
  static_assert(kind.group_bytes() <= word_panel_group_bytes);

  static void unpack(const std::byte* from, int64_t columns, int which, std::byte* panel) {
    for (; columns > 0; columns -= format.unit_columns(), from += format.unit_bytes()) {
      const Rows rows(from, 0);
      for (int g = 0; g < groups; ++g, panel += kind.group_bytes()) {
        unpack_group(rows, g, which, panel);
      }
    }
  }

 private:
  static void unpack_group(const Rows& rows, int g, int which, std::byte* group) {
    I products[kind.halves];
    for (I& sum : products) sum = V::izero();
    unpack_quads(rows.codes(g), which, group, products, std::make_integer_sequence<int, 8>());
    for (int half = 0; half < kind.halves; ++half) {
      const int at = 64 * (2 * half + which), scale = kind.halves * g + half;
      V::store_bytes(group + kind.products_at() + at, V::isub(V::izero(), products[half]));
      V::store(reinterpret_cast<float*>(group + kind.scales_at() + at), rows.scale(scale));
      if constexpr (format.has_min) {
        V::store(reinterpret_cast<float*>(group + kind.minima_at() + at), rows.min(scale));
      }
    }
  }
  template <int... Quad>
  static void unpack_quads(const std::byte* codes, int which, std::byte* group,
                           I (&products)[kind.halves], std::integer_sequence<int, Quad...>) {
    (unpack_quad<Quad>(codes, group + 256 * Quad + 128 * which, products[Quad * kind.halves / 8]),
     ...);
  }
  template <int Quad>
  static void unpack_quad(const std::byte* codes, std::byte* to, I& products) {
    const I bytes = quad_codes<V, D, Quad>(codes);
    const I even = V::minus_words(V::masked_ints(bytes, 0x00ff00ff), format.offset);
    const I odd = V::minus_words(V::template shifted<8>(bytes), format.offset);
    V::store_bytes(to, even);
    V::store_bytes(to + 64, odd);
    if constexpr (word_quad_is_paired(Quad)) products = V::dot2_words(products, even, odd);
  }
};

// A panel times a tile of exactly `Count` rows.
template <class V, WordPanelKind Kind, int Count>
struct WordPanelDot {
  using F = typename V::F;
  using I = typename V::I;
  using Sums = F[2][Count];
  using Dots = I[2][Count];

  // The quads of one scale. Inlined, or the sums would lie in memory.
  [[gnu::always_inline]] static void multiply(const std::byte* group, const int16_t* codes,
                                              Dots& dots) {
#pragma GCC unroll 8
    for (int quad = 0; quad < 8 / Kind.halves; ++quad, group += 256, codes += 4 * Count) {
      // Columns 0 and 2, then 1 and 3, of both strips.
      const I even[2] = {V::load_once(group), V::load_once(group + 128)};
      const I odd[2] = {V::load_once(group + 64), V::load_once(group + 192)};
#pragma GCC unroll 8
      for (int i = 0; i < Count; ++i) {
        const I x_even = V::word_pair(codes + 4 * i), x_odd = V::word_pair(codes + 4 * i + 2);
#pragma GCC unroll 2
        for (int s = 0; s < 2; ++s) {
          I& dot = dots[s][i];
          if (word_quad_is_paired(quad)) {
            dot = V::dot2_words(dot, V::add_words(x_even, odd[s]), V::add_words(x_odd, even[s]));
          } else {
            dot = V::dot2_words(V::dot2_words(dot, even[s], x_even), odd[s], x_odd);
          }
        }
      }
    }
  }

  // -Σ of a token's paired products.
  template <int Half>
  static int32_t products_of(const WordTile& x, int i) {
    if (Kind.halves == 1) return x.products[i];
    if (Half == 0) return x.half_products[i];
    const auto all = static_cast<uint32_t>(x.products[i]);
    return static_cast<int32_t>(all - static_cast<uint32_t>(x.half_products[i]));
  }

  // acc += the columns of one scale, of both strips; x stands at the group.
  template <int Half>
  [[gnu::always_inline]] static void add_half(const std::byte* group, const WordTile& x,
                                              Sums& acc) {
    const auto vector = [&](int at, int s) {
      return reinterpret_cast<const float*>(group + at + 64 * (2 * Half + s));
    };
    Dots dots;
    for (int s = 0; s < 2; ++s) {
      const I products = V::load_bytes(group + Kind.products_at() + 64 * (2 * Half + s));
      for (int i = 0; i < Count; ++i) {
        dots[s][i] = V::iadd(products, V::iset1(products_of<Half>(x, i)));
      }
    }
    multiply(group + 4 * Half * 256, x.codes + 4 * Half * 4 * Count, dots);
    for (int s = 0; s < 2; ++s) {
      const F scale = V::load(vector(Kind.scales_at(), s));
      for (int i = 0; i < Count; ++i) {
        acc[s][i] = V::fma(V::mul(scale, V::set1(x.scales[i])), V::to_float(dots[s][i]), acc[s][i]);
      }
      if constexpr (Kind.has_min) {
        const F min = V::load(vector(Kind.minima_at(), s));
        for (int i = 0; i < Count; ++i) acc[s][i] = V::fma(min, V::set1(x.sums[i]), acc[s][i]);
      }
    }
  }

  // acc += 32 columns of both strips; x stands at these.
  [[gnu::always_inline]] static void add_group(const std::byte* group, const WordTile& x,
                                               Sums& acc) {
    static_assert(Kind.halves == 1 || !Kind.has_min, "a token's sums are of 32 columns");
    add_half<0>(group, x, acc);
    if constexpr (Kind.halves == 2) add_half<1>(group, x, acc);
  }

  static void run(const std::byte* panel, int64_t columns, WordTile x, bool accumulate,
                  WordFetch& fetch, float* out) {
    x.count = Count;
    Sums acc;
    for (int s = 0; s < 2; ++s) {
      for (int i = 0; i < Count; ++i) {
        acc[s][i] = accumulate ? V::load(out + (s * Count + i) * strip_rows) : V::zero();
      }
    }
    for (; columns > 0; columns -= word_panel_group, panel += Kind.group_bytes()) {
      for (int i = 0; i < fetch.lines && fetch.bytes > 0; ++i, fetch.bytes -= 64) {
        __builtin_prefetch(fetch.first, 0, 2);
        __builtin_prefetch(fetch.second, 0, 2);
        fetch.first += 64;
        fetch.second += 64;
      }
      add_group(panel, x, acc);
      x.advance();
    }
    for (int s = 0; s < 2; ++s) {
      for (int i = 0; i < Count; ++i) V::store(out + (s * Count + i) * strip_rows, acc[s][i]);
    }
  }
};

template <class V, WordPanelKind Kind, int Count = word_panel_rows>
void multiply_word_tile(const std::byte* panel, int64_t columns, const WordTile& x, bool accumulate,
                        WordFetch& fetch, float* out) {
  if constexpr (Count > 1) {
    if (x.count != Count) {
      return multiply_word_tile<V, Kind, Count - 1>(panel, columns, x, accumulate, fetch, out);
    }
  }
  WordPanelDot<V, Kind, Count>::run(panel, columns, x, accumulate, fetch, out);
}

template <class V, WordPanelKind Kind>
void multiply_words(const std::byte* panel, int64_t columns, const WordTile* x, int tiles,
                    bool accumulate, WordFetch fetch, float* out) {
  for (const WordTile* end = x + tiles; x < end; ++x, out += word_panel_tile_sums) {
    multiply_word_tile<V, Kind>(panel, columns, *x, accumulate, fetch, out);
  }
}

// 128 columns of x as row `row` of a tile that stands at these. Four groups at once, because what
// is added up across lanes is so for four vectors in one.
//   groups: of these that are wanted, the first ones
template <class V>
[[gnu::always_inline]] inline void quantize_words(const float* x, const WordTile& to, int row,
                                                  int groups) {
  using F = typename V::F;
  F low[4], high[4], most[4];
  for (int g = 0; g < 4; ++g) {
    low[g] = V::load(x + 32 * g);
    high[g] = V::load(x + 32 * g + V::lanes);
    most[g] = V::max(V::abs(low[g]), V::abs(high[g]));
  }
  alignas(16) float largest[4], inverse[4], scale[4];
  V::reduce_max(most, largest);
  for (int g = 0; g < 4; ++g) {
    scale[g] = fine_code_scale(largest[g]);
    inverse[g] = fine_code_factor(largest[g]);
  }
  typename V::B words[4];
  for (int g = 0; g < 4; ++g) {
    const F factor = V::set1(inverse[g]);
    words[g] = V::quads_of_words(V::mul(low[g], factor), V::mul(high[g], factor));
  }
  alignas(16) int32_t products[4], half_products[4], sums[4];
  V::template sums_of_quads<word_quad_is_paired>(words, products, half_products, sums);
  alignas(16) float values[4];
  for (int g = 0; g < 4; ++g) values[g] = scale[g] * static_cast<float>(sums[g]);
  for (int g = 0; g < groups; ++g) {
    V::store_quads(words[g], to.codes + 4 * row + word_panel_group * g * to.count, 4 * to.count);
    const int at = g * to.count + row;
    to.products[at] = static_cast<int32_t>(0u - static_cast<uint32_t>(products[g]));
    to.half_products[at] = static_cast<int32_t>(0u - static_cast<uint32_t>(half_products[g]));
    to.scales[at] = scale[g];
    to.sums[at] = values[g];
  }
}

template <class V>
void quantize_word_row(const float* x, int64_t columns, const WordTile& tile, int row) {
  static_assert(2 * V::lanes == word_panel_group);
  constexpr int64_t at_once = 4 * word_panel_group;
  int64_t column = 0;
  for (; column + at_once <= columns; column += at_once) {
    quantize_words<V>(x + column, tile.from_column(column), row, 4);
  }
  if (column == columns) return;
  float rest[at_once] = {};
  __builtin_memcpy(rest, x + column, (columns - column) * sizeof(float));
  quantize_words<V>(rest, tile.from_column(column), row,
                    static_cast<int>((columns - column + 63) / 64 * 2));
}

template <class V, DType... Quantized>
void fill_word_panels(WordPanelKernels& kernels) {
  kernels.min_rows = 9;
  kernels.quantize = &quantize_word_row<V>;
  ((kernels.unpack[static_cast<int>(Quantized)] = &WordPanel<V, Quantized>::unpack,
    kernels.multiply[static_cast<int>(Quantized)] = &multiply_words<V, word_panel_kind(Quantized)>),
   ...);
}

}  // namespace
}  // namespace ridge::backend::cpu
