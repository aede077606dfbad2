#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "tensor/float_formats.h"

// Vectors of plain C++, for machines that have none of the others; see simd_avx512.h for what each
// member promises.
namespace ridge::backend::cpu {
namespace {

struct Scalar {
  static constexpr int lanes = 8;
  static constexpr int max_tile_rows = 2;
  static constexpr int block_rows = 2;
  static constexpr int block_vectors = 2;
  static constexpr bool has_bf16_dot = false;
  static constexpr bool has_word_dot = false;
  static constexpr bool byte_codes_are_signed = false;

  struct F {
    float v[lanes];
  };
  struct I {
    int32_t v[lanes];
  };
  struct B {
    uint8_t v[lanes * 4];
  };

  template <typename Fn>
  static F each(Fn fn) {
    F r;
    for (int i = 0; i < lanes; ++i) r.v[i] = fn(i);
    return r;
  }

  static F zero() { return set1(0); }
  static F set1(float x) {
    return each([&](int) { return x; });
  }
  static F load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static void store(float* p, F x) {
    for (int i = 0; i < lanes; ++i) p[i] = x.v[i];
  }
  static F add(F a, F b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F max(F a, F b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F min(F a, F b) {
    return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F abs(F a) {
    return each([&](int i) { return a.v[i] < 0 ? -a.v[i] : a.v[i]; });
  }
  static F fma(F a, F b, F c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static F fnma(F a, F b, F c) {
    return each([&](int i) { return c.v[i] - a.v[i] * b.v[i]; });
  }
  static F round(F a) {
    return each([&](int i) { return std::nearbyintf(a.v[i]); });
  }
  static F pow2(F n) {
    return each(
        [&](int i) { return std::bit_cast<float>((static_cast<int32_t>(n.v[i]) + 127) << 23); });
  }
  static F scale2(F a, F n) { return mul(a, pow2(n)); }
  static bool any_greater(F a, F b) {
    bool any = false;
    for (int i = 0; i < lanes; ++i) any = any || a.v[i] > b.v[i];
    return any;
  }
  static float reduce_add(F a) {
    float sum = 0;
    for (float x : a.v) sum += x;
    return sum;
  }
  static float reduce_max(F a) {
    float best = a.v[0];
    for (float x : a.v) best = x > best ? x : best;
    return best;
  }
  static F keep(F a, int first, int last, float fill) {
    return each([&](int i) { return i >= first && i < last ? a.v[i] : fill; });
  }

  static uint16_t half_at(const void* p, int i) {
    uint16_t bits;
    __builtin_memcpy(&bits, static_cast<const char*>(p) + 2 * i, 2);
    return bits;
  }
  static F load_f16(const void* p) {
    return each([&](int i) { return f16_to_f32(half_at(p, i)); });
  }
  static F load_bf16(const void* p) {
    return each([&](int i) { return bf16_to_f32(half_at(p, i)); });
  }
  static void load_bf16_pairs(const void* p, F& even, F& odd) {
    even = each([&](int i) { return bf16_to_f32(half_at(p, 2 * i)); });
    odd = each([&](int i) { return bf16_to_f32(half_at(p, 2 * i + 1)); });
  }
  static F load_i8(const void* p) {
    return each([&](int i) { return static_cast<float>(static_cast<const int8_t*>(p)[i]); });
  }
  static void store_f16(void* p, F x) {
    for (int i = 0; i < lanes; ++i) static_cast<uint16_t*>(p)[i] = f32_to_f16(x.v[i]);
  }
  static void store_bf16(void* p, F x) {
    for (int i = 0; i < lanes; ++i) static_cast<uint16_t*>(p)[i] = f32_to_bf16(x.v[i]);
  }
  static void store_bf16_pairs(void* p, F lo, F hi) {
    for (int i = 0; i < lanes; ++i) {
      static_cast<uint16_t*>(p)[2 * i] = f32_to_bf16(lo.v[i]);
      static_cast<uint16_t*>(p)[2 * i + 1] = f32_to_bf16(hi.v[i]);
    }
  }
  static void store_rounded_pairs(void* p, F lo, F hi) {
    const auto rounded = [](float x) {
      return static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + 0x8000) >> 16);
    };
    for (int i = 0; i < lanes; ++i) {
      static_cast<uint16_t*>(p)[2 * i] = rounded(lo.v[i]);
      static_cast<uint16_t*>(p)[2 * i + 1] = rounded(hi.v[i]);
    }
  }
  static F swap_middles(F a) {
    return each([&](int i) { return a.v[i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i]; });
  }
  static int32_t store_codes(int8_t* p, F x) {
    int32_t sum = 0;
    for (int i = 0; i < lanes; ++i) {
      p[i] = static_cast<int8_t>(std::nearbyintf(x.v[i]));
      sum += p[i];
    }
    return sum;
  }

  static void store_planes(int8_t* p, F coarse, F fine) {
    for (int i = 0; i < lanes; ++i) {
      p[i / 4 * 8 + i % 4] = static_cast<int8_t>(coarse.v[i]);
      p[i / 4 * 8 + 4 + i % 4] = static_cast<int8_t>(fine.v[i]);
    }
  }

  static I iset1(int32_t x) {
    I r;
    for (int32_t& lane : r.v) lane = x;
    return r;
  }
  static I izero() { return {}; }
  static I iadd(I a, const I& b) {
    for (int i = 0; i < lanes; ++i) a.v[i] += b.v[i];
    return a;
  }
  static I isub(I a, const I& b) {
    for (int i = 0; i < lanes; ++i) a.v[i] -= b.v[i];
    return a;
  }
  template <int Left>
  static I ishift(I a) {
    for (int32_t& x : a.v) x *= 1 << Left;
    return a;
  }
  static F to_float(I a) {
    return each([&](int i) { return static_cast<float>(a.v[i]); });
  }
  // Of numbers that no int32 holds: the least, as processors have it.
  static I to_ints(F a) {
    I r;
    for (int i = 0; i < lanes; ++i) {
      const float x = std::nearbyintf(a.v[i]);
      r.v[i] = x >= -2147483648.0f && x < 2147483648.0f ? static_cast<int32_t>(x) : INT32_MIN;
    }
    return r;
  }
  static B load_bytes(const std::byte* p) {
    B r;
    __builtin_memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static I load_ints(const int32_t* p) {
    I r;
    __builtin_memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static I load_byte_ints(const std::byte* p) {
    I r;
    for (int i = 0; i < lanes; ++i) r.v[i] = static_cast<int8_t>(p[i]);
    return r;
  }
  static void store_ints(int32_t* p, const I& a) { __builtin_memcpy(p, a.v, sizeof(a.v)); }
  static I masked_ints(I a, int mask) {
    for (int32_t& x : a.v) x &= mask;
    return a;
  }
  template <int Right>
  static I shifted_ints(I a) {
    for (int32_t& x : a.v) x >>= Right;
    return a;
  }
  static B scale_bytes(B codes, const I& factor) {
    for (int i = 0; i < lanes * 4; ++i)
      codes.v[i] = static_cast<uint8_t>(codes.v[i] * factor.v[i / 4]);
    return codes;
  }
  static B minus_bytes(B codes, int offset) {
    for (uint8_t& x : codes.v) x = static_cast<uint8_t>(x - offset);
    return codes;
  }
  static void scale_words(const B& codes, const I& factor, B& low, B& high) {
    for (int i = 0; i < lanes * 4; ++i) {
      const int product = static_cast<int8_t>(codes.v[i]) * factor.v[i / 4];
      low.v[i] = static_cast<uint8_t>(product);
      high.v[i] = static_cast<uint8_t>(product >> 8);
    }
  }
  static B bf16_pairs(const I& low, const I& high) {
    B pairs;
    store_bf16_pairs(pairs.v, to_float(low), to_float(high));
    return pairs;
  }
  static F truncated(F a) {
    return each(
        [&](int i) { return std::bit_cast<float>(std::bit_cast<uint32_t>(a.v[i]) & 0xffff0000u); });
  }
  static B word_pairs(const I& a, const I& b) { return halves(a, b, 0); }
  static B upper_halves(const I& a, const I& b) { return halves(a, b, 16); }
  static B halves(const I& a, const I& b, int shift) {
    I pairs;
    for (int i = 0; i < lanes; ++i) {
      const uint32_t low = static_cast<uint32_t>(a.v[i]) >> shift & 0xffff;
      pairs.v[i] = static_cast<int32_t>(low | static_cast<uint32_t>(b.v[i]) >> shift << 16);
    }
    return std::bit_cast<B>(pairs);
  }
  static B truncated_pairs(const F& a, const F& b) {
    return upper_halves(std::bit_cast<I>(a), std::bit_cast<I>(b));
  }
  static void store_bytes(std::byte* p, const B& a) { __builtin_memcpy(p, a.v, sizeof(a.v)); }
  static void store_low_bytes(std::byte* p, const I& a) {
    for (int i = 0; i < lanes; ++i) p[i] = static_cast<std::byte>(a.v[i]);
  }
  static void turn_codes(const std::byte* from, int64_t step, std::byte* to) {
    for (int token = 0; token < 16; ++token) {
      for (int dim = 0; dim < 16; ++dim) {
        const std::byte code = from[token / 4 * step + dim * 4 + token % 4];
        to[dim / 4 * 64 + token * 4 + dim % 4] = code ^ std::byte{128};
      }
    }
  }
  static B low_nibbles(B a) {
    for (uint8_t& x : a.v) x &= 15;
    return a;
  }
  static B high_nibbles(B a) {
    for (uint8_t& x : a.v) x >>= 4;
    return a;
  }
  template <int Right>
  static B shifted(B a) {
    for (uint8_t& x : a.v) x = static_cast<uint8_t>(Right > 0 ? x >> Right : x << -Right);
    return a;
  }
  static B masked(B a, int mask) {
    for (uint8_t& x : a.v) x &= mask;
    return a;
  }
  static B join(B low, const B& high, int mask) {
    for (int i = 0; i < lanes * 4; ++i) low.v[i] |= high.v[i] & mask;
    return low;
  }
  static B level(const std::array<uint8_t, 16>& levels, B nibbles) {
    for (uint8_t& x : nibbles.v) x = levels[x];
    return nibbles;
  }
  static F code_float(const B& codes, int column) {
    return each([&](int i) { return static_cast<float>(codes.v[4 * i + column]); });
  }
  template <int First>
  static B codes_in_bf16(const B& codes) {
    B pairs;
    for (int i = 0; i < lanes * 4; i += 2) {
      pairs.v[i] = codes.v[i + First];
      pairs.v[i + 1] = 0x43;
    }
    return pairs;
  }
  static F low_bf16(const B& pairs) {
    return each([&](int i) { return bf16_to_f32(half_at(pairs.v, 2 * i)); });
  }
  static F high_bf16(const B& pairs) {
    return each([&](int i) { return bf16_to_f32(half_at(pairs.v, 2 * i + 1)); });
  }
  static I dot4_small(I acc, const B& codes, const int8_t* x) {
    for (int i = 0; i < lanes; ++i) {
      for (int k = 0; k < 4; ++k) acc.v[i] += codes.v[4 * i + k] * x[k];
    }
    return acc;
  }
  static I dot4_byte(I acc, const B& codes, const int8_t* x) { return dot4_small(acc, codes, x); }
};

}  // namespace
}  // namespace ridge::backend::cpu
