#pragma once

#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/tile_block.h"

// Latent attention's products over an int8 cache on AMX tiles: 16 heads that share a latent are a tile's
// rows, and what they meet are the cache's codes, which no product has to convert:
//
//   scores = queries × latents                     results += weights × latents
//
//   A: 16 heads × 64 dimensions                    A: 16 heads × 64 tokens' weights
//   B: 64 dimensions × 16 tokens: 16 lines         B: 64 tokens × 16 dimensions: 16 lines
//      [16 tokens][4 dimensions]                      [16 dimensions][4 tokens], as the cache has them
//
// A query, or a chunk's weights, of one head are whole numbers of 16 bits and a scale; each is two planes of
// int8, 256 · coarse + fine, whose sums are two tiles. The scales of tokens multiply scores and weights.
namespace ridge::backend::cpu {
namespace {

template <class V, class Tiles>
class Int8LatentTileMath {
  using F = typename V::F;
  using I = typename V::I;
  template <int N>
  using Block = TileBlock<Tiles, 2, N>;  // planes by columns
  static constexpr int depth = tile_byte_depth;
  static constexpr int plane_steps = 256;
  static constexpr int most_code = 127 * plane_steps + 127;
  static constexpr int vectors = depth / V::lanes;
  static constexpr int tile_sums = tile_rows * tile_rows;

 public:
  using Values = Int8LatentTileMath;
  static constexpr bool uses_tiles = true;
  static constexpr int most_rows = latent_attention_rows;
  static constexpr int exp_degree = 5;

  static void begin() { begin_tile_blocks<Tiles>(tile_rows); }
  static void end() { Tiles::release(); }

  void set_query(int r, float* q, int key_dim) { key_scales_[r] = make_planes(q, key_dim); }
  void set_latent_queries(float* queries, int rows, int stride) {
    queries_ = queries;
    query_stride_ = stride;
    for (int r = 0; r < rows; ++r) {
      latent_scales_[r] = make_planes(queries + static_cast<int64_t>(r) * stride, stride);
    }
  }

  // p: the weights of a chunk, whose planes go to `row`; returns their sums, lane by lane.
  F set_weights(int r, float* row, const F* p, const Chunk& chunk) {
    F weights[vectors], total;
    const float most = scale_weights<V>(p, chunk, weights, total);
    put_planes(weights, code_factor(most), row);
    weight_scales_[r] = most / most_code;
    return total;
  }

  void open(const Chunk&, const KvGeometry& kv, float* scratch) {
    key_tiles_ = kv.key_dim / depth;
    value_tiles_ = kv.value_dim / tile_rows;
    sums_ = reinterpret_cast<int32_t*>(scratch);
    columns_ = reinterpret_cast<std::byte*>(sums_ + 4 * tile_sums);
  }
  // The chunk that will follow the open one, to be fetched meanwhile.
  void set_next(const Chunk& next) { next_ = next; }

  // scores[rows][attention_chunk] of the chunk's keys and latents.
  void score(const Chunk& chunk, const float* query, int query_stride, int rows, float* scores) const {
    in_pairs((chunk.tokens + tile_rows - 1) / tile_rows, [&]<int N>(int part) {
      take_keys<N>(chunk, part);
      for (int first = 0; first < rows; first += tile_rows) {
        multiply<N>(query + static_cast<int64_t>(first) * query_stride, query_stride, key_tiles_);
        put_scores<N, false>(chunk, part, first, rows, scores);
      }
      take_latents<N>(chunk, part);
      for (int first = 0; first < rows; first += tile_rows) {
        multiply<N>(queries_ + static_cast<int64_t>(first) * query_stride_, query_stride_, value_tiles_ / 4);
        put_scores<N, true>(chunk, part, first, rows, scores);
      }
    });
  }

  // result[rows][value_stride] += weights × latents.
  void accumulate(const Chunk& chunk, const float* weights, int rows, int value_stride,
                  float* result) const {
    for (int n = 0; n < value_tiles_; n += 2) {
      take_values(chunk, n);
      for (int first = 0; first < rows; first += tile_rows) {
        multiply<2>(weights + first * attention_chunk, attention_chunk, 1);
        add_values(first, rows, value_stride, result + n * tile_rows);
      }
    }
  }

 private:
  // `count` floats become planes, [count / 64]{ coarse [64], fine [64] } in the same memory; returns their
  // scale, which is NaN where one is not finite.
  static float make_planes(float* row, int count) {
    F largest = V::zero(), flaw = V::zero();
    for (int d = 0; d < count; d += V::lanes) {
      const F x = V::load(row + d);
      largest = V::max(largest, V::abs(x));
      flaw = V::fma(x, V::zero(), flaw);
    }
    const float most = V::reduce_max(largest);
    for (int d = 0; d < count; d += depth) {
      F x[vectors];
      for (int i = 0; i < vectors; ++i) x[i] = V::load(row + d + i * V::lanes);
      put_planes(x, code_factor(most), row + d);
    }
    return most / most_code + V::reduce_add(flaw);
  }
  // Also finite where all numbers are near zero.
  static float code_factor(float most) { return most > 1e-30f ? most_code / most : 0; }
  // 64 numbers become { coarse [64], fine [64] } at `to`.
  static void put_planes(const F (&x)[vectors], float factor, float* to) {
    auto* plane = reinterpret_cast<std::byte*>(to);
    for (int i = 0; i < vectors; ++i, plane += V::lanes) {
      const I code = V::to_ints(V::mul(x[i], V::set1(factor)));
      V::store_low_bytes(plane, V::template shifted_ints<8>(V::iadd(code, V::iset1(plane_steps / 2))));
      V::store_low_bytes(plane + depth, code);
    }
  }

  // The sums of both planes of 16 heads by N columns of columns_[tiles][N].
  //   planes: [16 heads][stride], of 64 numbers in turn
  template <int N>
  void multiply(const float* planes, int stride, int tiles) const {
    const auto* row = reinterpret_cast<const std::byte*>(planes);
    const std::byte* column = columns_;
    Block<N>::zero_sums();
    for (int k = 0; k < tiles; ++k, row += 4 * depth, column += N * tile_bytes) {
      Block<N>::load_rows(row, row + depth, static_cast<int64_t>(stride) * 4);
      Block<N>::load_columns(column, column + tile_bytes, tile_row_bytes);
      Block<N>::dot_signed_bytes();
    }
    Block<N>::store_sums({sums_, sums_ + tile_sums, sums_ + 2 * tile_sums, sums_ + 3 * tile_sums},
                         tile_row_bytes);
  }
  // Of column t, head r and dimensions or tokens from i on.
  F sum_at(int t, int r, int i) const {
    const int32_t* at = sums_ + t * tile_sums + r * tile_rows + i;
    const F coarse = V::to_float(V::load_ints(at)), fine = V::to_float(V::load_ints(at + 2 * tile_sums));
    return V::fma(coarse, V::set1(plane_steps), fine);
  }

  // Scores of heads [first, first + 16) with tokens of `part` and, of N = 2, the one after it.
  template <int N, bool OfLatents>
  void put_scores(const Chunk& chunk, int part, int first, int rows, float* scores) const {
    for (int t = 0; t < N; ++t) {
      const float* scales = OfLatents ? chunk.value_scales[part + t] : chunk.key_scales[part + t];
      for (int r = 0; r < std::min(rows - first, tile_rows); ++r) {
        const F scale = V::set1(OfLatents ? latent_scales_[first + r] : key_scales_[first + r]);
        float* to = scores + (first + r) * attention_chunk + (part + t) * tile_rows;
        for (int i = 0; i < tile_rows; i += V::lanes) {
          const F score = V::mul(V::mul(sum_at(t, r, i), scale), V::load(scales + i));
          V::store(to + i, OfLatents ? V::add(V::load(to + i), score) : score);
        }
      }
    }
  }

  void add_values(int first, int rows, int value_stride, float* result) const {
    for (int r = 0; r < std::min(rows - first, tile_rows); ++r) {
      const F scale = V::set1(weight_scales_[first + r]);
      float* to = result + static_cast<int64_t>(first + r) * value_stride;
      for (int t = 0; t < 2; ++t) {
        for (int i = 0; i < tile_rows; i += V::lanes, to += V::lanes) {
          V::store(to, V::fma(sum_at(t, r, i), scale, V::load(to)));
        }
      }
    }
  }

  // Codes are 128 more than the numbers that they stand for.
  static void copy_codes(const std::byte* from, std::byte* to) {
    for (int i = 0; i < tile_row_bytes; i += 4 * V::lanes) {
      V::store_bytes(to + i, V::minus_bytes(V::load_bytes(from + i), 128));
    }
  }

  template <int N>
  void take_keys(const Chunk& chunk, int part) const {
    for (int line = 0; line < key_tiles_ * tile_rows; ++line) {
      for (int t = 0; t < N; ++t) {
        copy_codes(chunk.keys[part + t] + line * chunk.key_step, column_line(line, t, N));
        __builtin_prefetch(next_.keys[part + t] + line * next_.key_step, 0, 2);
      }
    }
  }
  template <int N>
  void take_latents(const Chunk& chunk, int part) const {
    for (int line = 0; line < value_tiles_ * 4; line += 4) {  // of 4 dimensions
      for (int t = 0; t < N; ++t) {
        const std::byte* dims = chunk.values[part + t] + static_cast<int64_t>(line) * 4 * kv_group(DType::i8);
        V::turn_codes(dims, chunk.value_step, column_line(line, t, N));
        fetch_latents<2>(part + t, line / 2);
      }
    }
  }
  // 16 dimensions from 16 n on, and the next 16.
  void take_values(const Chunk& chunk, int n) const {
    for (int group = 0; group < attention_chunk / 4; ++group) {
      const std::byte* from = chunk.values[group / 4] + group % 4 * chunk.value_step + n * tile_row_bytes;
      for (int t = 0; t < 2; ++t) copy_codes(from + t * tile_row_bytes, column_line(group, t, 2));
      if (group % 4 == 0) fetch_latents<4>(group / 4, (value_tiles_ + n) * 2);
    }
  }
  std::byte* column_line(int line, int t, int columns) const {
    return columns_ + (line / tile_rows * columns + t) * tile_bytes + line % tile_rows * tile_row_bytes;
  }

  // Lines of 16 tokens of the next chunk, of which there are four for 16 dimensions. They are asked for a few at a
  // time: many at once would keep loads from the second-level cache waiting.
  template <int Count>
  void fetch_latents(int part, int line) const {
    for (int i = 0; i < Count; ++i) __builtin_prefetch(next_.values[part] + (line + i) * 64, 0, 2);
  }

  float* queries_ = nullptr;      // [rows][query_stride_], planes
  int query_stride_ = 0;          // floats
  int key_tiles_ = 0;             // of 64 dimensions
  int value_tiles_ = 0;           // of 16 dimensions
  int32_t* sums_ = nullptr;       // [planes][2 columns] tiles
  std::byte* columns_ = nullptr;  // tiles of B
  float key_scales_[most_rows];
  float latent_scales_[most_rows];
  float weight_scales_[most_rows];
  Chunk next_;
};

}  // namespace
}  // namespace ridge::backend::cpu
