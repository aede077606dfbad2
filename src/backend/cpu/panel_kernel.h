#pragma once

#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/panel.h"
#include "backend/cpu/row_kernels.h"

// Expands weights and packs activations for panel.h; the products are an instruction set's own.
namespace ridge::backend::cpu {
namespace {

// Pairs of columns, side by side, in `Parts` parts; the rests lie a group's elements further.
template <class V, int Parts>
void store_panel_pairs(bf16_bits* to, typename V::F even, typename V::F odd) {
  V::store_rounded_pairs(to, even, odd);
  if constexpr (Parts == 2) {
    typename V::F rounded_even, rounded_odd;
    V::load_bf16_pairs(to, rounded_even, rounded_odd);
    V::store_rounded_pairs(to + panel_group * strip_rows, V::sub(even, rounded_even),
                           V::sub(odd, rounded_odd));
  }
}

template <class V, DType D, int Parts>
struct PanelExpansion {
  static constexpr TileFormat format = tile_format(D);
  static constexpr int groups32 = format.unit_columns() / 32;
  using Rows = typename QuantizedDot<V, D, 1>::Rows;
  using F = typename V::F;
  using B = typename V::B;

  // Codes of up to 7 bits become floats as the low bits of a bfloat16, above 128. One fma takes that
  // off again; where two parts must be exact, a subtraction before it.
  static constexpr bool in_bf16 = !format.has_wide_codes();
  static constexpr float above = in_bf16 && Parts == 1 ? 128 : 0;

  // value = code · scale + shift, of one group of columns.
  struct Line {
    F scale, shift;
  };
  static Line line(const Rows& rows, int group) {
    const F scale = rows.scale(group);
    constexpr float offset = above + (format.has_min ? 0 : format.offset);
    if constexpr (!format.has_min) return {scale, V::mul(scale, V::set1(-offset))};
    return {scale, V::fnma(scale, V::set1(offset), rows.min(group))};
  }

  // Columns 4 · Quad … 4 · Quad + 3 of 32, of one vector of rows.
  template <int Quad>
  static void expand_quad(const Rows& rows, int group32, const Line& l, bf16_bits* to) {
    const B codes = quad_codes<V, D, Quad>(rows.codes(group32));
    const auto value = [&](F code) {
      if constexpr (in_bf16 && Parts == 2) code = V::sub(code, V::set1(128));
      return V::fma(code, l.scale, l.shift);
    };
    to += Quad * 4 * strip_rows;
    if constexpr (in_bf16) {
      const B even = V::template codes_in_bf16<0>(codes);
      store_panel_pairs<V, Parts>(to, value(V::low_bf16(even)), value(V::high_bf16(even)));
      const B odd = V::template codes_in_bf16<1>(codes);
      to += 2 * strip_rows;
      store_panel_pairs<V, Parts>(to, value(V::low_bf16(odd)), value(V::high_bf16(odd)));
    } else {
      const auto column = [&](int c) { return value(V::code_float(codes, c)); };
      store_panel_pairs<V, Parts>(to, column(0), column(2));
      store_panel_pairs<V, Parts>(to + 2 * strip_rows, column(1), column(3));
    }
  }

  template <int... Quads>
  static void expand(const Rows& rows, int group32, const Line& l, bf16_bits* to) {
    (expand_quad<Quads>(rows, group32, l, to), ...);
  }

  static void run(const std::byte* strip, int64_t /*strip_columns*/, int64_t first, int64_t columns,
                  int64_t ahead, bf16_bits* panel) {
    for (int part = 0; part < strip_rows; part += V::lanes) {
      bf16_bits* to = panel + 2 * part;
      for (int64_t at = first / 32; at < (first + columns) / 32; ++at, to += 32 * Parts * strip_rows) {
        const Rows rows(strip + at / groups32 * format.unit_bytes(), part);
        const auto g = static_cast<int>(at % groups32);
        if (ahead != 0 && part == 0) QuantizedDot<V, D, 1>::fetch_share(rows.unit + ahead, g);
        if constexpr (format.group == 32) {
          expand<0, 4, 1, 5, 2, 6, 3, 7>(rows, g, line(rows, g), to);
        } else {
          expand<0, 1, 2, 3>(rows, g, line(rows, 2 * g), to);
          expand<4, 5, 6, 7>(rows, g, line(rows, 2 * g + 1), to);
        }
      }
    }
  }
};

template <class V, DType D, int Parts>
void expand_plain_panel(const std::byte* strip, int64_t strip_columns, int64_t first,
                        int64_t columns, int64_t ahead, bf16_bits* panel) {
  constexpr int element = D == DType::f32 ? 4 : 2;
  const auto load = [&](int64_t k, int part) {
    if (k >= strip_columns) return V::zero();
    return load_weight<V, D>(strip + (k * strip_rows + part) * element);
  };
  for (int64_t k = 0; k < columns; k += 4) {
    for (int i = 0; ahead != 0 && i < 4 * strip_rows * element; i += 64) {
      __builtin_prefetch(strip + (first + k) * strip_rows * element + ahead + i, 0, 2);
    }
    bf16_bits* to = panel + (k / panel_group * panel_group * Parts + k % panel_group) * strip_rows;
    for (int part = 0; part < strip_rows; part += V::lanes) {
      const int64_t at = first + k;
      store_panel_pairs<V, Parts>(to + 2 * part, load(at, part), load(at + 2, part));
      store_panel_pairs<V, Parts>(to + 2 * (strip_rows + part), load(at + 1, part),
                                  load(at + 3, part));
    }
  }
}

template <class V, int Parts>
void pack_group(const float* x, int64_t step, bf16_bits* to) {
  for (int i = 0; i < panel_group; i += V::lanes) {
    const auto value = V::swap_middles(V::load(x + i));
    V::store_bf16(to + i, value);
    if constexpr (Parts == 2) {
      V::store_bf16(to + step + i, V::sub(value, V::load_bf16(to + i)));
    }
  }
}
template <class V, int Parts>
void pack_token(const float* x, int64_t columns, int block_tokens, bf16_bits* to) {
  const int64_t step = static_cast<int64_t>(block_tokens) * panel_group;
  int64_t k = 0;
  for (; k + panel_group <= columns; k += panel_group, to += Parts * step) {
    pack_group<V, Parts>(x + k, step, to);
  }
  if (k == columns) return;
  float rest[panel_group] = {};
  for (int64_t i = k; i < columns; ++i) rest[i - k] = x[i];
  pack_group<V, Parts>(rest, step, to);
}

template <class V>
void pack_gated(const float* gate, const float* up, Activation kind, int tokens, bf16_bits* to) {
  with_activation<V>(kind, [&](auto gated) {
    for (int t = 0; t < tokens; ++t, gate += strip_rows, up += strip_rows, to += panel_group) {
      for (int i = 0; i < strip_rows; i += V::lanes) {
        V::store_bf16(to + i, V::swap_middles(gated(V::load(gate + i), V::load(up + i))));
      }
    }
  });
}

template <class V, int Parts, DType... Quantized>
void fill_quantized_expansions(PanelKernels& panel) {
  ((panel.expand[Parts - 1][static_cast<int>(Quantized)] =
        &PanelExpansion<V, Quantized, Parts>::run),
   ...);
}
template <class V, int Parts, DType... Plain>
void fill_plain_expansions(PanelKernels& panel) {
  ((panel.expand[Parts - 1][static_cast<int>(Plain)] = &expand_plain_panel<V, Plain, Parts>), ...);
}

// Everything of PanelKernels but the products themselves.
template <class V, int Parts>
void fill_panel_operands(PanelKernels& panel) {
  using enum DType;
  fill_quantized_expansions<V, Parts, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k,
                            iq4_nl, iq4_xs, mxfp4>(panel);
  fill_plain_expansions<V, Parts, f32, f16, bf16>(panel);
  panel.pack[Parts - 1] = &pack_token<V, Parts>;
}

}  // namespace
}  // namespace ridge::backend::cpu
