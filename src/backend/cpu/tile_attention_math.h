#pragma once

#include <utility>

#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/tile_block.h"

// attention's products on AMX tiles (attention_kernel.h has the rest): up to 128 query rows over 64
// keys at a time, two by two tiles of sums (tile_block.h). All tiles are whole ones: rows
// past the job's and keys past the context only reach sums that nobody reads.
//
//   scores = queries × keys                        results += weights × values
//
//   A: 16 rows × 32 dimensions of a query          A: 16 rows × 32 keys' weights
//   B: 16 keys × 32 dimensions, as a bfloat16      B: 32 tokens × 16 dimensions, put together from
//      cache has them: 16 lines [16 keys][2]          two blocks: 16 lines [16 dimensions][2
//      tokens]
//
// A query is two bfloat16 parts (see Bf16Math), and each 32 numbers of a row are [32 rounded][32 of
// what that leaves]; weights likewise where they are to be exact. A float16 cache is cut into two
// such parts as well, which hold all its bits; the product of two small parts is left out.
namespace ridge::backend::cpu {
namespace {

template <class V, class Tiles, DType E, bool ExactWeights>
class TileMath {
 public:
  using F = typename V::F;
  using Values = TileMath;
  static constexpr bool uses_tiles = true;
  static constexpr int most_rows = tile_attention_rows;
  static constexpr int exp_degree = ExactWeights ? 6 : 4;
  static constexpr int cache_parts = E == DType::f16 ? 2 : 1;
  static constexpr bool packs_keys = E == DType::f16;
  static constexpr int weight_parts = ExactWeights ? 2 : 1;

  static void begin() { begin_tile_blocks<Tiles>(tile_rows); }
  static void end() { Tiles::release(); }

  void set_query(int, float* q, int key_dim) {
    auto* to = reinterpret_cast<std::byte*>(q);
    for (int d = 0; d < key_dim; d += tile_depth) split(q + d, to + 4 * d);
  }
  F set_weights(int r, float* row, const F* p, const Chunk&) {
    fetch_next(r);
    return round_weights(row, p);
  }

  // The chunk that will follow the open one. Rows of weights ask for it, each for some lines: it comes from the
  // last-level cache, in pieces of a block.
  void set_next(const Chunk& next) { next_ = next; }

  // Makes tiles of a chunk's values, and of its keys where the cache's are none.
  //   scratch: floats as unpack_chunk's
  void open(const Chunk& chunk, const KvGeometry& kv, float* scratch) {
    place(kv, scratch);
    for (int token = 0; token < (chunk.tokens + tile_depth - 1) / tile_depth * tile_depth;
         token += 2) {
      pack_values(chunk, token, values_);
    }
    pack_keys(chunk);
  }

  // scores[rows][attention_chunk] of the chunk's keys.
  void score(const Chunk& chunk, const float* query, int query_stride, int rows,
             float* scores) const {
    const auto* q = reinterpret_cast<const std::byte*>(query);
    const int64_t stride = static_cast<int64_t>(query_stride) * 4;
    in_pairs((rows + tile_rows - 1) / tile_rows, [&]<int M>(int m) {
      in_pairs((chunk.tokens + 15) / 16, [&]<int N>(int n) {
        using Block = TileBlock<Tiles, M, N>;
        Block::zero_sums();
        const std::byte* a = q + m * tile_rows * stride;
        const std::byte* below = a + tile_rows * stride;
        for (int k = 0; k < key_tiles_; ++k, a += 2 * tile_row_bytes, below += 2 * tile_row_bytes) {
          const auto [keys, key_stride] = key_tile(chunk, n, k);
          const auto [next_keys, same] = key_tile(chunk, n + N - 1, k);
          Block::load_rows(a, below, stride);
          Block::load_columns(keys, next_keys, key_stride);
          Block::dot();
          Block::load_rows(a + tile_row_bytes, below + tile_row_bytes, stride);
          Block::dot();
          if constexpr (E == DType::f16) {
            Block::load_rows(a, below, stride);
            Block::load_columns(keys + key_part_bytes(), next_keys + key_part_bytes(), key_stride);
            Block::dot();
          }
        }
        float* sums = scores + m * tile_rows * attention_chunk + n * tile_rows;
        Block::store_sums(places(sums, attention_chunk).at, attention_chunk * 4);
      });
    });
  }

  // result[rows][value_stride] += weights × values.
  void accumulate(const Chunk& chunk, const float* weights, int rows, int value_stride,
                  float* result) const {
    const auto* w = reinterpret_cast<const std::byte*>(weights);
    constexpr int64_t stride = attention_chunk * 4;
    const int depth = (chunk.tokens + tile_depth - 1) / tile_depth;
    if (rows <= tile_rows) {
      return in_lines([&]<int N>(int n) {
        add_line<N>(weights, {values_ + n * tile_bytes, tile_bytes, value_tiles_ * tile_bytes, part_bytes_}, depth,
                    value_stride, result + n * tile_rows);
      });
    }
    in_pairs((rows + tile_rows - 1) / tile_rows, [&]<int M>(int m) {
      in_pairs(value_tiles_, [&]<int N>(int n) {
        using Block = TileBlock<Tiles, M, N>;
        const auto sums =
            places(result + m * tile_rows * value_stride + n * tile_rows, value_stride);
        const int64_t sums_stride = static_cast<int64_t>(value_stride) * 4;
        Block::load_sums(sums.at, sums_stride);
        const std::byte* a = w + m * tile_rows * stride;
        const std::byte* below = a + tile_rows * stride;
        constexpr int64_t step = weight_parts * tile_row_bytes;
        for (int k = 0; k < depth; ++k, a += step, below += step) {
          const std::byte* b = values_ + (k * value_tiles_ + n) * tile_bytes;
          Block::load_rows(a, below, stride);
          Block::load_columns(b, b + tile_bytes, tile_row_bytes);
          Block::dot();
          if constexpr (ExactWeights) {
            Block::load_rows(a + tile_row_bytes, below + tile_row_bytes, stride);
            Block::dot();
          }
          if constexpr (E == DType::f16) {
            if constexpr (ExactWeights) Block::load_rows(a, below, stride);
            Block::load_columns(b + part_bytes_, b + part_bytes_ + tile_bytes, tile_row_bytes);
            Block::dot();
          }
        }
        Block::store_sums(sums.at, sums_stride);
      });
    });
  }

 protected:
  // A row of weights as tiles take them, and their sum.
  static F round_weights(float* row, const F* p) {
    constexpr int per_tile = tile_depth / V::lanes;
    auto* to = reinterpret_cast<std::byte*>(row);
    F total = V::zero();
    for (int i = 0; i < attention_chunk / V::lanes; ++i) {
      std::byte* at =
          to + i / per_tile * weight_parts * tile_row_bytes + i % per_tile * V::lanes * 2;
      V::store_bf16(at, p[i]);
      const F rounded = V::load_bf16(at);
      if constexpr (ExactWeights) {
        V::store_bf16(at + tile_row_bytes, V::sub(p[i], rounded));
        total = V::add(total, p[i]);
      } else {
        // The sums are of the rounded weights, so that rounding does not change what they add up
        // to.
        total = V::add(total, rounded);
      }
    }
    return total;
  }

  void fetch_next(int r) const {
    const int key_lines = key_tiles_ * tile_rows, lines = key_lines + value_tiles_ * tile_rows / 2;
    const int64_t key_step = next_.key_step * (2 / kv_group(E));
    for (int line = r; line < lines; line += most_rows) {
      for (int part = 0; part < chunk_parts; ++part) {
        __builtin_prefetch(line < key_lines
                               ? next_.keys[part] + line * key_step
                               : next_.values[part] + int64_t{line - key_lines} * tile_row_bytes,
                           0, 2);
      }
    }
  }

  // Where a chunk's tiles go.
  void place(const KvGeometry& kv, float* scratch) {
    key_tiles_ = kv.key_dim / tile_depth;
    value_tiles_ = kv.value_stride / tile_rows;
    values_ = reinterpret_cast<std::byte*>(scratch);
    part_bytes_ = attention_chunk / tile_depth * value_tiles_ * tile_bytes;
    keys_ = values_ + cache_parts * part_bytes_;
  }
  void pack_keys(const Chunk& chunk) const {
    if constexpr (packs_keys) {
      for (int part = 0; part < (chunk.tokens + 15) / 16; ++part) {
        pack_part(chunk.keys[part], chunk.key_step, keys_ + part * key_tiles_ * tile_bytes);
      }
    }
  }

  // 32 floats of `from` as [32 rounded][32 of what that leaves]; they may be the same memory.
  static void split(const float* from, std::byte* to) {
    constexpr int vectors = tile_depth / V::lanes;
    F x[vectors];
    for (int i = 0; i < vectors; ++i) x[i] = V::load(from + i * V::lanes);
    for (int i = 0; i < vectors; ++i) {
      std::byte* at = to + i * V::lanes * 2;
      V::store_bf16(at, x[i]);
      V::store_bf16(at + tile_row_bytes, V::sub(x[i], V::load_bf16(at)));
    }
  }

  int64_t key_part_bytes() const { return chunk_parts * key_tiles_ * tile_bytes; }

  // Where dimensions [32 k, + 32) of 16 keys lie, and the bytes between their lines.
  std::pair<const std::byte*, int64_t> key_tile(const Chunk& chunk, int part, int k) const {
    if constexpr (packs_keys) {
      return {keys_ + (part * key_tiles_ + k) * tile_bytes, tile_row_bytes};
    }
    return {chunk.keys[part] + k * tile_rows * chunk.key_step, chunk.key_step};
  }

  // Two rows of float16 side by side, in bfloat16 at `to` and what that leaves at `rest`.
  static void split_pairs(const std::byte* even, const std::byte* odd, std::byte* to,
                          std::byte* rest) {
    for (int i = 0; i < tile_rows; i += V::lanes) {
      split_pair(V::load_f16(even + 2 * i), V::load_f16(odd + 2 * i), to + 4 * i, rest + 4 * i);
    }
  }
  static void split_pair(F a, F b, void* to, void* rest) {
    V::store_bf16_pairs(to, a, b);
    F rounded_a, rounded_b;
    V::load_bf16_pairs(to, rounded_a, rounded_b);
    V::store_bf16_pairs(rest, V::sub(a, rounded_a), V::sub(b, rounded_b));
  }

  // The line of tokens `token` and the next one in every tile. Past the context the cache holds
  // what others left there, and zero weights do not make zeros of infinities.
  void pack_values(const Chunk& chunk, int token, std::byte* to) const {
    constexpr int line_bytes = tile_row_bytes;
    alignas(64) static constexpr std::byte zeros[line_bytes] = {};
    to += token / tile_depth * value_tiles_ * tile_bytes + token % tile_depth / 2 * line_bytes;
    const bool has_even = token < chunk.tokens, has_odd = token + 1 < chunk.tokens;
    if constexpr (E == DType::f16) {
      const std::byte* even = chunk.values[token / 16] + token % 16 * chunk.value_step;
      for (int tile = 0; tile < value_tiles_; ++tile, to += tile_bytes, even += 2 * tile_rows) {
        split_pairs(has_even ? even : zeros, has_odd ? even + chunk.value_step : zeros, to,
                    to + part_bytes_);
      }
    } else {
      const std::byte* from = chunk.values[token / 16] + token % 16 / 2 * chunk.value_step;
      for (int tile = 0; tile < value_tiles_; ++tile, to += tile_bytes, from += line_bytes) {
        __builtin_memcpy(to, has_even ? from : zeros, line_bytes);
        if (has_even && !has_odd) clear_odd(to);
      }
    }
  }
  static void clear_odd(std::byte* line) {
    for (int i = 0; i < tile_rows; ++i) __builtin_memset(line + 4 * i + 2, 0, 2);
  }

  // Tiles of values, and bytes from one to the next: of 16 dimensions, of 32 tokens, of parts.
  struct ValueTiles {
    const std::byte* first;
    int64_t column_step, depth_step, part_step;
  };
  static constexpr int value_line = 4;  // tiles of sums that take turns (TileLine)
  // Calls fn<N>(n) for N tiles of values from n on.
  template <class Fn>
  void in_lines(Fn fn) const {
    for (int n = 0; n < value_tiles_; n += value_line) {
      with_constant<value_line>(std::min(value_line, value_tiles_ - n),
                                [&]<int N>() { fn.template operator()<N>(n); });
    }
  }
  // result[16 rows][value_stride] += weights × values, of 16 N dimensions and 32 · depth tokens.
  template <int N>
  static void add_line(const float* weights, const ValueTiles& values, int depth, int value_stride,
                       float* result) {
    using Line = TileLine<Tiles, N>;
    const int64_t stride = static_cast<int64_t>(value_stride) * 4;
    const auto* row = reinterpret_cast<const std::byte*>(weights);
    const std::byte* at = values.first;
    Line::load_sums(result, stride);
    for (int k = 0; k < depth; ++k, row += weight_parts * tile_row_bytes, at += values.depth_step) {
      const auto column = [&](int t) { return at + t * values.column_step; };
      const auto rest = [&](int t) { return column(t) + values.part_step; };
      Line::load_row(row, attention_chunk * 4);
      Line::dot_columns(column, tile_row_bytes);
      if constexpr (cache_parts == 2) Line::dot_columns(rest, tile_row_bytes);
      if constexpr (ExactWeights) {
        Line::load_row(row + tile_row_bytes, attention_chunk * 4);
        Line::dot_columns(column, tile_row_bytes);
      }
    }
    Line::store_sums(result, stride);
  }

 private:
  void pack_part(const std::byte* from, int64_t step, std::byte* to) const {
    for (int pair = 0; pair < key_tiles_ * tile_rows; ++pair, from += 2 * step, to += tile_row_bytes) {
      split_pairs(from, from + step, to, to + key_part_bytes());
    }
  }

  // The tiles of sums from `first` on, in rows of so many floats.
  struct SumPlaces {
    typename TileBlock<Tiles, 2, 2>::Places at;
  };
  static SumPlaces places(float* first, int64_t row_floats) {
    float* below = first + tile_rows * row_floats;
    return {{first, first + tile_rows, below, below + tile_rows}};
  }

 protected:
  int key_tiles_ = 0;            // of 32 dimensions
  int value_tiles_ = 0;          // of 16 dimensions
  std::byte* keys_ = nullptr;    // [cache_parts][chunk_parts][key_tiles] tiles
  std::byte* values_ = nullptr;  // [cache_parts][attention_chunk / 32][value_tiles] tiles
  Chunk next_;
  int64_t part_bytes_ = 0;       // of all values' tiles in one part
};

}  // namespace
}  // namespace ridge::backend::cpu
