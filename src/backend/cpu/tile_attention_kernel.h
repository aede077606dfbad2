#pragma once

#include "backend/cpu/tile_int8_latent_math.h"
#include "backend/cpu/tile_latent_math.h"

// Which attention runs on AMX tiles, and in what numbers.
namespace ridge::backend::cpu {
namespace {

// Fewer rows leave a tile too empty.
constexpr int least_tile_attention_rows = 12;

template <class V, class Math, DType E>
void attend_on_tiles(const AttentionJob& job) {
  FlashAttention<V, Math, E, false>(job).run();
}

inline bool fits_tiles(const AttentionJob& job) {
  const KvGeometry& kv = *job.kv;
  if (job.batch_invariant || job.rows < least_tile_attention_rows || kv.dtype == DType::f32) return false;
  const int depth = kv.dtype == DType::i8 ? tile_byte_depth : tile_depth;
  if (kv.key_dim % depth != 0) return false;
  return job.q_latent != nullptr ? kv.value_dim % depth == 0 : kv.dtype != DType::i8;
}

// Math: TileMath or LatentTileMath. Int8 caches are of latents alone (fits_tiles).
template <class V, class Tiles, template <class, class, DType, bool> class Math>
void attend_in(const AttentionJob& job) {
  switch (job.kv->dtype) {
    case DType::f16:
      return attend_on_tiles<V, Math<V, Tiles, DType::f16, true>, DType::f16>(job);
    case DType::bf16:
      if (weights_are_exact(job)) {
        return attend_on_tiles<V, Math<V, Tiles, DType::bf16, true>, DType::bf16>(job);
      }
      return attend_on_tiles<V, Math<V, Tiles, DType::bf16, false>, DType::bf16>(job);
    default:
      return attend_on_tiles<V, Int8LatentTileMath<V, Tiles>, DType::i8>(job);
  }
}

// Vectors: the table whose attention serves what tiles do not.
template <class V, class Tiles, const KernelTable& (*Vectors)()>
void tile_attention(const AttentionJob& job) {
  if (!fits_tiles(job)) return in_pieces(job, Vectors().attention);
  job.q_latent != nullptr ? attend_in<V, Tiles, LatentTileMath>(job) : attend_in<V, Tiles, TileMath>(job);
}

template <class V, class Tiles, const KernelTable& (*Vectors)()>
void fill_tile_attention(KernelTable& table) {
  table.attention = &tile_attention<V, Tiles, Vectors>;
  for (const DType dtype : {DType::f16, DType::bf16}) {
    table.attention_rows[static_cast<int>(dtype)] = tile_attention_rows;
  }
  // One part of each key and value instead of two.
  table.mixed_kv_dtype = DType::bf16;
}

}  // namespace
}  // namespace ridge::backend::cpu
