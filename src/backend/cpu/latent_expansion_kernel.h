#pragma once

#include "backend/cpu/attention_unpack.h"
#include "backend/cpu/latent_expansion.h"

namespace ridge::backend::cpu {
namespace {

// E: the elements of both operands and of the results; float32, or bfloat16 with V::has_bf16_dot.
template <class V, DType E>
class LatentExpansion {
  using F = typename V::F;
  static constexpr int group = kv_group(E);
  static constexpr int element = E == DType::f32 ? 4 : 2;  // bytes
  static constexpr int lanes = V::lanes;
  static constexpr int most_vectors = V::block_vectors;  // of `lanes`
  static constexpr int most_rows = V::block_rows / group * group;

 public:
  static void multiply(const LatentProduct& p) {
    const int vectors = p.vectors * (16 / lanes);
    for (int v = 0; v < vectors; v += most_vectors) {
      const int some = vectors - v < most_vectors ? vectors - v : most_vectors;
      with_constant<most_vectors>(some, [&]<int Vectors>() {
        int row = 0;
        for (; row + most_rows <= p.count; row += most_rows) {
          block<most_rows, Vectors>(p, v, row);
        }
        for (; row < p.count; row += group) block<group, Vectors>(p, v, row);
      });
    }
  }

 private:
  // rows [row, row + R) by vectors [first, first + Vectors).
  template <int R, int Vectors>
  static void block(const LatentProduct& p, int first, int row) {
    F sums[R][Vectors];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) sums[r][i] = V::zero();
    }
    const std::byte* at[Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      const int lane = (first + i) * lanes;
      at[i] = p.lanes + lane / 16 * (static_cast<int64_t>(p.rank) * 16 * element) +
              lane % 16 * group * element;
    }
    const int64_t stride = static_cast<int64_t>(p.rank) * element;
    const std::byte* rows = p.rows + row * stride;
    for (int64_t k = 0; k < p.rank / group; ++k) {
      if constexpr (E == DType::bf16) {
        typename V::B x[Vectors];
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) x[i] = V::load_bytes(at[i] + k * 64);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
          for (int i = 0; i < Vectors; ++i) {
            sums[r][i] = V::dot2(sums[r][i], x[i], rows + r * stride + k * 4);
          }
        }
      } else {
        F x[Vectors];
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) {
          x[i] = V::load(reinterpret_cast<const float*>(at[i] + k * 64));
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const F each = V::set1(*reinterpret_cast<const float*>(rows + r * stride + k * 4));
#pragma GCC unroll 8
          for (int i = 0; i < Vectors; ++i) sums[r][i] = V::fma(x[i], each, sums[r][i]);
        }
      }
    }
    std::byte* out = p.out + row / group * p.out_step +
                     static_cast<int64_t>(first) * lanes * group * element;
#pragma GCC unroll 8
    for (int r = 0; r < R; r += group) {
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) {
        std::byte* to = out + r / group * p.out_step + i * lanes * group * element;
        if constexpr (E == DType::bf16) {
          V::store_bf16_pairs(to, sums[r][i], sums[r + 1][i]);
        } else {
          V::store(reinterpret_cast<float*>(to), sums[r][i]);
        }
      }
    }
  }
};

template <class V, DType E>
void expand_latents(const LatentProduct& p) {
  LatentExpansion<V, E>::multiply(p);
}

// From: the cache's dtype.
template <class V, DType From, DType E>
void take_latents_from(const LatentPart& part, const KvGeometry& kv, float* scratch) {
  constexpr int group = kv_group(E);
  constexpr int element = E == DType::f32 ? 4 : 2;
  constexpr int from_group = kv_group(From);
  constexpr int from_element = From == DType::f32 ? 4 : From == DType::i8 ? 1 : 2;
  Chunk chunk;
  chunk.tokens = 16;
  chunk.key_step = static_cast<int64_t>(kv.block_tokens) * from_group * from_element;
  chunk.value_step = static_cast<int64_t>(kv.value_stride) * from_group * from_element;
  chunk.keys[0] = part.block + part.offset * from_group * from_element;
  chunk.values[0] = part.block + kv.values_at + part.offset / from_group * chunk.value_step;
  if constexpr (From == DType::i8) {
    chunk.key_scales[0] = reinterpret_cast<const float*>(part.block + kv.key_scales_at) + part.offset;
    chunk.value_scales[0] =
        reinterpret_cast<const float*>(part.block + kv.value_scales_at) + part.offset;
  }
  unpack_chunk<V, From>(chunk, kv, scratch);
  const auto* keys = reinterpret_cast<const float*>(chunk.keys[0]);      // [rotary][64]
  const auto* latents = reinterpret_cast<const float*>(chunk.values[0]);  // [16][value_stride]
  for (int d = 0; d < kv.key_dim; d += group) {
    std::byte* to = part.rotary + static_cast<int64_t>(d) * 16 * element;
    for (int t = 0; t < 16; t += V::lanes, to += V::lanes * group * element) {
      const float* from = keys + d * attention_chunk + t;
      if constexpr (E == DType::bf16) {
        V::store_bf16_pairs(to, V::load(from), V::load(from + attention_chunk));
      } else {
        V::store(reinterpret_cast<float*>(to), V::load(from));
      }
    }
  }
  for (int t = 0; t < 16; ++t) {
    const float* from = latents + static_cast<int64_t>(t) * kv.value_stride;
    std::byte* row = part.rows + static_cast<int64_t>(t) * kv.value_dim * element;
    for (int d = 0; d < kv.value_dim; d += V::lanes) {
      if constexpr (E == DType::bf16) {
        V::store_bf16(row + d * element, V::load(from + d));
      } else {
        V::store(reinterpret_cast<float*>(row + d * element), V::load(from + d));
      }
    }
    for (int d = 0; d < kv.value_dim; d += group) {
      __builtin_memcpy(part.lanes + (d * 16 + t * group) * element, row + d * element, 4);
    }
  }
}

template <class V, DType E>
void take_latents(const LatentPart& part, const KvGeometry& kv, float* scratch) {
  switch (kv.dtype) {
    case DType::f16:
      return take_latents_from<V, DType::f16, E>(part, kv, scratch);
    case DType::bf16:
      return take_latents_from<V, DType::bf16, E>(part, kv, scratch);
    case DType::i8:
      return take_latents_from<V, DType::i8, E>(part, kv, scratch);
    default:
      return take_latents_from<V, DType::f32, E>(part, kv, scratch);
  }
}

template <class V>
void fill_latent_expansion(KernelTable& table) {
  table.latents[0] = {DType::f32, 16, 1, &take_latents<V, DType::f32>,
                      &expand_latents<V, DType::f32>};
  if constexpr (V::has_bf16_dot) {
    table.latents[1] = {DType::bf16, 16, 2, &take_latents<V, DType::bf16>,
                        &expand_latents<V, DType::bf16>};
  } else {
    table.latents[1] = table.latents[0];
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
