#pragma once

#include "backend/cpu/row_kernels.h"

// In what numbers attention multiplies: how a query row, a row of weights and a vector of the cache
// are held, and one step of a dot product. A `Loaded` is one vector's worth of a group
// (KvGeometry): 16 keys × group dimensions, or 16 dimensions × group tokens; the row's side of the
// step is the same for all lanes.
namespace ridge::backend::cpu {
namespace {

inline constexpr float log2_e = 1.44269504f;

// 2^x for x in [-126, 127], smaller x as -126; relative error about (ln 2 / 2)^(Degree + 1) /
// (Degree + 1)!.
template <class V, int Degree>
typename V::F exp2(typename V::F x) {
  using F = typename V::F;
  constexpr float taylor[] = {1.0f,           0.693147181f,   0.240226507f,   0.0555041087f,
                              0.00961812911f, 0.00133335581f, 0.000154035304f};
  static_assert(Degree <= 6);
  x = V::max(x, V::set1(-126.0f));
  const F n = V::round(x);
  const F r = V::sub(x, n);
  F p = V::set1(taylor[Degree]);
  for (int i = Degree - 1; i >= 0; --i) p = V::fma(p, r, V::set1(taylor[i]));
  return V::scale2(p, n);
}

// The keys of one chunk, 16 by 16: each part lies in one block.
inline constexpr int chunk_parts = attention_chunk / 16;
struct Chunk {
  const std::byte* keys[chunk_parts];    // of the part's first key
  const std::byte* values[chunk_parts];  // of its first token
  const float* key_scales[chunk_parts];
  const float* value_scales[chunk_parts];
  int64_t key_step;    // bytes from one group of dimensions to the next
  int64_t value_step;  // bytes from one group of tokens to the next
  int tokens;          // at most attention_chunk; 16 parts' worth at most is past the context
};

// A chunk's weights times the scales of its tokens' values, and their sums without, lane by lane; returns the
// largest product. Past the context the cache holds what others left there, be it infinite.
template <class V>
float scale_weights(const typename V::F* p, const Chunk& chunk,
                    typename V::F (&weights)[attention_chunk / V::lanes], typename V::F& sum) {
  sum = V::zero();
  auto largest = V::zero();
  for (int i = 0; i < attention_chunk / V::lanes; ++i) {
    const int token = i * V::lanes;
    weights[i] = V::mul(p[i], V::load(chunk.value_scales[token / 16] + token % 16));
    if (chunk.tokens < attention_chunk) [[unlikely]] {
      weights[i] = V::keep(weights[i], 0, chunk.tokens - token, 0);
    }
    largest = V::max(largest, weights[i]);
    sum = V::add(sum, p[i]);
  }
  return V::reduce_max(largest);
}

// Groups of dimensions whose products a score's sum has room for (`score_groups` of a Math): all,
// or so many that sums are added up as floats after each.
inline constexpr int all_groups = 1 << 20;

// What those have in common that sum in float32: a row has no factors of its own.
template <class V>
class FloatSums {
 public:
  using F = typename V::F;
  using Sum = F;
  static constexpr bool uses_tiles = false;
  static constexpr bool unpacks_keys_alone = false;
  static constexpr bool unpacks_words = false;
  static constexpr int score_groups = all_groups;
  static constexpr int most_rows = attention_rows;
  static constexpr int planes = 1;

  void begin_score(int, Sum* sum) const { clear(sum); }
  F end_score(const Sum* sum, int, const Chunk&, int) const { return sum[0]; }
  void begin_value(int, const float* out, Sum* sum) const { sum[0] = V::load(out); }
  void end_value(const Sum* sum, int, float* out) const { V::store(out, sum[0]); }

  static void clear(Sum* sum) { sum[0] = V::zero(); }
  static F total(const Sum* sum) { return sum[0]; }
};

// float32 throughout; the cache is converted as it is loaded.
template <class V, DType E>
class FloatMath : public FloatSums<V> {
 public:
  using Values = FloatMath;  // what multiplies weights and values
  using F = typename V::F;
  using Sum = F;
  static constexpr int block_rows = V::block_rows;
  static constexpr int exp_degree = 6;
  static constexpr int group = kv_group(E);
  static constexpr int lane_bytes = E == DType::f16 ? 2 : 4;  // of the cache, for one lane
  // Of a row, for one step: its query and its weights.
  static constexpr int query_bytes = 4 * group;
  static constexpr int weight_bytes = 4 * group;
  struct Loaded {
    F part[group];
  };

  // q [key_dim], zeros up to a multiple of 16, becomes what `step` takes.
  void set_query(int, float*, int) {}
  // p: the weights of a chunk, which go to `row`; returns their sums, lane by lane.
  F set_weights(int, float* row, const F* p, const Chunk&) {
    F total = V::zero();
    for (int i = 0; i < attention_chunk / V::lanes; ++i) {
      V::store(row + i * V::lanes, p[i]);
      total = V::add(total, p[i]);
    }
    return total;
  }

  static Loaded load(const std::byte* p) {
    Loaded x;
    if constexpr (E == DType::f16) {
      x.part[0] = V::load_f16(p);
    } else if constexpr (E == DType::bf16) {
      V::load_bf16_pairs(p, x.part[0], x.part[1]);
    } else {
      x.part[0] = V::load(reinterpret_cast<const float*>(p));
    }
    return x;
  }
  // Of a pair of tokens.
  static Loaded first_of(Loaded x)
    requires(group == 2)
  {
    x.part[1] = V::zero();
    return x;
  }
  static void score_step(Sum* sum, const Loaded& x, const std::byte* row) {
    for (int g = 0; g < group; ++g) {
      sum[0] = V::fma(x.part[g], V::set1(reinterpret_cast<const float*>(row)[g]), sum[0]);
    }
  }
  static void value_step(Sum* sum, const Loaded& x, const std::byte* row) {
    score_step(sum, x, row);
  }
};

// bfloat16 pairs, summed in float32. A query is a rounded part and what that leaves, as errors of
// large scores would grow in the exponential. Weights are rounded as the cache is, or likewise in
// two parts.
template <class V, bool ExactWeights>
class Bf16Math : public FloatSums<V> {
 public:
  using Values = Bf16Math;
  using F = typename V::F;
  using Sum = F;
  static constexpr int block_rows = V::block_rows;
  static constexpr int exp_degree = ExactWeights ? 6 : 4;
  static constexpr int group = 2;
  static constexpr int lane_bytes = 4;
  static constexpr int query_bytes = 8;
  static constexpr int weight_bytes = ExactWeights ? 8 : 4;
  using Loaded = typename V::B;

  void set_query(int, float* q, int key_dim) {
    auto* to = reinterpret_cast<std::byte*>(q);
    for (int d = 0; d < key_dim; d += V::lanes) V::store_bf16_split(to + 4 * d, V::load(q + d));
  }
  // The sums are of the rounded weights, so that rounding does not change what they add up to.
  F set_weights(int, float* row, const F* p, const Chunk&) {
    F total = V::zero();
    auto* to = reinterpret_cast<std::byte*>(row);
    if constexpr (ExactWeights) {
      for (int i = 0; i < attention_chunk / V::lanes; ++i) {
        V::store_bf16_split(to + 4 * i * V::lanes, p[i]);
        total = V::add(total, p[i]);
      }
      return total;
    }
    for (int i = 0; i < attention_chunk / V::lanes; i += 2) {
      total = V::store_bf16_and_add(total, to + 2 * i * V::lanes, p[i], p[i + 1]);
    }
    return total;
  }
  static Loaded load(const std::byte* p) { return V::load_bytes(p); }
  static Loaded first_of(Loaded x) { return V::masked_ints(x, 0xffff); }  // of a pair of tokens
  static void score_step(Sum* sum, const Loaded& x, const std::byte* query) {
    sum[0] = V::dot2(V::dot2(sum[0], x, query), x, query + 4);
  }
  static void value_step(Sum* sum, const Loaded& x, const std::byte* weights) {
    sum[0] = V::dot2(sum[0], x, weights);
    if constexpr (ExactWeights) sum[0] = V::dot2(sum[0], x, weights + 4);
  }
};

// Latents of a bfloat16 cache: as keys they are unpacked, for their products run along a token; as
// values they are multiplied as they lie.
template <class V>
class Bf16LatentMath : public FloatMath<V, DType::f32> {
 public:
  using Values = Bf16Math<V, false>;
  static constexpr bool unpacks_keys_alone = true;
  static constexpr int exp_degree = Values::exp_degree;

  typename V::F set_weights(int r, float* row, const typename V::F* p, const Chunk& chunk) {
    return Values().set_weights(r, row, p, chunk);
  }
};

// An int8 cache with a scale for each token; queries and weights are two int8 planes, so that
// little but the cache's own rounding is lost.
template <class V>
class Int8Math {
 public:
  using Values = Int8Math;
  using F = typename V::F;
  using Sum = typename V::I;
  static constexpr bool uses_tiles = false;
  static constexpr bool unpacks_keys_alone = false;
  static constexpr bool unpacks_words = false;
  static constexpr int score_groups = all_groups;
  static constexpr int most_rows = attention_rows;
  static constexpr int planes = 2;  // coarse, and what that leaves over in finer steps
  static constexpr float fine_steps = 254.0f;
  static constexpr int block_rows = V::block_rows / 2;
  static constexpr int exp_degree = 6;
  static constexpr int group = 4;
  static constexpr int lane_bytes = 4;
  static constexpr int query_bytes = 8;
  static constexpr int weight_bytes = 8;
  using Loaded = typename V::B;

  void set_query(int r, float* q, int key_dim) {
    F largest = V::zero();
    for (int d = 0; d < key_dim; d += V::lanes) largest = V::max(largest, V::abs(V::load(q + d)));
    const float top = V::reduce_max(largest);
    Planes planes(top);
    auto* to = reinterpret_cast<int8_t*>(q);
    for (int d = 0; d < key_dim; d += V::lanes) planes.put(to + 2 * d, V::load(q + d));
    query_[r] = planes.row();
  }
  void begin_score(int r, Sum* sum) const { query_[r].start(sum); }
  F end_score(const Sum* sum, int r, const Chunk& chunk, int vector) const {
    const int token = vector * V::lanes;
    const F scales = V::load(chunk.key_scales[token / 16] + token % 16);
    return V::mul(V::mul(total(sum), V::set1(query_[r].scale)), scales);
  }
  F set_weights(int r, float* row, const F* p, const Chunk& chunk) {
    constexpr int vectors = attention_chunk / V::lanes;
    F weights[vectors], sum;
    Planes planes(scale_weights<V>(p, chunk, weights, sum));
    auto* to = reinterpret_cast<int8_t*>(row);
    for (int i = 0; i < vectors; ++i) planes.put(to + 2 * i * V::lanes, weights[i]);
    weights_[r] = planes.row();
    return sum;
  }
  void begin_value(int r, const float*, Sum* sum) const { weights_[r].start(sum); }
  void end_value(const Sum* sum, int r, float* out) const {
    V::store(out, V::fma(total(sum), V::set1(weights_[r].scale), V::load(out)));
  }

  static void clear(Sum* sum) { sum[0] = sum[1] = V::izero(); }
  static F total(const Sum* sum) {
    return V::fma(V::to_float(sum[1]), V::set1(1.0f / fine_steps), V::to_float(sum[0]));
  }
  static Loaded load(const std::byte* p) { return V::load_bytes(p); }
  static void score_step(Sum* sum, const Loaded& x, const std::byte* row) {
    const auto* codes = reinterpret_cast<const int8_t*>(row);
    sum[0] = V::dot4_byte(sum[0], x, codes);
    sum[1] = V::dot4_byte(sum[1], x, codes + 4);
  }
  static void value_step(Sum* sum, const Loaded& x, const std::byte* row) {
    score_step(sum, x, row);
  }

 private:
  // What a dot product begins with, to take off the 128 that the cache's codes are stored with.
  struct Row {
    float scale;
    int32_t coarse, fine;
    void start(Sum* sum) const {
      sum[0] = V::iset1(coarse);
      sum[1] = V::iset1(fine);
    }
  };

  struct Planes {
    float scale;
    F inverse, coarse_sum = V::zero(), fine_sum = V::zero();
    // Of numbers so small that the inverse would be infinite nothing is left.
    explicit Planes(float largest)
        : scale(largest / 127.0f), inverse(V::set1(largest > 1e-30f ? 127.0f / largest : 0.0f)) {}
    void put(int8_t* to, F x) {
      const F scaled = V::mul(x, inverse);
      const F coarse = V::round(scaled);
      const F fine = V::round(V::mul(V::sub(scaled, coarse), V::set1(fine_steps)));
      coarse_sum = V::add(coarse_sum, coarse);
      fine_sum = V::add(fine_sum, fine);
      V::store_planes(to, coarse, fine);
    }
    Row row() const {
      const float coarse = V::reduce_add(coarse_sum);
      // Codes of what is not finite say nothing: the scale makes no number of all that they give.
      if (!(coarse - coarse == 0)) return {coarse - coarse, 0, 0};
      if (V::byte_codes_are_signed) return {scale, 0, 0};
      return {scale, -128 * static_cast<int32_t>(coarse),
              -128 * static_cast<int32_t>(V::reduce_add(fine_sum))};
    }
  };

  Row query_[attention_rows];
  Row weights_[attention_rows];
};

// int16 throughout, for a chunk that was unpacked to it (unpack_words): a vector of keys or values
// has a scale for each token, a query and a row's weights one for each chunk. Scales leave as many
// bits as sums in int32 have room for.
//
// 16 dimensions of a query and of a key are at most most_length long, so no sum of their products,
// whole or not, passes most_length² (Cauchy-Schwarz), and each has 14 bits where they are alike.
// What that rounds off a score is some 3e-6 of both lengths' product, less than what rounding a key
// to float16 does.
template <class V>
class WordMath {
 public:
  using Values = WordMath;
  using F = typename V::F;
  using Sum = typename V::I;
  static constexpr bool uses_tiles = false;
  static constexpr bool unpacks_keys_alone = false;
  static constexpr bool unpacks_words = true;
  static constexpr int sum_dims = 16;
  static constexpr int score_groups = sum_dims / 2;
  static constexpr int most_rows = word_attention_rows;
  static constexpr int planes = 1;
  static constexpr int block_rows = V::block_rows;
  static constexpr int exp_degree = 5;
  static constexpr int group = 2;
  static constexpr int lane_bytes = 4;
  static constexpr int query_bytes = 4;
  static constexpr int weight_bytes = 4;
  using Loaded = typename V::B;
  static constexpr float most = 32767;
  static constexpr float most_length = 46000;
  // Of a chunk's weights together: with values of at most `most` they stay below 2^31.
  static constexpr float most_weights = 65400;

  void set_query(int r, float* q, int key_dim) {
    F largest = V::zero();
    float longest = 0, flaw = 0;  // NaN where a number is not finite, which no maximum tells
    for (int d = 0; d < key_dim; d += sum_dims) {
      F squares = V::zero();
      for (int i = d; i < d + sum_dims && i < key_dim; i += V::lanes) {
        const F x = V::load(q + i);
        squares = V::fma(x, x, squares);
        largest = V::max(largest, V::abs(x));
      }
      const float square = V::reduce_add(squares);
      longest = square > longest ? square : longest;
      flaw += square * 0;
    }
    const float by_largest = V::reduce_max(largest) / most;
    const float by_length = __builtin_sqrtf(longest) / most_length;
    const float scale = (by_largest > by_length ? by_largest : by_length) + flaw;
    query_scale_[r] = scale;
    const F factor = V::set1(scale > 0 ? 1 / scale : 0);
    auto* to = reinterpret_cast<int16_t*>(q);  // never past what was read
    for (int d = 0; d < key_dim; d += V::lanes) {
      V::store_words(to + d, V::mul(V::load(q + d), factor));
    }
  }
  void begin_score(int, Sum* sum) const { sum[0] = V::izero(); }
  // A score of what the products of all dimensions add up to.
  F scaled(F sum, int r, const Chunk& chunk, int vector) const {
    const int token = vector * V::lanes;
    const F scales = V::load(chunk.key_scales[token / 16] + token % 16);
    return V::mul(V::mul(sum, V::set1(query_scale_[r])), scales);
  }
  F set_weights(int r, float* row, const F* p, const Chunk& chunk) {
    constexpr int vectors = attention_chunk / V::lanes;
    F weights[vectors];
    F total = V::zero(), sum = V::zero(), largest = V::zero();
    for (int i = 0; i < vectors; ++i) {
      const int token = i * V::lanes;
      weights[i] = V::mul(p[i], V::load(chunk.value_scales[token / 16] + token % 16));
      largest = V::max(largest, weights[i]);
      sum = V::add(sum, weights[i]);
      total = V::add(total, p[i]);
    }
    const float highest = V::reduce_max(largest), all = V::reduce_add(sum);
    const float scale = highest / most > all / most_weights ? highest / most : all / most_weights;
    weights_scale_[r] = scale;
    const F factor = V::set1(scale > 0 ? 1 / scale : 0);
    auto* to = reinterpret_cast<int16_t*>(row);
    for (int i = 0; i < vectors; ++i) V::store_words(to + i * V::lanes, V::mul(weights[i], factor));
    return total;
  }
  void begin_value(int, const float*, Sum* sum) const { sum[0] = V::izero(); }
  void end_value(const Sum* sum, int r, float* out) const {
    V::store(out, V::fma(V::to_float(sum[0]), V::set1(weights_scale_[r]), V::load(out)));
  }

  static Loaded load(const std::byte* p) { return V::load_bytes(p); }
  static void score_step(Sum* sum, const Loaded& x, const std::byte* row) {
    sum[0] = V::dot2_words(sum[0], x, V::word_pair(reinterpret_cast<const int16_t*>(row)));
  }
  static void value_step(Sum* sum, const Loaded& x, const std::byte* row) {
    score_step(sum, x, row);
  }

 private:
  float query_scale_[most_rows];
  float weights_scale_[most_rows];
};

}  // namespace
}  // namespace ridge::backend::cpu
