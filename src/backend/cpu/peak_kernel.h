#pragma once

#include "backend/cpu/kernels.h"

// What one thread can do at most with one kind of vector: products of operands in registers and the
// first-level cache, and reads of a working set. Probes run them; no model does.
namespace ridge::backend::cpu {
namespace {

template <class V>
struct FloatPeak {
  using Sum = typename V::F;
  using Operand = typename V::F;
  static constexpr int products = 1;  // of a lane
  static Sum zero() { return V::zero(); }
  static Operand load(const std::byte* p) { return V::load(reinterpret_cast<const float*>(p)); }
  static Sum step(Sum sum, Operand w, const std::byte* x) {
    return V::fma(w, V::set1(*reinterpret_cast<const float*>(x)), sum);
  }
  static typename V::F result(Sum sum) { return sum; }
};

template <class V>
struct Int8Peak {
  using Sum = typename V::I;
  using Operand = typename V::B;
  static constexpr int products = 4;
  static Sum zero() { return V::izero(); }
  static Operand load(const std::byte* p) { return V::load_bytes(p); }
  static Sum step(Sum sum, Operand w, const std::byte* x) {
    return V::dot4_small(sum, w, reinterpret_cast<const int8_t*>(x));
  }
  static typename V::F result(Sum sum) { return V::to_float(sum); }
};

template <class V>
struct Bf16Peak {
  using Sum = typename V::F;
  using Operand = typename V::B;
  static constexpr int products = 2;
  static Sum zero() { return V::zero(); }
  static Operand load(const std::byte* p) { return V::load_bytes(p); }
  static Sum step(Sum sum, Operand w, const std::byte* x) { return V::dot2(sum, w, x); }
  static typename V::F result(Sum sum) { return sum; }
};

// A register tile, as large as a kernel's: one load or broadcast for several products.
template <class V, class Math>
int64_t peak_products(int64_t rounds) {
  constexpr int rows = V::block_rows, vectors = V::block_vectors;
  alignas(64) static const std::byte weights[vectors * V::lanes * 4] = {};
  alignas(64) static const std::byte tokens[rows * 4] = {};
  typename Math::Sum sums[rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) sums[r][i] = Math::zero();
  }
  const std::byte* w = weights;
  const std::byte* x = tokens;
  for (int64_t round = 0; round < rounds; ++round) {
    // Nobody may know that the operands are the same each time.
    asm volatile("" : "+r"(w), "+r"(x) : : "memory");
    typename Math::Operand loaded[vectors];
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) loaded[i] = Math::load(w + i * V::lanes * 4);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < vectors; ++i) sums[r][i] = Math::step(sums[r][i], loaded[i], x + r * 4);
    }
  }
  alignas(64) float result[V::lanes] = {};
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < vectors; ++i) {
      V::store(result, V::add(V::load(result), Math::result(sums[r][i])));
    }
  }
  asm volatile("" : : "r"(result) : "memory");
  return int64_t{1} * rows * vectors * V::lanes * Math::products * rounds;
}

template <class V>
float read_floats(const float* from, int64_t count) {
  constexpr int streams = 8;
  typename V::F sums[streams];
#pragma GCC unroll 8
  for (int i = 0; i < streams; ++i) sums[i] = V::zero();
  for (int64_t at = 0; at + streams * V::lanes <= count; at += streams * V::lanes) {
#pragma GCC unroll 8
    for (int i = 0; i < streams; ++i) {
      sums[i] = V::add(sums[i], V::load(from + at + i * V::lanes));
    }
  }
  float total = 0;
  for (int i = 0; i < streams; ++i) total += V::reduce_add(sums[i]);
  return total;
}

template <class V>
void fill_peaks(PeakKernels& peaks) {
  peaks.f32 = &peak_products<V, FloatPeak<V>>;
  peaks.i8 = &peak_products<V, Int8Peak<V>>;
  if constexpr (V::has_bf16_dot) peaks.bf16 = &peak_products<V, Bf16Peak<V>>;
  peaks.read = &read_floats<V>;
}

}  // namespace
}  // namespace ridge::backend::cpu
