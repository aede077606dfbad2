#pragma once

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/word_panel.h"

// word_panel.h's kernels, for vectors that hold a strip's rows and have a dot product of words.
namespace ridge::backend::cpu {
namespace {

// Bytes from a group's first one.
constexpr int word_products_at = word_panel_codes;
constexpr int word_scales_at = word_products_at + 2 * 64;
constexpr int word_minima_at = word_scales_at + 2 * 64;
constexpr int word_group_bytes(bool has_min) { return word_minima_at + (has_min ? 2 * 64 : 0); }

template <class V, DType D>
struct WordPanel {
  using Rows = typename QuantizedDot<V, D, 1>::Rows;
  using I = typename V::I;
  static constexpr TileFormat format = tile_format(D);
  static constexpr int groups = format.unit_columns() / word_panel_group;
  static_assert(V::lanes == strip_rows && !V::byte_codes_are_signed);
  static_assert(format.group == word_panel_group);

  static void unpack(const std::byte* from, int64_t columns, int which, int64_t ahead,
                     std::byte* panel) {
    for (; columns > 0; columns -= format.unit_columns(), from += format.unit_bytes()) {
      const Rows rows(from, 0);
      for (int g = 0; g < groups; ++g, panel += word_group_bytes(format.has_min)) {
        if (ahead != 0) QuantizedDot<V, D, 1>::fetch_share(from + ahead, g);
        unpack_group(rows, g, which, panel);
      }
    }
  }

 private:
  static void unpack_group(const Rows& rows, int g, int which, std::byte* group) {
    I products = V::izero();
    unpack_quads(rows.codes(g), which, group, products, std::make_integer_sequence<int, 8>());
    V::store_bytes(group + word_products_at + 64 * which, V::isub(V::izero(), products));
    V::store(reinterpret_cast<float*>(group + word_scales_at) + strip_rows * which, rows.scale(g));
    if constexpr (format.has_min) {
      V::store(reinterpret_cast<float*>(group + word_minima_at) + strip_rows * which, rows.min(g));
    }
  }
  template <int... Quad>
  static void unpack_quads(const std::byte* codes, int which, std::byte* group, I& products,
                           std::integer_sequence<int, Quad...>) {
    (unpack_quad<Quad>(codes, group + 256 * Quad + 128 * which, products), ...);
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
template <class V, bool HasMin, int Count>
struct WordPanelDot {
  using F = typename V::F;
  using I = typename V::I;
  using Sums = F[2][Count];
  using Dots = I[2][Count];

  // Inlined, or the sums would lie in memory.
  [[gnu::always_inline]] static void multiply(const std::byte* group, const int16_t* codes,
                                              Dots& dots) {
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad, group += 256, codes += 4 * Count) {
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

  // acc += 32 columns of both strips; x stands at these.
  [[gnu::always_inline]] static void add_group(const std::byte* group, const WordTile& x,
                                               Sums& acc) {
    const auto vector = [&](int at, int s) {
      return reinterpret_cast<const float*>(group + at) + s * strip_rows;
    };
    Dots dots;
    for (int s = 0; s < 2; ++s) {
      const I products = V::load_bytes(group + word_products_at + 64 * s);
      for (int i = 0; i < Count; ++i) dots[s][i] = V::iadd(products, V::iset1(x.products[i]));
    }
    multiply(group, x.codes, dots);
    for (int s = 0; s < 2; ++s) {
      const F scale = V::load(vector(word_scales_at, s));
      for (int i = 0; i < Count; ++i) {
        acc[s][i] =
            V::fma(V::mul(scale, V::set1(x.scales[i])), V::to_float(dots[s][i]), acc[s][i]);
      }
      if constexpr (HasMin) {
        const F min = V::load(vector(word_minima_at, s));
        for (int i = 0; i < Count; ++i) acc[s][i] = V::fma(min, V::set1(x.sums[i]), acc[s][i]);
      }
    }
  }

  static void run(const std::byte* panel, int64_t columns, WordTile x, bool accumulate,
                  float* out) {
    x.count = Count;
    Sums acc;
    for (int s = 0; s < 2; ++s) {
      for (int i = 0; i < Count; ++i) {
        acc[s][i] = accumulate ? V::load(out + (s * Count + i) * strip_rows) : V::zero();
      }
    }
    for (; columns > 0; columns -= word_panel_group, panel += word_group_bytes(HasMin)) {
      add_group(panel, x, acc);
      x.advance();
    }
    for (int s = 0; s < 2; ++s) {
      for (int i = 0; i < Count; ++i) V::store(out + (s * Count + i) * strip_rows, acc[s][i]);
    }
  }
};

template <class V, bool HasMin, int Count = 1>
void multiply_word_tile(const std::byte* panel, int64_t columns, const WordTile& x, bool accumulate,
                        float* out) {
  if constexpr (Count < word_panel_rows) {
    if (x.count != Count) {
      return multiply_word_tile<V, HasMin, Count + 1>(panel, columns, x, accumulate, out);
    }
  }
  WordPanelDot<V, HasMin, Count>::run(panel, columns, x, accumulate, out);
}

// 32 columns of x as row `row` of a tile that stands at these: codes up to word_panel_most.
template <class V>
[[gnu::always_inline]] inline void quantize_words(typename V::F low, typename V::F high,
                                                  const WordTile& to, int row) {
  using F = typename V::F;
  const float largest = V::reduce_max(V::max(V::abs(low), V::abs(high)));
  const float scale = largest * (1.0f / word_panel_most);
  const F inverse = V::set1(largest > 0 ? word_panel_most / largest : 0);
  const auto words = V::quads_of_words(V::mul(low, inverse), V::mul(high, inverse));
  V::store_quads(words, to.codes + 4 * row, 4 * to.count);
  const auto [products, sum] = V::template sums_of_quads<word_quad_is_paired>(words);
  to.products[row] = static_cast<int32_t>(0 - products);
  to.scales[row] = scale;
  to.sums[row] = scale * static_cast<float>(sum);
}

template <class V>
void quantize_word_row(const float* x, int64_t columns, const WordTile& tile, int row) {
  static_assert(2 * V::lanes == word_panel_group);
  WordTile to = tile;
  for (int64_t column = 0; column < columns; column += word_panel_group, to.advance()) {
    quantize_words<V>(V::load(x + column), V::load(x + column + V::lanes), to, row);
  }
  if (columns % 64 != 0) quantize_words<V>(V::zero(), V::zero(), to, row);
}

template <class V, DType... Quantized>
void fill_word_panels(WordPanelKernels& kernels) {
  kernels.min_rows = 6;
  kernels.quantize = &quantize_word_row<V>;
  ((kernels.unpack[static_cast<int>(Quantized)] = &WordPanel<V, Quantized>::unpack,
    kernels.multiply[static_cast<int>(Quantized)] =
        &multiply_word_tile<V, tile_format(Quantized).has_min>),
   ...);
}

}  // namespace
}  // namespace ridge::backend::cpu
