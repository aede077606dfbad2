#pragma once

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstdint>

// Vectors of AVX-512 (F, BW, DQ, VL), with and without VNNI. Everything here is in an unnamed
// namespace: each kernels_*.cc owns its copy, so that the linker cannot give code for one machine
// to another. The same holds for simd_avx2.h and simd_scalar.h, which have the same members (AVX2
// lacks those of panels, for it has no bfloat16 products).
namespace ridge::backend::cpu {
namespace {

struct Avx512 {
  static constexpr int lanes = 16;
  static constexpr int max_tile_rows = 8;
  // Attention's register tile: rows × vectors of accumulators.
  static constexpr int block_rows = 6;
  static constexpr int block_vectors = 4;
  static constexpr bool has_bf16_dot = false;
  static constexpr bool has_word_dot = false;  // of int16 pairs
  // dot4_byte sees a code c as c - 128 (else as c).
  static constexpr bool byte_codes_are_signed = true;

  using F = __m512;   // [lanes] float32
  using I = __m512i;  // [lanes] int32
  using B = __m512i;  // [lanes][4] codes

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F abs(F a) { return _mm512_abs_ps(a); }
  // a · b + c and c - a · b.
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F round(F a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // 2^n for whole n in [-126, 127].
  static F pow2(F n) {
    const I biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
  }
  // a · 2^n for whole n in [-126, 127].
  static F scale2(F a, F n) { return _mm512_scalef_ps(a, n); }
  static bool any_greater(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
  static float reduce_add(F a) { return _mm512_reduce_add_ps(a); }
  static float reduce_max(F a) { return _mm512_reduce_max_ps(a); }
  // Lanes in [first, last) of a, `fill` in the others.
  static F keep(F a, int first, int last, float fill) {
    const auto below = [](int n) { return n <= 0 ? 0u : n >= 16 ? 0xffffu : (1u << n) - 1u; };
    const auto mask = static_cast<__mmask16>(below(last) & ~below(first));
    return _mm512_mask_mov_ps(set1(fill), mask, a);
  }

  static F load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  // 2 · lanes values, the even and the odd ones apart.
  static void load_bf16_pairs(const void* p, F& even, F& odd) {
    const I bits = _mm512_loadu_si512(p);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-65536)));
  }
  static F load_i8(const void* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
  }
  static void store_f16(void* p, F x) {
    _mm256_storeu_si256(static_cast<__m256i*>(p),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_bf16(void* p, F x) {
    const I bits = _mm512_castps_si512(x);
    const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const I rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_storeu_si256(static_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
  // lo and hi as bfloat16 side by side: p[2 i] = lo[i], p[2 i + 1] = hi[i].
  static void store_bf16_pairs(void* p, F lo, F hi) {
#ifdef __AVX512BF16__
    const auto halves = std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(hi, lo));
    alignas(64) static constexpr uint16_t side_by_side[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const I order = _mm512_load_si512(side_by_side);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(order, halves));
#else
    const auto rounded = [](F x) {
      const I bits = _mm512_castps_si512(x);
      const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
      return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    };
    const I low = _mm512_srli_epi32(rounded(lo), 16);
    _mm512_storeu_si512(p, _mm512_mask_mov_epi16(low, 0xaaaaaaaau, rounded(hi)));
#endif
  }
  // The same with ties away from zero, of finite values: a lane each way, where the above needs
  // lanes to change places.
  static void store_rounded_pairs(void* p, F lo, F hi) {
    const auto rounded = [](F x) {
      return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
    };
    const I low = _mm512_srli_epi32(rounded(lo), 16);
    _mm512_storeu_si512(p, _mm512_mask_mov_epi16(low, 0xaaaaaaaau, rounded(hi)));
  }
  // Rounded to bfloat16 towards zero.
  static F truncated(F a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(-65536)));
  }
  // The upper halves of a's and b's lanes side by side (word_pairs has the lower ones).
  static B upper_halves(B a, B b) {
    return _mm512_mask_mov_epi16(_mm512_srli_epi32(a, 16), 0xaaaaaaaau, b);
  }
  // The same of floats: as bfloat16, rounded towards zero.
  static B truncated_pairs(F a, F b) {
    return upper_halves(_mm512_castps_si512(a), _mm512_castps_si512(b));
  }
  // Lane j of row i becomes lane i of row j.
  static void transpose(F (&rows)[16]) {
    F x[16];
    // Pairs of rows, and then fours, come together in quarters of 4 lanes; then the quarters change
    // places.
    for (int i = 0; i < 16; i += 2) {
      x[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
      x[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    const auto low = [](F a, F b) {
      return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    };
    const auto high = [](F a, F b) {
      return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    };
    for (int i = 0; i < 16; i += 4) {
      rows[i] = low(x[i], x[i + 2]);
      rows[i + 1] = high(x[i], x[i + 2]);
      rows[i + 2] = low(x[i + 1], x[i + 3]);
      rows[i + 3] = high(x[i + 1], x[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
      const F a = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0x88);
      const F b = _mm512_shuffle_f32x4(rows[i], rows[i + 4], 0xdd);
      const F c = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0x88);
      const F d = _mm512_shuffle_f32x4(rows[i + 8], rows[i + 12], 0xdd);
      x[i] = _mm512_shuffle_f32x4(a, c, 0x88);
      x[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
      x[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
      x[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; ++i) rows[i] = x[i];
  }
  // Lanes 0, 2, 1, 3 of each four.
  static F swap_middles(F a) { return _mm512_permute_ps(a, 0xd8); }
  // Rounds to nearest even into int8; returns the sum of the codes.
  static int32_t store_codes(int8_t* p, F x) {
    const I rounded = _mm512_cvtps_epi32(x);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(rounded));
    return _mm512_reduce_add_epi32(rounded);
  }

  // Rounds to nearest even into int16.
  static void store_words(int16_t* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
  }

  // Whole numbers in [-127, 127] as int8, by fours: [lanes / 4]{ coarse [4], fine [4] }.
  static void store_planes(int8_t* p, F coarse, F fine) {
    const __m128i c = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(coarse));
    const __m128i f = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(fine));
    auto* to = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(to, _mm_unpacklo_epi32(c, f));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi32(c, f));
  }

  static I iset1(int32_t x) { return _mm512_set1_epi32(x); }
  static I izero() { return _mm512_setzero_si512(); }
  static I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
  static I isub(I a, I b) { return _mm512_sub_epi32(a, b); }
  template <int Left>
  static I ishift(I a) {
    return _mm512_slli_epi32(a, Left);
  }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  // Rounds to nearest even.
  static I to_ints(F a) { return _mm512_cvtps_epi32(a); }
  // The bits of the least power of two that is not below a, which is positive.
  static I power_above(F a) {
    const I up = _mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffff));
    return _mm512_and_si512(up, _mm512_set1_epi32(0x7f800000));
  }
  static F from_bits(I bits) { return _mm512_castsi512_ps(bits); }
  static void store_ints(int32_t* p, I a) { _mm512_storeu_si512(p, a); }
  static B load_bytes(const std::byte* p) { return _mm512_loadu_si512(p); }
  static I load_ints(const int32_t* p) { return _mm512_loadu_si512(p); }
  // int8, one for each lane.
  static I load_byte_ints(const std::byte* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I masked_ints(I a, int mask) { return _mm512_and_si512(a, _mm512_set1_epi32(mask)); }
  template <int Right>
  static I shifted_ints(I a) {
    return _mm512_srai_epi32(a, Right);
  }
  // Each lane's four codes times its factor, below 256: two share a multiplication, no product
  // carries.
  static B scale_bytes(B codes, I factor) { return _mm512_mullo_epi16(codes, in_halves(factor)); }
  static B minus_bytes(B codes, int offset) {
    return _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(offset)));
  }
  // The two bytes of each product of a lane's four signed codes and its factor.
  static void scale_words(B codes, I factor, B& low, B& high) {
    const I factors = in_halves(factor), low_bytes = _mm512_set1_epi16(0xff);
    const B even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 8), factors);
    const B odd = _mm512_mullo_epi16(_mm512_srai_epi16(codes, 8), factors);
    low = _mm512_ternarylogic_epi32(low_bytes, even, _mm512_slli_epi16(odd, 8), 0xca);
    high = _mm512_ternarylogic_epi32(low_bytes, _mm512_srli_epi16(even, 8), odd, 0xca);
  }
  // The lower 16 bits of each lane of both, side by side.
  static B word_pairs(I low, I high) {
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
  }
  static I in_halves(I a) { return word_pairs(a, a); }
  // Whole numbers of at most 8 bits as bfloat16, side by side.
  static B bf16_pairs(I low, I high) {
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(to_float(low)), 16),
                           _mm512_castps_si512(to_float(high)));
  }
  static void store_bytes(std::byte* p, B a) { _mm512_storeu_si512(p, a); }
  // The lowest byte of each lane.
  static void store_low_bytes(std::byte* p, I a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
  }
  // Four lines `step` bytes apart, of 16 dimensions by 4 tokens, become lines of 64 bytes, of 16 tokens by
  // 4 dimensions; of each byte 128 is taken away.
  static void turn_codes(const std::byte* from, int64_t step, std::byte* to) {
    const B order = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const auto turned = [&](int i) {
      return minus_bytes(_mm512_shuffle_epi8(load_bytes(from + i * step), order), 128);
    };
    const B a = turned(0), b = turned(1), c = turned(2), d = turned(3);
    const B low_ab = _mm512_shuffle_i32x4(a, b, 0x44), high_ab = _mm512_shuffle_i32x4(a, b, 0xee);
    const B low_cd = _mm512_shuffle_i32x4(c, d, 0x44), high_cd = _mm512_shuffle_i32x4(c, d, 0xee);
    store_bytes(to, _mm512_shuffle_i32x4(low_ab, low_cd, 0x88));
    store_bytes(to + 64, _mm512_shuffle_i32x4(low_ab, low_cd, 0xdd));
    store_bytes(to + 128, _mm512_shuffle_i32x4(high_ab, high_cd, 0x88));
    store_bytes(to + 192, _mm512_shuffle_i32x4(high_ab, high_cd, 0xdd));
  }
  static B low_nibbles(B a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static B high_nibbles(B a) {
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15));
  }
  // Each byte's bits `Right` places further down (or up); what crosses bytes is for masked() or
  // join() to drop.
  template <int Right>
  static B shifted(B a) {
    if constexpr (Right > 0) return _mm512_srli_epi16(a, Right);
    if constexpr (Right < 0) return _mm512_slli_epi16(a, -Right);
    return a;
  }
  static B masked(B a, int mask) {
    return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(mask)));
  }
  // low | (high & mask).
  static B join(B low, B high, int mask) {
    return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(static_cast<char>(mask)), 0xf8);
  }
  // levels[nibble].
  static B level(const std::array<uint8_t, 16>& levels, B nibbles) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels.data()));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles);
  }
  // Code `column` of every lane's four.
  static F code_float(B codes, int column) {
    const I shifted = column == 0 ? codes : _mm512_srli_epi32(codes, 8 * column);
    return to_float(column == 3 ? shifted : _mm512_and_si512(shifted, _mm512_set1_epi32(255)));
  }
  // Codes First and First + 2 of every lane's four, below 128, as bfloat16 128 + code in its
  // halves.
  template <int First>
  static B codes_in_bf16(B codes) {
    const B shifted = First == 0 ? codes : _mm512_srli_epi32(codes, 8 * First);
    return _mm512_or_si512(_mm512_and_si512(shifted, _mm512_set1_epi32(0x00ff00ff)),
                           _mm512_set1_epi32(0x43004300));
  }
  // Every lane's lower and upper bfloat16.
  static F low_bf16(B pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
  static F high_bf16(B pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
  }
  static I quad(const int8_t* x) {
    int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm512_set1_epi32(bits);
  }
  // acc + Σ of 4 products of codes in [0, 63] and x[0 … 3], in each lane.
  static I dot4_small(I acc, B codes, const int8_t* x) {
    const I pairs = _mm512_maddubs_epi16(codes, quad(x));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  // The same for codes in [0, 255], seen as code - 128: |code| · sign(code) x cannot saturate.
  static I dot4_byte(I acc, B codes, const int8_t* x) {
    const B weight = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
    const I a = quad(x);
    const I turned =
        _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(weight), _mm512_setzero_si512(), a);
    const I pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(weight), turned);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
};

#ifdef __AVX512VNNI__
struct Avx512Vnni : Avx512 {
  static constexpr bool has_word_dot = true;
  using Avx512::reduce_max;
  static constexpr bool byte_codes_are_signed = false;
  // _mm512_dpbusd_epi32, but GCC 12 copies and spills the accumulators of its intrinsic, which
  // halves the speed of a register tile.
  static I dot4(I acc, B codes, I quads) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(quads));
    return acc;
  }
  // acc + Σ of 2 products of int16 pairs, in each lane; `pair` is the same for all lanes.
  static I dot2_words(I acc, B pairs, const int16_t* pair) {
    asm("vpdpwssd %2%{1to16%}, %1, %0"
        : "+v"(acc)
        : "v"(pairs), "m"(*reinterpret_cast<const int16_t(*)[2]>(pair)));
    return acc;
  }
  static I dot2_words(I acc, B pairs, I other) {
    asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(pairs), "v"(other));
    return acc;
  }
  static B add_words(B a, B b) { return _mm512_add_epi16(a, b); }
  static B minus_words(B words, int offset) {
    return _mm512_sub_epi16(words, _mm512_set1_epi16(static_cast<short>(offset)));
  }
  // Two int16, the same for all lanes.
  static B word_pair(const int16_t* pair) {
    int32_t bits;
    __builtin_memcpy(&bits, pair, 4);
    return _mm512_set1_epi32(bits);
  }
  // A vector for several uses. Where the compiler may choose, it loads it again for each of them,
  // and loads become the bound.
  static B load_once(const std::byte* p) {
    B loaded = load_bytes(p);
    asm("" : "+v"(loaded));
    return loaded;
  }
  // 2 · lanes values, rounded to nearest even into int16, in fours of columns 0, 2, 1 and 3 of a
  // quad; the quads are 0, 4, 1, 5, 2, 6, 3 and 7.
  static B quads_of_words(F low, F high) {
    const B words = _mm512_packs_epi32(_mm512_cvtps_epi32(low), _mm512_cvtps_epi32(high));
    const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    return _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(order));
  }
  // Each quad of such words `stride` words after the one before.
  static void store_quads(B words, int16_t* p, int64_t stride) {
    const auto two = [p, stride](int quad, __m128i both) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p + quad * stride), both);
      _mm_storeh_pd(reinterpret_cast<double*>(p + (quad + 4) * stride), _mm_castsi128_pd(both));
    };
    two(0, _mm512_castsi512_si128(words));
    two(1, _mm512_extracti32x4_epi32(words, 1));
    two(2, _mm512_extracti32x4_epi32(words, 2));
    two(3, _mm512_extracti32x4_epi32(words, 3));
  }
  // Of four vectors of such words: Σ of the paired quads' products of columns 0 and 1 and of 2 and
  // 3, modulo 2^32, the same of quads 0 to 3, and Σ of all.
  template <bool (*IsPaired)(int quad)>
  static void sums_of_quads(const B (&words)[4], int32_t* products, int32_t* half_products,
                            int32_t* sums) {
    constexpr auto paired = [] {
      int lanes = 0;
      for (int quad = 0; quad < 8; ++quad)
        lanes |= IsPaired(quad) << (4 * (quad % 4) + quad / 4 * 2);
      return static_cast<__mmask16>(lanes);
    }();
    I both[4];  // products in even lanes, sums in odd ones
    for (int i = 0; i < 4; ++i) {
      const I crossed = _mm512_madd_epi16(words[i], _mm512_shuffle_epi32(words[i], _MM_PERM_CDAB));
      const I pairs = _mm512_madd_epi16(words[i], _mm512_set1_epi16(1));
      const I fours = iadd(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_CDAB));
      both[i] = _mm512_mask_mov_epi32(_mm512_maskz_mov_epi32(0xaaaa, fours), paired, crossed);
    }
    // Four products, then four sums.
    const auto add_up = [](I first, I second) {
      const I halves = iadd(_mm512_shuffle_i32x4(first, second, 0x44),
                            _mm512_shuffle_i32x4(first, second, 0xee));
      const I all = iadd(halves, _mm512_shuffle_i32x4(halves, halves, 0xb1));
      const I order = _mm512_setr_epi32(0, 2, 8, 10, 1, 3, 9, 11, 0, 0, 0, 0, 0, 0, 0, 0);
      return _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, all));
    };
    const __m256i low =
        add_up(_mm512_unpacklo_epi64(both[0], both[1]), _mm512_unpacklo_epi64(both[2], both[3]));
    const __m256i high =
        add_up(_mm512_unpackhi_epi64(both[0], both[1]), _mm512_unpackhi_epi64(both[2], both[3]));
    const __m256i all = _mm256_add_epi32(low, high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(products), _mm256_castsi256_si128(all));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(half_products), _mm256_castsi256_si128(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), _mm256_extracti128_si256(all, 1));
  }
  // The largest lane of each.
  static void reduce_max(const F (&a)[4], float* out) {
    const F first = max(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    const F second = max(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    const F all =
        max(_mm512_shuffle_ps(first, second, 0x44), _mm512_shuffle_ps(first, second, 0xee));
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  // Σ of each 16 of codes[64].
  static void sum_sixteens(const int8_t* codes, int32_t* sums) {
    const I fours =
        dot4(izero(), _mm512_set1_epi8(1), load_bytes(reinterpret_cast<const std::byte*>(codes)));
    const I eights = iadd(fours, _mm512_shuffle_epi32(fours, _MM_PERM_CDAB));
    const I all = iadd(eights, _mm512_shuffle_epi32(eights, _MM_PERM_BADC));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums),
                     _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, all)));
  }
  // a with *shift added to its bits, which multiplies it by a power of two. Where the compiler may
  // choose, it keeps *shift for a second use, in a register that a sum has to leave.
  static F add_exponent(F a, const int32_t* shift) {
    F sum;
    asm("vpaddd %2%{1to16%}, %1, %0" : "=v"(sum) : "v"(a), "m"(*shift));
    return sum;
  }
  static I dot4_small(I acc, B codes, const int8_t* x) { return dot4(acc, codes, quad(x)); }
  static I dot4_byte(I acc, B codes, const int8_t* x) { return dot4(acc, codes, quad(x)); }
};
#endif

#ifdef __AVX512BF16__
struct Avx512Bf16 : Avx512Vnni {
  static constexpr bool has_bf16_dot = true;
  static void store_bf16(void* p, F x) {
    const auto rounded = _mm512_cvtneps_pbh(x);
    __builtin_memcpy(p, &rounded, sizeof rounded);
  }
  // x by twos: [lanes / 2]{ rounded [2], what that leaves, rounded [2] }.
  static void store_bf16_split(void* p, F x) {
    const auto high = (__m256i)_mm512_cvtneps_pbh(x);
    const F rest =
        _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
    const auto low = (__m256i)_mm512_cvtneps_pbh(rest);
    const __m512i order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(high), low, 1);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, both));
  }
  // acc + Σ of 2 products of bfloat16 pairs, in each lane; `pair` is the same for all lanes.
  static F dot2(F acc, B pairs, const std::byte* pair) {
    int32_t bits;
    __builtin_memcpy(&bits, pair, 4);
    return _mm512_dpbf16_ps(acc, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(bits));
  }
  // Rounds a and b, side by side, to bfloat16; returns acc + a + b of the rounded values.
  static F store_bf16_and_add(F acc, void* p, F a, F b) {
    const __m512bh both = _mm512_cvtne2ps_pbh(b, a);
    _mm512_storeu_si512(p, (__m512i)both);
    return _mm512_dpbf16_ps(acc, both, (__m512bh)_mm512_set1_epi32(0x3f803f80));
  }
};
#endif

}  // namespace
}  // namespace ridge::backend::cpu
