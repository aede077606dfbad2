#pragma once

#include "backend/cpu/attention_math.h"

// Chunks of the cache as float32, for tiles of so many rows that this costs less than converting at
// each load, and for latents, whose values have queries too.
namespace ridge::backend::cpu {
namespace {

// The codes of an int8 chunk as float32, [key_dim][64] and [64][value_stride].
inline void unpack_codes(const Chunk& chunk, const KvGeometry& kv, int parts, float* keys,
                         float* values) {
  constexpr int group = kv_group(DType::i8);
  const auto value_of = [](std::byte code) { return static_cast<float>(static_cast<int>(code) - 128); };
  for (int part = 0; part < parts; ++part) {
    const float* key_scales = chunk.key_scales[part];
    for (int d = 0; d < kv.key_dim; ++d) {
      const std::byte* at = chunk.keys[part] + d / group * chunk.key_step + d % group;
      float* to = keys + static_cast<int64_t>(d) * attention_chunk + part * 16;
      for (int t = 0; t < 16; ++t) to[t] = value_of(at[t * group]) * key_scales[t];
    }
    for (int t = 0; t < 16; ++t) {
      const float scale = chunk.value_scales[part][t];
      const std::byte* at = chunk.values[part] + t / group * chunk.value_step + t % group;
      float* to = values + static_cast<int64_t>(part * 16 + t) * kv.value_stride;
      for (int d = 0; d < kv.value_stride; ++d) to[d] = value_of(at[d * group]) * scale;
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
    unpack_codes(chunk, kv, parts, keys, values);
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

}  // namespace
}  // namespace ridge::backend::cpu
