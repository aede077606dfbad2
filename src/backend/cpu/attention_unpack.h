#pragma once

#include "backend/cpu/attention_math.h"

// Chunks of the cache as float32, for tiles of so many rows that this costs less than converting at
// each load, and for latents, whose values have queries too.
namespace ridge::backend::cpu {
namespace {

// Code `column` of each four of an int8 cache, which adds 128 to them.
template <class V>
typename V::F cache_code(typename V::B codes, int column) {
  return V::sub(V::code_float(codes, column), V::set1(128.0f));
}

// The codes of an int8 chunk as float32, [key_dim][64] and [64][value_stride].
template <class V>
void unpack_codes(const Chunk& chunk, const KvGeometry& kv, int parts, float* keys, float* values) {
  constexpr int group = kv_group(DType::i8);
  const auto value_of = [](typename V::B codes, int i, typename V::F scale) {
    return V::mul(cache_code<V>(codes, i), scale);
  };
  for (int part = 0; part < parts; ++part) {
    const std::byte* at = chunk.keys[part];
    for (int d = 0; d < kv.key_dim; d += group, at += chunk.key_step) {
      for (int t = 0; t < 16; t += V::lanes) {
        const auto codes = V::load_bytes(at + t * group);
        const auto scales = V::load(chunk.key_scales[part] + t);
        float* to = keys + static_cast<int64_t>(d) * attention_chunk + part * 16 + t;
        for (int i = 0; i < group; ++i) {
          V::store(to + i * attention_chunk, value_of(codes, i, scales));
        }
      }
    }
    at = chunk.values[part];
    for (int t = 0; t < 16; t += group, at += chunk.value_step) {
      float* to = values + static_cast<int64_t>(part * 16 + t) * kv.value_stride;
      for (int d = 0; d < kv.value_stride; d += V::lanes) {
        const auto codes = V::load_bytes(at + d * group);
        for (int i = 0; i < group; ++i) {
          V::store(to + i * kv.value_stride + d,
                   value_of(codes, i, V::set1(chunk.value_scales[part][t + i])));
        }
      }
    }
  }
}

// Converts a chunk to float32, [key_dim][64] and [64][value_stride], where so many rows use it that
// this costs less than converting at each load.
template <class V, DType E>
void unpack_chunk(Chunk& chunk, const KvGeometry& kv, float* scratch) {
  float* keys = scratch;
  const int dims = (kv.key_dim + kv_group(E) - 1) / kv_group(E) * kv_group(E);
  float* values = scratch + static_cast<int64_t>(dims) * attention_chunk;
  const int parts = (chunk.tokens + 15) / 16;
  if constexpr (E == DType::i8) {
    unpack_codes<V>(chunk, kv, parts, keys, values);
  } else {
    using From = FloatMath<V, E>;
    for (int part = 0; part < parts; ++part) {
      const std::byte* at = chunk.keys[part];
      for (int d = 0; d < dims; d += From::group, at += chunk.key_step) {
        for (int i = 0; i < 16; i += V::lanes) {
          const auto x = From::load(at + i * From::lane_bytes);
          for (int g = 0; g < From::group; ++g) {
            V::store(keys + (d + g) * attention_chunk + part * 16 + i, x.part[g]);
          }
        }
      }
      at = chunk.values[part];
      for (int t = 0; t < 16; t += From::group, at += chunk.value_step) {
        float* to = values + static_cast<int64_t>(part * 16 + t) * kv.value_stride;
        for (int d = 0; d < kv.value_stride; d += V::lanes) {
          const auto x = From::load(at + d * From::lane_bytes);
          for (int g = 0; g < From::group; ++g) V::store(to + g * kv.value_stride + d, x.part[g]);
        }
      }
    }
  }
  for (int part = 0; part < chunk_parts; ++part) {
    const int there = part < parts ? part : parts - 1;
    chunk.keys[part] = reinterpret_cast<const std::byte*>(keys + there * 16);
    chunk.values[part] = reinterpret_cast<const std::byte*>(values + static_cast<int64_t>(there) *
                                                                         16 * kv.value_stride);
  }
  chunk.key_step = attention_chunk * 4;
  chunk.value_step = static_cast<int64_t>(kv.value_stride) * 4;
}

// Converts a chunk of float16 to int16 pairs, as a bfloat16 cache has them: keys [key_dim / 2][64][2] and
// values [64 / 2][value_stride][2], then a scale for each key and for each value. Tokens that are not there
// are zero.
template <class V>
void unpack_words(Chunk& chunk, const KvGeometry& kv, float* scratch) {
  using F = typename V::F;
  static_assert(V::lanes == 16);
  constexpr float most = WordMath<V>::most;
  const int dims = (kv.key_dim + 1) / 2 * 2;
  auto* const keys = reinterpret_cast<std::byte*>(scratch);
  auto* const values = keys + static_cast<int64_t>(dims) * attention_chunk * 2;
  auto* const key_scales = reinterpret_cast<float*>(
      values + static_cast<int64_t>(kv.value_stride) * attention_chunk * 2);
  float* const value_scales = key_scales + attention_chunk;
  const int parts = (chunk.tokens + 15) / 16;
  const auto inverse = [](F scale) {
    return V::div(V::set1(1.0f), V::max(scale, V::set1(1e-37f)));
  };

  for (int part = 0; part < parts; ++part) {
    const auto key = [&](int d) {
      return d < kv.key_dim ? V::load_f16(chunk.keys[part] + d * chunk.key_step) : V::zero();
    };
    F largest = V::zero(), longest = V::zero(), flaw = V::zero();  // see WordMath::set_query
    for (int first = 0; first < dims; first += WordMath<V>::sum_dims) {
      F squares = V::zero();
      for (int d = first; d < first + WordMath<V>::sum_dims && d < dims; ++d) {
        const F x = key(d);
        squares = V::fma(x, x, squares);
        largest = V::max(largest, V::abs(x));
      }
      longest = V::max(longest, squares);
      flaw = V::fma(squares, V::zero(), flaw);
    }
    const F scale =
        V::add(flaw, V::max(V::mul(largest, V::set1(1.0f / most)),
                            V::mul(V::sqrt(longest), V::set1(1.0f / WordMath<V>::most_length))));
    V::store(key_scales + part * 16, scale);
    const F factor = inverse(scale);
    std::byte* to = keys + part * 64;
    for (int d = 0; d < dims; d += 2, to += attention_chunk * 4) {
      V::store_bytes(to, V::word_pairs(V::to_ints(V::mul(key(d), factor)),
                                       V::to_ints(V::mul(key(d + 1), factor))));
    }
  }

  // A token's values, by their largest.
  const auto load = [&](int token, int d) {
    return token < chunk.tokens ? V::load_f16(chunk.values[token / 16] +
                                              token % 16 * chunk.value_step + d * 2)
                                : V::zero();
  };
  const auto factor_of = [&](int token) {
    F largest = V::zero(), flaw = V::zero();
    for (int d = 0; d < kv.value_stride; d += V::lanes) {
      const F x = load(token, d);
      largest = V::max(largest, V::abs(x));
      flaw = V::fma(x, V::zero(), flaw);
    }
    const float scale = V::reduce_max(largest) / most + V::reduce_add(flaw);
    value_scales[token] = scale;
    return V::set1(scale > 0 ? 1 / scale : 0);
  };
  for (int token = 0; token < parts * 16; token += 2) {
    const F even = factor_of(token), odd = factor_of(token + 1);
    std::byte* to = values + static_cast<int64_t>(token) * kv.value_stride * 2;
    for (int d = 0; d < kv.value_stride; d += V::lanes) {
      V::store_bytes(to + d * 4, V::word_pairs(V::to_ints(V::mul(load(token, d), even)),
                                               V::to_ints(V::mul(load(token + 1, d), odd))));
    }
  }

  for (int part = 0; part < chunk_parts; ++part) {
    const int there = part < parts ? part : parts - 1;
    chunk.keys[part] = keys + there * 64;
    chunk.values[part] = values + static_cast<int64_t>(there) * 16 * kv.value_stride * 2;
    chunk.key_scales[part] = key_scales + there * 16;
    chunk.value_scales[part] = value_scales + there * 16;
  }
  chunk.key_step = attention_chunk * 4;
  chunk.value_step = static_cast<int64_t>(kv.value_stride) * 4;
}

}  // namespace
}  // namespace ridge::backend::cpu
