#pragma once

#include "backend/cpu/kernels.h"

// Ops on single rows: rms_norm, quantize_rows, gated_activation, add, scale, rope; and what follows
// a linear.
namespace ridge::backend::cpu {
namespace {

// e^x for x ≤ 88 or so, to about 1e-7 relative: 2^n · e^r with |r| ≤ ln 2 / 2 and the Taylor series
// of e^r to r^6, whose remainder is below 2e-7 · r^7.
template <class V>
typename V::F exp(typename V::F x) {
  using F = typename V::F;
  x = V::min(V::max(x, V::set1(-87.0f)), V::set1(88.0f));
  const F n = V::round(V::mul(x, V::set1(1.44269504f)));
  F r = V::fnma(n, V::set1(0.693145752f), x);  // ln 2 in two parts, the first exact times n
  r = V::fnma(n, V::set1(1.42860677e-6f), r);
  F p = V::set1(1.0f / 720);
  p = V::fma(p, r, V::set1(1.0f / 120));
  p = V::fma(p, r, V::set1(1.0f / 24));
  p = V::fma(p, r, V::set1(1.0f / 6));
  p = V::fma(p, r, V::set1(0.5f));
  p = V::fma(p, r, V::set1(1.0f));
  p = V::fma(p, r, V::set1(1.0f));
  return V::mul(p, V::pow2(n));
}

template <class V>
typename V::F sigmoid(typename V::F x) {
  const auto one = V::set1(1.0f);
  return V::div(one, V::add(one, exp<V>(V::sub(V::zero(), x))));
}

// Calls `vector(i)` for whole vectors and `tail(i, n)` for the last n < lanes columns.
template <class V, class Vector, class Tail>
void for_columns(int64_t columns, Vector vector, Tail tail) {
  int64_t i = 0;
  for (; i + V::lanes <= columns; i += V::lanes) vector(i);
  if (i < columns) tail(i, static_cast<int>(columns - i));
}

// The columns past the last whole vector, by way of a buffer of one vector.
template <class V>
typename V::F load_tail(const float* p, int n) {
  float buffer[V::lanes] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return V::load(buffer);
}
template <class V>
void store_tail(float* p, typename V::F x, int n) {
  float buffer[V::lanes];
  V::store(buffer, x);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
}

// out[i] = fn(vectors at i of each input).
template <class V, class Fn, class... Inputs>
void map_row(int64_t columns, float* out, Fn fn, const Inputs*... inputs) {
  for_columns<V>(
      columns, [&](int64_t i) { V::store(out + i, fn(V::load(inputs + i)...)); },
      [&](int64_t i, int n) { store_tail<V>(out + i, fn(load_tail<V>(inputs + i, n)...), n); });
}

template <class V>
void add_row(const float* a, const float* b, int64_t columns, float* out) {
  using F = typename V::F;
  map_row<V>(
      columns, out, [](F x, F y) { return V::add(x, y); }, a, b);
}

template <class V>
void scale_row(const float* x, float factor, int64_t columns, float* out) {
  using F = typename V::F;
  const F f = V::set1(factor);
  map_row<V>(
      columns, out, [f](F v) { return V::mul(v, f); }, x);
}

template <class V>
void rms_norm_row(const float* x, const float* weight, float eps, int64_t columns, float* out) {
  using F = typename V::F;
  F squares = V::zero();
  for_columns<V>(
      columns,
      [&](int64_t i) {
        const F v = V::load(x + i);
        squares = V::fma(v, v, squares);
      },
      [&](int64_t i, int n) {
        const F v = load_tail<V>(x + i, n);
        squares = V::fma(v, v, squares);
      });
  const float mean = V::reduce_add(squares) / static_cast<float>(columns);
  const F factor = V::set1(1.0f / __builtin_sqrtf(mean + eps));
  map_row<V>(
      columns, out, [factor](F v, F w) { return V::mul(V::mul(v, factor), w); }, x, weight);
}

// Calls use(fn), fn(gate, up) being the activated gate times up, as vectors.
template <class V, class Use>
void with_activation(Activation kind, Use use) {
  using F = typename V::F;
  switch (kind) {
    case Activation::silu:
      return use([](F g, F u) { return V::mul(V::mul(g, sigmoid<V>(g)), u); });
    case Activation::gelu_tanh:
      // 0.5 (1 + tanh(z)) is σ(2z), z = √(2/π) (g + 0.044715 g³).
      return use([](F g, F u) {
        const F cube = V::mul(V::mul(g, g), g);
        const F z = V::mul(V::fma(cube, V::set1(0.044715f), g), V::set1(2 * 0.797884561f));
        return V::mul(V::mul(g, sigmoid<V>(z)), u);
      });
    case Activation::swiglu_oai:
      return use([](F g, F u) {
        const F limit = V::set1(7.0f);
        g = V::min(g, limit);
        u = V::max(V::min(u, limit), V::set1(-7.0f));
        const F gated = V::mul(g, sigmoid<V>(V::mul(g, V::set1(1.702f))));
        return V::mul(gated, V::add(u, V::set1(1.0f)));
      });
  }
}

template <class V>
void gated_activation_row(const float* gate, const float* up, Activation kind, int64_t columns,
                          float* out) {
  with_activation<V>(kind, [&](auto gated) { map_row<V>(columns, out, gated, gate, up); });
}

// result(at): what becomes of V::lanes results from place `at` of [tokens][strip_rows] on.
template <class V, class Result>
void store_strip(const StripResults& of, Result result) {
  for (int t = 0; t < of.tokens; ++t) {
    float* out = of.out + t * of.stride;
    for (int row = 0; row < strip_rows; row += V::lanes) {
      typename V::F x = result(t * strip_rows + row);
      if (of.bias != nullptr) x = V::add(x, V::load(of.bias + row));
      if (of.accumulate) x = V::add(V::load(out + row), x);
      V::store(out + row, x);
    }
  }
}

template <class V>
void finish_strip(const StripResults& of) {
  if (of.activation == nullptr) {
    return store_strip<V>(of, [&](int at) { return V::load(of.results + at); });
  }
  with_activation<V>(*of.activation, [&](auto gated) {
    store_strip<V>(of,
                   [&](int at) { return gated(V::load(of.results + at), V::load(of.up + at)); });
  });
}

enum class CodeOrder {
  quads,  // [8 quads][tokens][planes][4]
  rows,   // [tokens][planes][32]
};

// The codes of a group of 32 columns of one token, and their sums.
template <class V>
struct CodesOfGroup {
  using F = typename V::F;
  alignas(64) int8_t planes[2][activation_group];
  int32_t sums[2] = {};  // of the halves

  // Rounds x, the numbers from column i on over their scale, to codes of one or two planes.
  void put(int planes_of_code, int i, F x) {
    if (planes_of_code == 1) return put_plane(0, i, x, 1);
    const F code = V::round(x);
    const F coarse = V::round(V::mul(code, V::set1(1.0f / plane_steps)));
    put_plane(0, i, coarse, plane_steps);
    put_plane(1, i, V::fnma(coarse, V::set1(plane_steps), code), 1);
  }

 private:
  // Sums wrap, for of what is no number they may be anything.
  void put_plane(int plane, int i, F x, uint32_t steps) {
    const auto sum = static_cast<uint32_t>(V::store_codes(planes[plane] + i, x));
    sums[i / 16] = static_cast<int32_t>(static_cast<uint32_t>(sums[i / 16]) + steps * sum);
  }
};

template <class V, CodeOrder Order>
void quantize_group(const float* x, int64_t group, const ActivationRows& to) {
  using F = typename V::F;
  F best = V::zero();
  for (int i = 0; i < activation_group; i += V::lanes) best = V::max(best, V::abs(V::load(x + i)));
  const float largest = V::reduce_max(best);
  const bool fine = to.planes == 2;
  const float scale = fine ? fine_code_scale(largest) : largest / 127.0f;
  const float coarse_factor = largest > 0 ? 127.0f / largest : 0.0f;
  const F factor = V::set1(fine ? fine_code_factor(largest) : coarse_factor);
  CodesOfGroup<V> codes;
  for (int i = 0; i < activation_group; i += V::lanes) {
    codes.put(to.planes, i, V::mul(V::load(x + i), factor));
  }
  const int64_t at = group * to.tokens + to.token;
  to.scales[at] = scale;
  to.group_sums[at] = scale * static_cast<float>(codes.sums[0] + codes.sums[1]);
  for (int half = 0; half < 2; ++half) {
    const int64_t half_at = (2 * group + half) * to.tokens + to.token;
    to.code_sums[half_at] = -codes.sums[half];
    to.half_sums[half_at] = scale * static_cast<float>(codes.sums[half]);
  }
  const int rows = to.tokens * to.planes;
  for (int plane = 0; plane < to.planes; ++plane) {
    const int row = to.token * to.planes + plane;
    if constexpr (Order == CodeOrder::rows) {
      __builtin_memcpy(to.codes + activation_group * (group * rows + row), codes.planes[plane],
                       activation_group);
    } else {
      int8_t* out = to.codes + 4 * (group * 8 * rows + row);
      for (int quad = 0; quad < 8; ++quad, out += 4 * rows) {
        __builtin_memcpy(out, codes.planes[plane] + 4 * quad, 4);
      }
    }
  }
}

template <class V, CodeOrder Order = CodeOrder::quads>
void quantize_row(const float* x, int64_t columns, const ActivationRows& to) {
  const int64_t whole = columns / activation_group;
  for (int64_t g = 0; g < whole; ++g) quantize_group<V, Order>(x + g * activation_group, g, to);
  const int64_t padded = (columns + 255) / 256 * 256 / activation_group;
  for (int64_t g = whole; g < padded; ++g) {
    float rest[activation_group] = {};
    for (int64_t i = g * activation_group; i < columns; ++i) rest[i - g * activation_group] = x[i];
    quantize_group<V, Order>(rest, g, to);
  }
}

// Plain loops: a head is short, and the compiler turns both pairings into vectors.
template <class V>
void rope_head(float* head, const float* cos_sin, int rotary_dim, RopePairs pairs) {
  const int half = rotary_dim / 2;
  const int stride = pairs == RopePairs::neox ? 1 : 2;
  const int distance = pairs == RopePairs::neox ? half : 1;
  for (int i = 0; i < half; ++i) {
    float& a = head[i * stride];
    float& b = head[i * stride + distance];
    const float c = cos_sin[2 * i];
    const float s = cos_sin[2 * i + 1];
    const float turned = a * c - b * s;
    b = a * s + b * c;
    a = turned;
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
