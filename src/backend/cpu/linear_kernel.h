#pragma once

#include "backend/cpu/kernels.h"

// linear: 16 rows of a weight times up to 8 tokens, straight from the tiles.
namespace ridge::backend::cpu {
namespace {

template <class V, DType D, int Tokens>
struct QuantizedDot {
  static constexpr TileFormat format = tile_format(D);
  using F = typename V::F;
  using I = typename V::I;
  using B = typename V::B;

  static constexpr bool wide_codes = format.codes == CodeKind::codebook || D == DType::q8_0;
  static constexpr int offset = wide_codes && V::byte_codes_are_signed ? 0 : format.offset;

  static I dot4(I acc, B codes, const int8_t* x) {
    if constexpr (wide_codes) {
      return V::dot4_byte(acc, codes, x);
    } else {
      return V::dot4_small(acc, codes, x);
    }
  }

  // Sums over one group, for each token and plane.
  struct Dots {
    I coarse[Tokens];
    I fine[Tokens];

    void clear() {
      for (int t = 0; t < Tokens; ++t) coarse[t] = fine[t] = V::izero();
    }
    // Σ code · x in units of the group's scale.
    F total(int t) const {
      return V::fma(V::to_float(fine[t]), V::set1(1.0f / fine_steps), V::to_float(coarse[t]));
    }
  };

  static void multiply_quad(B codes, const int8_t* x, Dots& dots) {
    const int8_t* fine = x + 32 * Tokens;
    for (int t = 0; t < Tokens; ++t) {
      dots.coarse[t] = dot4(dots.coarse[t], codes, x + 4 * t);
      dots.fine[t] = dot4(dots.fine[t], codes, fine + 4 * t);
    }
  }

  // Adds columns [32 · group, + 32) of the quads [first, first + 4) or all 8.
  static void multiply_nibbles(const std::byte* codes, const int8_t* x, Dots& dots) {
    for (int quad = 0; quad < 4; ++quad) {
      const B raw = V::load_bytes(codes + 64 * quad);
      B low = V::low_nibbles(raw);
      B high = V::high_nibbles(raw);
      if constexpr (format.codes == CodeKind::codebook) {
        low = V::codebook(low);
        high = V::codebook(high);
      }
      multiply_quad(low, x + 4 * quad * Tokens, dots);
      multiply_quad(high, x + 4 * (quad + 4) * Tokens, dots);
    }
  }

  static void multiply_bytes(const std::byte* codes, const int8_t* x, int first, int last,
                             Dots& dots) {
    for (int quad = first; quad < last; ++quad) {
      multiply_quad(V::load_bytes(codes + 64 * quad), x + 4 * quad * Tokens, dots);
    }
  }

  // acc += scale · (Σ codes x - offset Σ x) + min · Σ x for one group of columns.
  //   sums: one or two runs of [Tokens], each over 16 columns
  static void apply(const Dots& dots, F scale, F min, const float* scales, const float* sums,
                    F (&acc)[Tokens]) {
    for (int t = 0; t < Tokens; ++t) {
      F value = V::mul(dots.total(t), V::set1(scales[t]));
      if constexpr (offset != 0 || format.has_min) {
        const float sum = format.group == 32 ? sums[t] + sums[Tokens + t] : sums[t];
        if constexpr (format.has_min) {
          acc[t] = V::fma(min, V::set1(sum), acc[t]);
        } else {
          value = V::fma(V::set1(-static_cast<float>(offset)), V::set1(sum), value);
        }
      }
      acc[t] = V::fma(value, scale, acc[t]);
    }
  }

  struct UnitScales {
    F d, dmin;
  };

  static F group_scale(const std::byte* unit, int group, int part, const UnitScales& super) {
    const std::byte* at = unit + format.scales_at();
    if constexpr (format.super) {
      return V::mul(super.d, V::load_i8(at + group * strip_rows + part));
    } else {
      return V::load_f16(at + 2 * (group * strip_rows + part));
    }
  }
  static F group_min(const std::byte* unit, int group, int part, const UnitScales& super) {
    const std::byte* at = unit + format.mins_at();
    if constexpr (!format.has_min) {
      return V::zero();
    } else if constexpr (format.super) {
      return V::sub(V::zero(), V::mul(super.dmin, V::load_i8(at + group * strip_rows + part)));
    } else {
      return V::load_f16(at + 2 * (group * strip_rows + part));
    }
  }

  static void run(const std::byte* strip, int64_t units, const ActivationTile& x, float* out) {
    constexpr int groups32 = format.unit_columns() / 32;
    for (int part = 0; part < strip_rows; part += V::lanes) {
      F acc[Tokens];
      for (F& a : acc) a = V::zero();
      const int8_t* codes_x = x.codes;
      const float* scales_x = x.scales;
      const float* sums_x = x.sums;
      const std::byte* unit = strip;
      for (int64_t u = 0; u < units; ++u, unit += format.unit_bytes()) {
        UnitScales super{V::zero(), V::zero()};
        if constexpr (format.super) {
          super = {V::load_f16(unit + 2 * part), V::load_f16(unit + 2 * (strip_rows + part))};
        }
        for (int g = 0; g < groups32; ++g) {
          const std::byte* codes = unit + format.codes_at() + g * format.code_bytes() + 4 * part;
          Dots dot;
          dot.clear();
          if constexpr (format.codes != CodeKind::byte) {
            multiply_nibbles(codes, codes_x, dot);
            apply(dot, group_scale(unit, g, part, super), group_min(unit, g, part, super), scales_x,
                  sums_x, acc);
          } else if constexpr (format.group == 32) {
            multiply_bytes(codes, codes_x, 0, 8, dot);
            apply(dot, group_scale(unit, g, part, super), group_min(unit, g, part, super), scales_x,
                  sums_x, acc);
          } else {
            multiply_bytes(codes, codes_x, 0, 4, dot);
            apply(dot, group_scale(unit, 2 * g, part, super), group_min(unit, 2 * g, part, super),
                  scales_x, sums_x, acc);
            dot.clear();
            multiply_bytes(codes, codes_x, 4, 8, dot);
            apply(dot, group_scale(unit, 2 * g + 1, part, super),
                  group_min(unit, 2 * g + 1, part, super), scales_x, sums_x + Tokens, acc);
          }
          codes_x += 32 * activation_planes * Tokens;
          scales_x += Tokens;
          sums_x += 2 * Tokens;
        }
      }
      for (int t = 0; t < Tokens; ++t) V::store(out + t * strip_rows + part, acc[t]);
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
void float_dot(const std::byte* strip, int64_t columns, const float* x, int64_t stride, float* out) {
  constexpr int element = D == DType::f32 ? 4 : 2;
  // Few tokens leave the multiply-adds waiting for each other, so columns take turns.
  constexpr int turns = Tokens >= 4 ? 1 : 4;
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
  if constexpr (Tokens <= V::max_tile_tokens) {
    if constexpr (D == DType::f32 || D == DType::f16 || D == DType::bf16) {
      table.float_dot[static_cast<int>(D)][Tokens] = &float_dot<V, D, Tokens>;
    } else {
      table.dot[static_cast<int>(D)][Tokens] = &QuantizedDot<V, D, Tokens>::run;
    }
    fill_dot<V, D, Tokens + 1>(table);
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
