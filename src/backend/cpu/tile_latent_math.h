#pragma once

#include "backend/cpu/tile_attention_math.h"

// Latent attention's products on AMX tiles: of rotary keys as tile_attention_math.h has them, and of
// latents, which are keys and values at once. 16 heads that share a latent are a tile's rows as
// values take it, and its columns as keys take it, so that a token's latent is a row there:
//
//   scores = latents × queries                     results += weights × latents
//
//   A: 16 tokens × 32 dimensions                   A: 16 heads × 32 tokens' weights
//   B: 32 dimensions × 16 heads: 16 lines          B: 32 tokens × 16 dimensions: 16 lines
//      [16 heads][dimensions d, d + 16]               [16 dimensions][2 tokens]
//
// A chunk is unpacked once for each of its two products, some dimensions of all 64 tokens at a time: their tiles
// stay in the first-level cache until they are multiplied, while tiles of the whole chunk would have to go
// to the second-level cache and come back. A bfloat16 cache has the lines of the values already, 8 for the 16 tokens
// of a part, and they are multiplied where they lie: a product of half the depth takes as long as a whole one, which
// is less than to copy them. Numbers are in parts as there. An int8 cache has products of its own
// (tile_int8_latent_math.h).
namespace ridge::backend::cpu {
namespace {

// 16 by 16 floats in rows `stride` floats apart, in place.
template <class V>
void transpose_tile(float* tile, int64_t stride) {
  if constexpr (V::lanes == tile_rows) {
    typename V::F rows[tile_rows];
    for (int i = 0; i < tile_rows; ++i) rows[i] = V::load(tile + i * stride);
    V::transpose(rows);
    for (int i = 0; i < tile_rows; ++i) V::store(tile + i * stride, rows[i]);
  } else {
    for (int i = 0; i < tile_rows; ++i) {
      for (int j = 0; j < i; ++j) std::swap(tile[i * stride + j], tile[j * stride + i]);
    }
  }
}

template <class V, class Tiles, DType E, bool ExactWeights>
class LatentTileMath : public TileMath<V, Tiles, E, ExactWeights> {
  using Base = TileMath<V, Tiles, E, ExactWeights>;
  using Base::cache_parts;
  using Base::next_;
  using Base::value_line;
  using Base::value_tiles_;
  using Base::weight_parts;
  static constexpr bool packs_values = E != DType::bf16;
  // Of 16 tokens × 32 dimensions in all parts, and of those of a chunk.
  static constexpr int64_t row_bytes = cache_parts * tile_bytes;
  static constexpr int64_t rows_bytes = chunk_parts * row_bytes;
  // Of 32 tokens × 16 dimensions in all parts, and of those of a chunk.
  static constexpr int64_t depth_bytes = cache_parts * tile_bytes;
  static constexpr int64_t column_bytes = attention_chunk / tile_depth * depth_bytes;

 public:
  using F = typename V::F;
  using Values = LatentTileMath;
  static constexpr int most_rows = latent_attention_rows;

  // queries [rows][stride] become tiles [rows / 16][stride / 32] of 16 lines [16 heads][2 dimensions], d and d + 16,
  // and of what their rounding to bfloat16 leaves, in the same memory.
  //   stride: a multiple of 32; there is room for whole tiles
  void set_latent_queries(float* queries, int rows, int stride) {
    queries_ = queries;
    query_stride_ = stride;
    for (int r = 0; r < rows; r += tile_rows) {
      for (int d = 0; d < stride; d += tile_depth) {
        float* const tile = queries + static_cast<int64_t>(r) * stride + d;
        for (int i = 0; i < tile_rows && r + i < rows; ++i) {
          split_halves(tile + i * stride);
        }
        transpose_tile<V>(tile, stride);
        transpose_tile<V>(tile + tile_depth / 2, stride);
      }
    }
  }

  void open(const Chunk& chunk, const KvGeometry& kv, float* scratch) {
    Base::place(kv, scratch);
    rows_ = Base::keys_ + cache_parts * chunk_parts * Base::key_tiles_ * tile_bytes;
    products_ = reinterpret_cast<float*>(rows_ + value_tiles_ / 2 * rows_bytes);
    Base::pack_keys(chunk);
    if constexpr (!packs_values) clear_past(chunk);
  }
  // Lines of the chunk that follows are asked for where tiles multiply, a few at a time.
  F set_weights(int, float* row, const F* p, const Chunk&) { return Base::round_weights(row, p); }

  void score(const Chunk& chunk, const float* query, int query_stride, int rows, float* scores) const {
    if constexpr (!packs_values) Base::begin();  // over begin_parts
    const int tiles = (chunk.tokens + tile_rows - 1) / tile_rows;
    with_constant<chunk_parts>(tiles, [&]<int T>() {
      for (int first = 0; first < rows; first += tile_rows) {
        multiply_keys<T>(chunk, query + static_cast<int64_t>(first) * query_stride, query_stride,
                         scores + first * attention_chunk);
      }
      multiply_latents<T, true>(chunk, 0, rows > tile_rows);
      add_products(T, rows, scores);
      for (int first = tile_rows; first < rows; first += tile_rows) {
        multiply_latents<T, false>(chunk, first, true);
        add_products(T, rows - first, scores + first * attention_chunk);
      }
    });
  }

  // result[rows][value_stride] += weights × latents.
  void accumulate(const Chunk& chunk, const float* weights, int rows, int value_stride, float* result) const {
    if constexpr (!packs_values) begin_parts();
    const int depth = (chunk.tokens + tile_depth - 1) / tile_depth;
    Base::in_lines([&]<int N>(int n) {
      fetch_keys(n / value_line, (value_tiles_ + value_line - 1) / value_line);
      if constexpr (packs_values) pack_values(chunk, n, depth, Base::values_);
      for (int first = 0; first < rows; first += tile_rows) {
        const float* row = weights + first * attention_chunk;
        float* const sums = result + first * value_stride + n * tile_rows;
        if constexpr (packs_values) {
          Base::template add_line<N>(row, {Base::values_, column_bytes, depth_bytes, tile_bytes}, depth, value_stride,
                                     sums);
        } else {
          add_latents<N>(chunk, n, row, value_stride, sums);
        }
      }
    });
  }

 private:
  // 32 floats become [16 pairs] rounded and [16 pairs] of what that leaves.
  static void split_halves(float* row) {
    F x[vectors];
    for (int i = 0; i < vectors; ++i) x[i] = V::load(row + i * V::lanes);
    for (int i = 0; i < vectors / 2; ++i) {
      float* const to = row + i * V::lanes;
      Base::split_pair(x[i], x[i + vectors / 2], to, to + tile_depth / 2);
    }
  }

  // scores[rows][attention_chunk] += products_ of so many rows, 16 at most.
  void add_products(int tiles, int rows, float* scores) const {
    for (int t = 0; t < tiles; ++t) {
      float* const tile = products_ + t * tile_rows * tile_rows;
      transpose_tile<V>(tile, tile_rows);
      for (int r = 0; r < std::min(rows, tile_rows); ++r) {
        float* const to = scores + r * attention_chunk + t * tile_rows;
        for (int i = 0; i < tile_rows; i += V::lanes) {
          V::store(to + i, V::add(V::load(to + i), V::load(tile + r * tile_rows + i)));
        }
      }
    }
  }

  // products_[16 T tokens][16 heads] of heads [first, first + 16).
  //   Packs: their rows are yet to be made
  //   keeps: rows are for other heads too, and all stay; otherwise each step's take the place of the last ones
  template <int T, bool Packs>
  void multiply_latents(const Chunk& chunk, int first, bool keeps) const {
    using Line = TileLine<Tiles, T>;
    const int64_t stride = static_cast<int64_t>(query_stride_) * 4;
    const auto* query = reinterpret_cast<const std::byte*>(queries_) + first * stride;
    const auto at = [&](int k) { return rows_ + (keeps ? k * rows_bytes : 0); };
    const int depth = value_tiles_ / 2;
    Line::zero_sums();
    for (int k = 0; k < depth; ++k, query += 2 * tile_row_bytes) {
      if constexpr (Packs) pack_rows<T>(chunk, k, at(k));
      const std::byte* rows = at(k);
      Line::load_columns(query, query + tile_row_bytes, stride);
      Line::template dot_rows<2>(rows, row_bytes);
      if constexpr (cache_parts == 2) Line::template dot_rows<1>(rows + tile_bytes, row_bytes);
    }
    Line::store_sums_below(products_);
  }

  // scores[16 heads][16 T tokens] of rotary keys.
  template <int T>
  void multiply_keys(const Chunk& chunk, const float* query, int query_stride, float* scores) const {
    using Line = TileLine<Tiles, T>;
    const int64_t stride = static_cast<int64_t>(query_stride) * 4;
    const auto* row = reinterpret_cast<const std::byte*>(query);
    Line::zero_sums();
    for (int k = 0; k < Base::key_tiles_; ++k, row += 2 * tile_row_bytes) {
      const int64_t key_stride = Base::key_tile(chunk, 0, k).second;
      const auto keys = [&](int t) { return Base::key_tile(chunk, t, k).first; };
      const auto rest = [&](int t) { return keys(t) + Base::key_part_bytes(); };
      Line::load_row(row, stride);
      Line::dot_columns(keys, key_stride);
      if constexpr (cache_parts == 2) Line::dot_columns(rest, key_stride);
      Line::load_row(row + tile_row_bytes, stride);
      Line::dot_columns(keys, key_stride);
    }
    Line::store_sums(scores, attention_chunk * 4);
  }

  // result[16 rows][value_stride] += weights × latents as they lie, of 16 N dimensions from 16 n on.
  template <int N>
  void add_latents(const Chunk& chunk, int n, const float* weights, int value_stride, float* result) const {
    using Line = TileLine<Tiles, N>;
    const int64_t stride = static_cast<int64_t>(value_stride) * 4;
    const auto* row = reinterpret_cast<const std::byte*>(weights);
    Line::load_sums(result, stride);
    for (int part = 0; part * tile_rows < chunk.tokens; ++part) {
      const std::byte* lines = lines_of(chunk, part) + n * tile_row_bytes;
      const auto column = [&](int t) { return lines + t * tile_row_bytes; };
      const std::byte* at = row + part / 2 * weight_parts * tile_row_bytes + part % 2 * part_row_bytes;
      Line::load_row(at, attention_chunk * 4);
      Line::dot_columns(column, chunk.value_step);
      if constexpr (weight_parts == 2) {
        Line::load_row(at + tile_row_bytes, attention_chunk * 4);
        Line::dot_columns(column, chunk.value_step);
      }
      for (int line = 0; line < 4 * N; ++line) {  // of the next chunk's other half
        fetch_latents(part, (value_tiles_ + n) * 4 + line);
      }
    }
    Line::store_sums(result, stride);
  }
  // This thread's tiles for the weights of a part's tokens, and for 16 dimensions of those.
  static void begin_parts() {
    TileConfig config;
    for (int sums = 0; sums < value_line; ++sums) config.set(sums, tile_rows, tile_row_bytes);
    config.set(4, tile_rows, part_row_bytes);
    config.set(6, part_lines, tile_row_bytes);
    Tiles::configure(config);
  }
  // A part's lines of two tokens each.
  const std::byte* lines_of(const Chunk& chunk, int part) const {
    return (part + 1) * tile_rows <= chunk.tokens ? chunk.values[part] : Base::values_;
  }
  // Zeros take the place of tokens past the context, in a copy of the part that the context ends in: zero weights
  // do not make zeros of the infinities that may be there.
  void clear_past(const Chunk& chunk) const {
    const int there = chunk.tokens % tile_rows;
    if (there == 0) return;
    const std::byte* from = chunk.values[chunk.tokens / tile_rows];
    for (int line = 0; line < part_lines; ++line) {
      const int mask = there >= 2 * line + 2 ? -1 : there > 2 * line ? 0xffff : 0;
      for (int64_t at = 0; at < chunk.value_step; at += 4 * V::lanes) {
        const int64_t place = line * chunk.value_step + at;
        V::store_ints(reinterpret_cast<int32_t*>(Base::values_ + place), V::masked_ints(load_words(from + place), mask));
      }
    }
  }

  static constexpr int vectors = tile_depth / V::lanes;
  // Of the cache, of one dimension of the tokens that lie side by side.
  static constexpr int dim_bytes = E == DType::f16 ? 2 : 4;
  static const std::byte* place_of(const Chunk& chunk, int token, int dim) {
    return chunk.values[token / 16] + token % 16 / kv_group(E) * chunk.value_step + static_cast<int64_t>(dim) * dim_bytes;
  }

  static auto load_words(const std::byte* from) {
    return V::load_ints(reinterpret_cast<const int32_t*>(from));
  }

  // 32 dimensions of a token, which is even, and of the next one.
  struct Pair {
    F even[vectors], odd[vectors];

    // What rounding to bfloat16 towards zero leaves, which is one of its numbers too.
    Pair rest() const {
      Pair left;
      for (int i = 0; i < vectors; ++i) {
        left.even[i] = V::sub(even[i], V::truncated(even[i]));
        left.odd[i] = V::sub(odd[i], V::truncated(odd[i]));
      }
      return left;
    }
  };
  static Pair load_pair(const std::byte* from, int64_t step) {
    Pair x;
    for (int i = 0; i < vectors; ++i, from += dim_bytes * V::lanes) {
      x.even[i] = V::load_f16(from);
      x.odd[i] = V::load_f16(from + step);
    }
    return x;
  }

  // Dimensions [32 k, + 32) of 16 T tokens become rows, [T][parts] tiles, dimensions in the order of the queries'.
  template <int T>
  void pack_rows(const Chunk& chunk, int k, std::byte* to) const {
    const int64_t step = chunk.value_step, pair_step = step * 2 / kv_group(E);
    for (int t = 0; t < T; ++t) {
      const std::byte* from = place_of(chunk, t * tile_rows, k * tile_depth);
      const std::byte* next = next_.values[t] + static_cast<int64_t>(k) * tile_rows / 2 * 64;
      for (std::byte* const end = to + tile_bytes; to < end; to += 2 * tile_row_bytes, from += pair_step, next += 64) {
        __builtin_prefetch(next, 0, 2);
        std::byte* const odd = to + tile_row_bytes;
        if constexpr (E == DType::bf16) {
          for (int at = 0; at < tile_row_bytes; at += 4 * V::lanes) {
            const auto low = load_words(from + at), high = load_words(from + tile_row_bytes + at);
            V::store_bytes(to + at, V::word_pairs(low, high));
            V::store_bytes(odd + at, V::upper_halves(low, high));
          }
        } else {
          const Pair x = load_pair(from, step);
          put_rows(x, to, odd);
          put_rows(x.rest(), to + tile_bytes, odd + tile_bytes);
        }
      }
      to += row_bytes - tile_bytes;
    }
  }
  static void put_rows(const Pair& x, std::byte* even, std::byte* odd) {
    constexpr int half = vectors / 2;
    for (int i = 0; i < half; ++i) {
      V::store_bytes(even + 4 * i * V::lanes, V::truncated_pairs(x.even[i], x.even[i + half]));
      V::store_bytes(odd + 4 * i * V::lanes, V::truncated_pairs(x.odd[i], x.odd[i + half]));
    }
  }

  // Dimensions from 16 n on, as many as a line takes, of 32 · depth tokens become columns, [16 dimensions][depth][parts]
  // tiles. Tokens past the context are zeros: zero weights do not make zeros of the infinities that
  // may be there.
  void pack_values(const Chunk& chunk, int n, int depth, std::byte* to) const {
    const int end = std::min(value_line, value_tiles_ - n);
    for (int token = 0; token < depth * tile_depth; token += 2) {
      std::byte* line = to + token / tile_depth * depth_bytes + token % tile_depth / 2 * tile_row_bytes;
      for (int i = 0; i < end; i += 2, line += 2 * column_bytes) {
        // The other half of the lines.
        fetch_latents(token / 16, value_tiles_ * 4 + ((n + i) * tile_rows / 2 + token % 16) / 2);
        pack_pair(chunk, token, (n + i) * tile_rows, line);
      }
    }
  }
  static void pack_pair(const Chunk& chunk, int token, int dim, std::byte* line) {
    const int there = chunk.tokens - token;
    Pair x = load_pair(place_of(chunk, token, dim), chunk.value_step);
    if (there < 2) [[unlikely]] clear(x, there);
    put_columns(x, line);
    put_columns(x.rest(), line + tile_bytes);
  }
  static void clear(Pair& x, int there) {
    for (int i = 0; i < vectors; ++i) {
      x.odd[i] = V::zero();
      if (there < 1) x.even[i] = V::zero();
    }
  }
  static void put_columns(const Pair& x, std::byte* line) {
    for (int i = 0; i < vectors; ++i) {
      V::store_bytes(column_at(line, i * V::lanes), V::truncated_pairs(x.even[i], x.odd[i]));
    }
  }
  static std::byte* column_at(std::byte* line, int dim) {
    return line + dim / tile_rows * column_bytes + dim % tile_rows * 4;
  }

  // A line of 16 tokens of the next chunk. They are asked for one by one all the time: many at once would keep
  // loads from the second-level cache waiting.
  void fetch_latents(int part, int line) const {
    __builtin_prefetch(next_.values[part] + static_cast<int64_t>(line) * 64, 0, 2);
  }
  // Share `step` of `steps` of its keys.
  void fetch_keys(int step, int steps) const {
    const int lines = static_cast<int>(Base::key_tiles_ * tile_depth / kv_group(E) * tile_rows * dim_bytes / 64);
    for (int line = lines * step / steps; line < lines * (step + 1) / steps; ++line) {
      for (const std::byte* part : next_.keys) __builtin_prefetch(part + static_cast<int64_t>(line) * 64, 0, 2);
    }
  }

  static constexpr int part_lines = tile_rows / 2;
  static constexpr int part_row_bytes = tile_rows * 2;

  float* queries_ = nullptr;
  int query_stride_ = 0;       // floats
  std::byte* rows_ = nullptr;  // [value_tiles / 2][chunk_parts][cache_parts] tiles of 16 tokens
  float* products_ = nullptr;  // [attention_chunk][16 heads]
};

}  // namespace
}  // namespace ridge::backend::cpu
