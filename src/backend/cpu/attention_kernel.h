#pragma once

#include <algorithm>

#include "backend/cpu/attention_unpack.h"

// attention over paged blocks (KvGeometry): flash attention (Dao et al. 2022) of up to 48 (in int16 128) query
// rows over one KV head, 64 keys at a time, so that each vector of the cache meets many rows while
// it is in the first-level cache. A register tile is block_rows rows × block_vectors vectors.
namespace ridge::backend::cpu {
namespace {

// Calls fn.operator()<n>() for a run-time n in [1, Most].
template <int Most, class Fn>
void with_constant(int n, Fn fn) {
  if constexpr (Most > 1) {
    if (n < Most) return with_constant<Most - 1>(n, fn);
  }
  fn.template operator()<Most>();
}

// A sink's share of a sum that is relative to 2^best; what was summed is to be scaled by `factor`.
inline void add_sink(float sink, float best, float& total, float& factor) {
  const float logit = sink * log2_e;
  const float now = logit > best ? logit : best;
  factor = __builtin_exp2f(best - now);
  total = total * factor + __builtin_exp2f(logit - now);
}

// What a few rows will read next, asked for while they are busy: theirs would be the only loads of
// it, and wait for memory.
class Ahead {
 public:
  // parts: where chunk_parts runs of so many bytes begin
  Ahead(const std::byte* const* parts, int64_t bytes) : parts_(parts), bytes_(bytes) {}

  // A line of each part.
  void fetch() {
    if (at_ >= bytes_) return;
    for (int part = 0; part < chunk_parts; ++part) __builtin_prefetch(parts_[part] + at_, 0, 2);
    at_ += 64;
  }

 private:
  const std::byte* const* const parts_;
  const int64_t bytes_;
  int64_t at_ = 0;
};

// E: the cache's dtype; it is unpacked where that is not what Math loads.
template <class V, class Math, DType E, bool Unpack>
class FlashAttention {
  using F = typename V::F;
  using Values = typename Math::Values;
  static constexpr int lanes = V::lanes;
  static constexpr int chunk_vectors = attention_chunk / lanes;
  // A new maximum within 2^8 of the old is no reason to rescale: float32 has room for such weights.
  static constexpr float slack = 8.0f;
  static constexpr int most_rows = Math::most_rows;
  static constexpr int group = kv_group(E);
  static constexpr int element = E == DType::f32 ? 4 : E == DType::i8 ? 1 : 2;  // bytes

 public:
  explicit FlashAttention(const AttentionJob& job)
      : job_(job),
        kv_(*job.kv),
        query_stride_((kv_.key_dim + 15) / 16 * 16),
        query_(reinterpret_cast<float*>(job.scratch)),
        result_(query_ + static_cast<int64_t>(most_rows) * query_stride_),
        scores_(result_ + static_cast<int64_t>(most_rows) * kv_.value_stride),
        latent_query_(scores_ + most_rows * attention_chunk),
        unpacked_(latent_query_ +
                  (job.q_latent == nullptr ? 0 : latent_attention_rows * kv_.value_stride)) {}

  void run() {
    begin();
    int from = job_.range_end, to = 0;
    for (int r = 0; r < job_.rows; ++r) {
      from = first_key_[r] < from ? first_key_[r] : from;
      to = end_key_[r] > to ? end_key_[r] : to;
    }
    // Blocks that no row's window reaches are never read, unless every row must sum in the same chunks.
    const int first_chunk = job_.batch_invariant ? attention_chunk : 16;
    for (int key = from / first_chunk * first_chunk; key < to; key += attention_chunk) {
      open_chunk(key, to);
      if constexpr (Math::uses_tiles) {
        math_.score(chunk_, query_, query_stride_, job_.rows, scores_);
        weigh_all(key);
        math_.accumulate(chunk_, scores_, job_.rows, kv_.value_stride, result_);
      } else {
        multiply_chunk(key, to);
      }
    }
    if constexpr (Math::uses_tiles) math_.end();
    job_.partial == nullptr ? finish() : finish_partial();
  }

 private:
  void begin() {
    if constexpr (Math::uses_tiles) math_.begin();
    // Scores are in powers of 2, but a soft cap bends them first.
    const float factor = job_.soft_cap > 0 ? job_.scale : job_.scale * log2_e;
    for (int r = 0; r < job_.rows; ++r) {
      const int row = job_.first_row + r;
      const int end = job_.first_position + row / job_.group_heads + 1;
      const int first = job_.window > 0 && end > job_.window ? end - job_.window : 0;
      end_key_[r] = end < job_.range_end ? end : job_.range_end;
      first_key_[r] = first > job_.range_first ? first : job_.range_first;
      best_[r] = -__builtin_inff();
      V::store(sums_ + r * lanes, V::zero());
      float* to = query_ + r * query_stride_;
      take_query(row, factor, to);
      for (int d = kv_.key_dim; d < query_stride_; ++d) to[d] = 0;
      math_.set_query(r, to, kv_.key_dim);
      if (job_.q_latent != nullptr) begin_latent(r, row, factor);
    }
    if constexpr (requires { math_.set_latent_queries(latent_query_, 0, 0); }) {
      math_.set_latent_queries(latent_query_, job_.rows, kv_.value_stride);
    }
    for (int i = 0; i < job_.rows * kv_.value_stride; i += lanes) V::store(result_ + i, V::zero());
    if (job_.resumed != nullptr) resume();
  }

  void take_query(int row, float factor, float* to) const {
    const int token = row / job_.group_heads;
    const auto head = static_cast<int64_t>(row % job_.group_heads);
    const int dims = job_.q_rest == nullptr ? kv_.key_dim : job_.q_dims;
    scale_row<V>(job_.q + token * job_.q_stride + head * dims, factor, dims, to);
    if (job_.q_rest == nullptr) return;
    const int rest = kv_.key_dim - dims;
    scale_row<V>(job_.q_rest + token * job_.q_rest_stride + head * rest, factor, rest, to + dims);
  }

  void resume() {
    for (int r = 0; r < job_.rows; ++r) {
      const float* from = job_.resumed + r * partial_floats(kv_);
      best_[r] = from[0];
      sums_[r * lanes] = from[1];
      scale_row<V>(from + partial_head_floats, 1.0f, kv_.value_stride,
                   result_ + static_cast<int64_t>(r) * kv_.value_stride);
    }
  }

  void begin_latent(int r, int row, float factor) {
    const float* q = job_.q_latent + (row / job_.group_heads) * job_.q_latent_stride +
                     static_cast<int64_t>(row % job_.group_heads) * kv_.value_dim;
    float* to = latent_query_ + r * kv_.value_stride;
    scale_row<V>(q, factor, kv_.value_dim, to);
    for (int d = kv_.value_dim; d < kv_.value_stride; ++d) to[d] = 0;
  }

  // The open chunk's keys are those from `key` on; the last is before `end`.
  void multiply_chunk(int key, int end) {
    const bool is_alone = !Unpack && job_.rows <= Math::block_rows;
    Ahead values(chunk_.values, is_alone ? 16 / group * chunk_.value_step : 0);
    in_blocks([&]<int R>(int first) { score<R>(first, values); });
    if constexpr (Unpack) {
      if (job_.q_latent != nullptr) score_latents();
    }
    weigh_all(key);
    const int next = key + attention_chunk;
    const std::byte* next_keys[chunk_parts];
    for (int part = 0; part < chunk_parts; ++part) {
      next_keys[part] = keys_of(part_at(next + part * 16, end));
    }
    const int64_t key_bytes = (kv_.key_dim + group - 1) / group * chunk_.key_step;
    Ahead keys(next_keys, is_alone && next < end ? key_bytes : 0);
    in_blocks([&]<int R>(int first) { accumulate<R>(first, keys); });
  }

  void weigh_all(int key) {
    for (int r = 0; r < job_.rows; ++r) weigh(key, r);
  }

  const std::byte* block_of(int key) const {
    return job_.cache + job_.block_table[key / kv_.block_tokens] * kv_.block_stride;
  }
  // The first key of the part at `key`, or of the last part before `end`, whose scores are masked.
  static int part_at(int key, int end) { return key < end ? key : (end - 1) / 16 * 16; }
  const std::byte* keys_of(int first) const {
    return block_of(first) + first % kv_.block_tokens * group * element;
  }

  Chunk chunk_at(int key, int tokens) const {
    Chunk chunk;
    chunk.tokens = tokens;
    chunk.key_step = static_cast<int64_t>(kv_.block_tokens) * group * element;
    chunk.value_step = static_cast<int64_t>(kv_.value_stride) * group * element;
    for (int part = 0; part < chunk_parts; ++part) {
      const int first = part_at(key + part * 16, key + tokens);
      const std::byte* head = block_of(first);
      const int offset = first % kv_.block_tokens;
      chunk.keys[part] = keys_of(first);
      chunk.values[part] = head + kv_.values_at + offset / group * chunk.value_step;
      if constexpr (E == DType::i8) {
        chunk.key_scales[part] = reinterpret_cast<const float*>(head + kv_.key_scales_at) + offset;
        chunk.value_scales[part] =
            reinterpret_cast<const float*>(head + kv_.value_scales_at) + offset;
      }
    }
    return chunk;
  }

  // Keys from `key` on, before `end`.
  void open_chunk(int key, int end) {
    const auto tokens_from = [&](int first) { return std::min(end - first, attention_chunk); };
    chunk_ = chunk_at(key, tokens_from(key));
    if constexpr (Unpack) unpack();
    if constexpr (Math::uses_tiles) math_.open(chunk_, kv_, unpacked_);
    if constexpr (requires { math_.set_next(chunk_); }) {
      const int next = key + attention_chunk;
      math_.set_next(next < end ? chunk_at(next, tokens_from(next)) : chunk_);
    }
  }

  void unpack() {
    const Chunk cached = chunk_;
    if constexpr (Math::unpacks_words) {
      return unpack_words<V>(chunk_, kv_, unpacked_);
    } else {
      unpack_chunk<V, E>(chunk_, kv_, unpacked_);
    }
    latents_ = chunk_.values[0];
    if constexpr (Math::unpacks_keys_alone) {
      for (int part = 0; part < chunk_parts; ++part) chunk_.values[part] = cached.values[part];
      chunk_.value_step = cached.value_step;
    }
  }

  // Calls fn<R>(first row) for runs of rows as equal as can be, R at most Math::block_rows.
  template <class Fn>
  void in_blocks(Fn fn) const {
    const int blocks = (job_.rows + Math::block_rows - 1) / Math::block_rows;
    for (int b = 0, first = 0; b < blocks; ++b) {
      const int rows = (job_.rows - first + blocks - b - 1) / (blocks - b);
      with_constant<Math::block_rows>(rows, [&]<int R>() { fn.template operator()<R>(first); });
      first += rows;
    }
  }

  template <int R, int Vectors, int Planes, class Sum>
  void begin_scores(int first, Sum (&sums)[R][Vectors][Planes]) const {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) math_.begin_score(first + r, sums[r][i]);
    }
  }

  template <int R>
  void score(int first, Ahead& ahead) {
    constexpr int vectors = V::block_vectors;
    const int64_t stride = static_cast<int64_t>(query_stride_) * 4;
    const int groups = (kv_.key_dim + Math::group - 1) / Math::group;
    for (int v = 0; v < chunk_vectors; v += vectors) {
      typename Math::Sum sums[R][vectors][Math::planes];
      const std::byte* at[vectors];
#pragma GCC unroll 8
      for (int i = 0; i < vectors; ++i) {
        const int token = (v + i) * lanes;
        at[i] = chunk_.keys[token / 16] + token % 16 * Math::lane_bytes;
      }
      begin_scores(first, sums);
      const auto* row = reinterpret_cast<const std::byte*>(query_) + first * stride;
      int64_t step = 0;
      for (int d = 0, end = 0; d < groups; d = end) {
        end = groups - d < Math::score_groups ? groups : d + Math::score_groups;
        if (d > 0) begin_scores(first, sums);
        for (int g = d; g < end; ++g, step += chunk_.key_step, row += Math::query_bytes) {
          if constexpr (!Unpack) ahead.fetch();
          typename Math::Loaded x[vectors];
#pragma GCC unroll 8
          for (int i = 0; i < vectors; ++i) x[i] = Math::load(at[i] + step);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
            for (int i = 0; i < vectors; ++i) Math::score_step(sums[r][i], x[i], row + r * stride);
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          float* to = scores_ + (first + r) * attention_chunk + v * lanes;
#pragma GCC unroll 8
          for (int i = 0; i < vectors; ++i, to += lanes) {
            if constexpr (Math::score_groups < all_groups) {
              F sum = V::to_float(sums[r][i][0]);
              if (d > 0) sum = V::add(sum, V::load(to));
              V::store(to, end < groups ? sum : math_.scaled(sum, first + r, chunk_, v + i));
            } else {
              V::store(to, math_.end_score(sums[r][i], first + r, chunk_, v + i));
            }
          }
        }
      }
    }
  }

  // Adds each row's products with the chunk's values, which lie as [64][value_stride] floats. A few tokens
  // stay in the first-level cache while all rows meet them.
  void score_latents() {
    constexpr int rows = 4;
    constexpr int tokens = V::lanes == 16 ? 4 : 2;  // as many sums as there are registers for
    const int end = (chunk_.tokens + 15) / 16 * 16;
    for (int token = 0; token < end; token += tokens) {
      for (int first = 0; first < job_.rows; first += rows) {
        const int some = job_.rows - first < rows ? job_.rows - first : rows;
        with_constant<rows>(some, [&]<int R>() { add_products<R, tokens>(first, token); });
      }
    }
  }

  template <int R, int Tokens>
  void add_products(int first, int token) {
    const float* q = latent_query_ + first * kv_.value_stride;
    const float* x = reinterpret_cast<const float*>(latents_) +
                     static_cast<int64_t>(token) * kv_.value_stride;
    F sums[R][Tokens];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) sums[r][t] = V::zero();
    }
    for (int d = 0; d < kv_.value_stride; d += lanes) {
      F row[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) row[r] = V::load(q + r * kv_.value_stride + d);
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) {
        const F latent = V::load(x + t * kv_.value_stride + d);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sums[r][t] = V::fma(latent, row[r], sums[r][t]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) {
        scores_[(first + r) * attention_chunk + token + t] += V::reduce_add(sums[r][t]);
      }
    }
  }

  // c · tanh(s / c) = c - 2c / (e^(2s/c) + 1), in powers of 2.
  F cap(F s) const {
    const F c = V::set1(job_.soft_cap * log2_e);
    const F e = exp2<V, 6>(V::min(V::mul(s, V::set1(2 * log2_e / job_.soft_cap)), V::set1(60.0f)));
    return V::sub(c, V::div(V::add(c, c), V::add(e, V::set1(1.0f))));
  }

  // Turns a row's scores into weights, and rescales what was summed before where they outgrow it.
  void weigh(int key, int r) {
    float* row = scores_ + r * attention_chunk;
    const bool is_masked = first_key_[r] > key || end_key_[r] < key + attention_chunk;
    F s[chunk_vectors];
    F largest = V::set1(-__builtin_inff());
    for (int i = 0; i < chunk_vectors; ++i) {
      s[i] = V::load(row + i * lanes);
      if (job_.soft_cap > 0) s[i] = cap(s[i]);
      if (is_masked) s[i] = mask(s[i], key + i * lanes, r, -__builtin_inff());
      largest = V::max(largest, s[i]);
    }
    if (V::any_greater(largest, V::set1(best_[r] + slack))) raise(r, V::reduce_max(largest));
    const F shift = V::set1(best_[r] == -__builtin_inff() ? 0.0f : best_[r]);
    for (int i = 0; i < chunk_vectors; ++i) {
      s[i] = exp2<V, Math::exp_degree>(V::sub(s[i], shift));
      if (is_masked) s[i] = mask(s[i], key + i * lanes, r, 0.0f);
    }
    const F total = math_.set_weights(r, row, s, chunk_);
    V::store(sums_ + r * lanes, V::add(V::load(sums_ + r * lanes), total));
  }

  F mask(F x, int key, int r, float fill) const {
    return V::keep(x, first_key_[r] - key, end_key_[r] - key, fill);
  }

  void raise(int r, float best) {
    if (best_[r] != -__builtin_inff()) {
      const float decay = __builtin_exp2f(best_[r] - best);
      V::store(sums_ + r * lanes, V::mul(V::load(sums_ + r * lanes), V::set1(decay)));
      float* result = result_ + r * kv_.value_stride;
      scale_row<V>(result, decay, kv_.value_stride, result);
    }
    best_[r] = best;
  }

  template <int R>
  void accumulate(int first, Ahead& ahead) {
    int d = 0;
    for (; d + V::block_vectors * lanes <= kv_.value_stride; d += V::block_vectors * lanes) {
      accumulate_at<R, V::block_vectors>(first, d, ahead);
    }
    if constexpr (V::block_vectors > 2) {
      for (; d + 2 * lanes <= kv_.value_stride; d += 2 * lanes) accumulate_at<R, 2>(first, d, ahead);
    }
    for (; d < kv_.value_stride; d += lanes) accumulate_at<R, 1>(first, d, ahead);
  }

  template <int R, int Vectors>
  void accumulate_at(int first, int d, Ahead& ahead) {
    float* out = result_ + first * kv_.value_stride + d;
    constexpr int64_t stride = attention_chunk * 4;
    typename Values::Sum sums[R][Vectors][Values::planes];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) {
        math_.begin_value(first + r, out + r * kv_.value_stride + i * lanes, sums[r][i]);
      }
    }
    const auto* row = reinterpret_cast<const std::byte*>(scores_) + first * stride;
    for (int token = 0; token < chunk_.tokens; token += 16) {
      const std::byte* at = chunk_.values[token / 16] + d * Values::lane_bytes;
      const int some = chunk_.tokens - token < 16 ? chunk_.tokens - token : 16;
      const auto multiply = [&]<bool IsCut>() {
        if constexpr (!Unpack) ahead.fetch();
        typename Values::Loaded x[Vectors];
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) {
          x[i] = Values::load(at + i * lanes * Values::lane_bytes);
          if constexpr (IsCut) x[i] = Values::first_of(x[i]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
          for (int i = 0; i < Vectors; ++i) Values::value_step(sums[r][i], x[i], row + r * stride);
        }
      };
      // Past the context a pair may have an infinity, of which a zero weight makes no zero; codes have none.
      constexpr bool cuts = requires(typename Values::Loaded x) { Values::first_of(x); };
      const int whole = cuts ? some / Values::group * Values::group : some;
      for (int t = 0; t < whole;
           t += Values::group, at += chunk_.value_step, row += Values::weight_bytes) {
        multiply.template operator()<false>();
      }
      if constexpr (cuts) {
        if (whole < some) multiply.template operator()<true>();
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) {
        math_.end_value(sums[r][i], first + r, out + r * kv_.value_stride + i * lanes);
      }
    }
  }

  void finish() const {
    for (int r = 0; r < job_.rows; ++r) {
      const int row = job_.first_row + r;
      const int head = row % job_.group_heads;
      float total = V::reduce_add(V::load(sums_ + r * lanes));
      float factor = 1.0f;
      if (job_.sinks != nullptr) add_sink(job_.sinks[head], best_[r], total, factor);
      float* out = job_.out + (row / job_.group_heads) * job_.out_stride +
                   static_cast<int64_t>(head) * kv_.value_dim;
      scale_row<V>(result_ + r * kv_.value_stride, factor / total, kv_.value_dim, out);
    }
  }

  void finish_partial() const {
    for (int r = 0; r < job_.rows; ++r) {
      float* to = job_.partial + r * partial_floats(kv_);
      to[0] = best_[r];
      to[1] = V::reduce_add(V::load(sums_ + r * lanes));
      scale_row<V>(result_ + r * kv_.value_stride, 1.0f, kv_.value_stride,
                   to + partial_head_floats);
    }
  }

  const AttentionJob& job_;
  const KvGeometry& kv_;
  const int query_stride_;  // floats
  float* const query_;      // [rows][query_stride], in Math's numbers
  float* const result_;     // [rows][value_stride]
  float* const scores_;     // [rows][attention_chunk]; weights in Math's numbers take their place
  float* const latent_query_;  // [rows][value_stride], where there are any
  float* const unpacked_;
  const std::byte* latents_ = nullptr;  // of the open chunk, unpacked
  Math math_;
  Chunk chunk_;
  int first_key_[most_rows];  // in the window and the range
  int end_key_[most_rows];    // past the causal limit or the range
  float best_[most_rows];     // the exponent that sums and results are relative to
  alignas(64) float sums_[most_rows * lanes];
};

// A rounded weight matters where few keys share the sum; there, exact ones cost little.
inline bool weights_are_exact(const AttentionJob& job) {
  constexpr int few_keys = 256;
  const int last_row = job.first_row + job.rows - 1;
  return job.batch_invariant || job.first_position + last_row / job.group_heads < few_keys;
}

// Calls fn(job) for runs of at most attention_rows of a job's rows.
template <class Fn>
void in_pieces(const AttentionJob& job, Fn fn) {
  AttentionJob piece = job;
  for (int row = 0; row < job.rows; row += attention_rows) {
    piece.first_row = job.first_row + row;
    piece.rows = job.rows - row < attention_rows ? job.rows - row : attention_rows;
    const int64_t states = row * partial_floats(*job.kv);
    if (job.partial != nullptr) piece.partial = job.partial + states;
    if (job.resumed != nullptr) piece.resumed = job.resumed + states;
    fn(piece);
  }
}

template <class V, DType E>
void attend(const AttentionJob& job) {
  // From here on a chunk's conversion costs less than its repetition for every run of rows.
  constexpr int unpacked_rows = 2 * V::block_rows + 1;
  if (job.q_latent != nullptr) {
    if constexpr (E == DType::bf16 && V::has_bf16_dot) {
      if (!weights_are_exact(job)) {
        return FlashAttention<V, Bf16LatentMath<V>, E, true>(job).run();
      }
    }
    FlashAttention<V, FloatMath<V, DType::f32>, E, true>(job).run();
  } else if constexpr (E == DType::i8) {
    FlashAttention<V, Int8Math<V>, E, false>(job).run();
  } else if constexpr (E == DType::bf16 && V::has_bf16_dot) {
    if (weights_are_exact(job)) {
      FlashAttention<V, Bf16Math<V, true>, E, false>(job).run();
    } else {
      FlashAttention<V, Bf16Math<V, false>, E, false>(job).run();
    }
  } else if constexpr (E == DType::f32) {
    FlashAttention<V, FloatMath<V, E>, E, false>(job).run();
  } else if (job.rows < unpacked_rows) {
    FlashAttention<V, FloatMath<V, E>, E, false>(job).run();
  } else {
    if constexpr (E == DType::f16 && V::has_word_dot) {
      // Few rows sum otherwise, so a row's result would depend on how many there are.
      if (!job.batch_invariant) return FlashAttention<V, WordMath<V>, E, true>(job).run();
    }
    in_pieces(job, [](const AttentionJob& piece) {
      FlashAttention<V, FloatMath<V, DType::f32>, E, true>(piece).run();
    });
  }
}

template <class V>
void attention(const AttentionJob& job) {
  switch (job.kv->dtype) {
    case DType::f16:
      return attend<V, DType::f16>(job);
    case DType::bf16:
      return attend<V, DType::bf16>(job);
    case DType::i8:
      return attend<V, DType::i8>(job);
    default:
      return attend<V, DType::f32>(job);
  }
}

// Σ factors[i] · the vector at `part` of range i.
template <class V>
typename V::F weighted(const float* part, int64_t row_floats, const float* factors, int ranges) {
  auto sum = V::zero();
  for (int i = 0; i < ranges; ++i) {
    const float* at = part + i * partial_rows * row_floats + partial_head_floats;
    sum = V::fma(V::load(at), V::set1(factors[i]), sum);
  }
  return sum;
}

// Ranges without a visible key have a sum of 0 and an exponent of -∞.
template <class V>
void merge_attention(const AttentionJob& job, const float* partials, int ranges) {
  const KvGeometry& kv = *job.kv;
  const int64_t row_floats = partial_floats(kv);
  for (int r = 0; r < job.rows; ++r) {
    const float* part = partials + r * row_floats;
    float best = -__builtin_inff();
    for (int i = 0; i < ranges; ++i) {
      const float b = part[i * partial_rows * row_floats];
      best = b > best ? b : best;
    }
    float total = 0;
    float factors[attention_ranges];
    for (int i = 0; i < ranges; ++i) {
      const float* p = part + i * partial_rows * row_floats;
      factors[i] = __builtin_exp2f(p[0] - best);
      total += p[1] * factors[i];
    }
    const int row = job.first_row + r;
    const int head = row % job.group_heads;
    float factor = 1.0f;
    if (job.sinks != nullptr) add_sink(job.sinks[head], best, total, factor);
    float* out = job.out + (row / job.group_heads) * job.out_stride +
                 static_cast<int64_t>(head) * kv.value_dim;
    for (int i = 0; i < ranges; ++i) factors[i] *= factor / total;
    for_columns<V>(
        kv.value_dim,
        [&](int64_t d) { V::store(out + d, weighted<V>(part + d, row_floats, factors, ranges)); },
        [&](int64_t d, int n) {
          store_tail<V>(out + d, weighted<V>(part + d, row_floats, factors, ranges), n);
        });
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
