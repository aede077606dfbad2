#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>

// Vectors of AVX2 with FMA and F16C; see simd_avx512.h for what each member promises.
namespace ridge::backend::cpu {
namespace {

struct Avx2 {
  static constexpr int lanes = 8;
  static constexpr int max_tile_rows = 4;
  static constexpr int block_rows = 6;
  static constexpr int block_vectors = 2;
  static constexpr bool has_bf16_dot = false;
  static constexpr bool has_word_dot = false;
  static constexpr bool byte_codes_are_signed = true;

  using F = __m256;
  using I = __m256i;
  using B = __m256i;

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F pow2(F n) {
    const I biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static F scale2(F a, F n) { return mul(a, pow2(n)); }
  static bool any_greater(F a, F b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
  }
  static float reduce_add(F a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  static float reduce_max(F a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }
  static F keep(F a, int first, int last, float fill) {
    const I lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const I in = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(first), lane),
                                     _mm256_cmpgt_epi32(_mm256_set1_epi32(last), lane));
    return _mm256_blendv_ps(set1(fill), a, _mm256_castsi256_ps(in));
  }

  static F load_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m128i bits = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static void load_bf16_pairs(const void* p, F& even, F& odd) {
    const I bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    even = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(-65536)));
  }
  static F load_i8(const void* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
  }
  static void store_f16(void* p, F x) {
    _mm_storeu_si128(static_cast<__m128i*>(p),
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_bf16(void* p, F x) {
    const I bits = _mm256_castps_si256(x);
    const I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const I rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    _mm_storeu_si128(
        static_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
  }
  static int32_t store_codes(int8_t* p, F x) {
    const I rounded = _mm256_cvtps_epi32(x);
    const __m128i low = _mm256_castsi256_si128(rounded);
    const __m128i high = _mm256_extracti128_si256(rounded, 1);
    const __m128i words = _mm_packs_epi32(low, high);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    __m128i sum = _mm_add_epi32(low, high);
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return _mm_cvtsi128_si32(sum);
  }

  static void store_planes(int8_t* p, F coarse, F fine) {
    const auto bytes = [](F x) {
      const I whole = _mm256_cvtps_epi32(x);
      const __m128i words =
          _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
      return _mm_packs_epi16(words, words);
    };
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_unpacklo_epi32(bytes(coarse), bytes(fine)));
  }

  static I iset1(int32_t x) { return _mm256_set1_epi32(x); }
  static I izero() { return _mm256_setzero_si256(); }
  static I iadd(I a, I b) { return _mm256_add_epi32(a, b); }
  static I isub(I a, I b) { return _mm256_sub_epi32(a, b); }
  template <int Left>
  static I ishift(I a) {
    return _mm256_slli_epi32(a, Left);
  }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static B load_bytes(const std::byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static B low_nibbles(B a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static B high_nibbles(B a) {
    return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15));
  }
  template <int Right>
  static B shifted(B a) {
    if constexpr (Right > 0) return _mm256_srli_epi16(a, Right);
    if constexpr (Right < 0) return _mm256_slli_epi16(a, -Right);
    return a;
  }
  static B masked(B a, int mask) {
    return _mm256_and_si256(a, _mm256_set1_epi8(static_cast<char>(mask)));
  }
  static B join(B low, B high, int mask) { return _mm256_or_si256(low, masked(high, mask)); }
  static B level(const std::array<uint8_t, 16>& levels, B nibbles) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels.data()));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
  }
  // Code `column` of every lane's four.
  static F code_float(B codes, int column) {
    const I shifted = column == 0 ? codes : _mm256_srli_epi32(codes, 8 * column);
    return to_float(_mm256_and_si256(shifted, _mm256_set1_epi32(255)));
  }
  static I quad(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm256_set1_epi32(bits);
  }
  static I dot4_small(I acc, B codes, const int8_t* x) {
    const I pairs = _mm256_maddubs_epi16(codes, quad(x));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static I dot4_byte(I acc, B codes, const int8_t* x) {
    const B weight = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    const I pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(quad(x), weight));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

}  // namespace
}  // namespace ridge::backend::cpu
