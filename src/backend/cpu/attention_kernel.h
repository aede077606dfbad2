#pragma once

#include "backend/cpu/row_kernels.h"

// attention and store_kv over blocks whose keys lie transposed, [key_dim][block_tokens], so that a
// vector holds 16 keys, and whose values lie by token, [block_tokens][value_stride].
namespace ridge::backend::cpu {
namespace {

template <class V, DType E>
typename V::F load_cached(const std::byte* p) {
  if constexpr (E == DType::f16) {
    return V::load_f16(p);
  } else if constexpr (E == DType::bf16) {
    return V::load_bf16(p);
  } else {
    return V::load(reinterpret_cast<const float*>(p));
  }
}

template <class V, DType E>
void store_cached(std::byte* p, typename V::F x) {
  if constexpr (E == DType::f16) {
    V::store_f16(p, x);
  } else if constexpr (E == DType::bf16) {
    V::store_bf16(p, x);
  } else {
    V::store(reinterpret_cast<float*>(p), x);
  }
}

template <class V, DType E>
void store_kv_as(const float* k, const float* v, std::byte* keys, std::byte* values, int offset,
                 int block_tokens, int key_dim, int value_dim, int value_stride) {
  constexpr int element = E == DType::f32 ? 4 : 2;
  alignas(64) std::byte rounded[V::lanes * element];
  for (int d = 0; d < key_dim; d += V::lanes) {
    const int n = key_dim - d < V::lanes ? key_dim - d : V::lanes;
    store_cached<V, E>(rounded, n == V::lanes ? V::load(k + d) : load_tail<V>(k + d, n));
    for (int i = 0; i < n; ++i) {
      __builtin_memcpy(keys + ((d + i) * block_tokens + offset) * element, rounded + i * element,
                       element);
    }
  }
  std::byte* to = values + static_cast<int64_t>(offset) * value_stride * element;
  for (int d = 0; d < value_stride; d += V::lanes) {
    const int n = value_dim - d < V::lanes ? value_dim - d : V::lanes;
    store_cached<V, E>(to + d * element, n == V::lanes ? V::load(v + d)
                                         : n > 0       ? load_tail<V>(v + d, n)
                                                       : V::zero());
  }
}

template <class V>
void store_kv(const float* k, const float* v, std::byte* keys, std::byte* values, int offset,
              int block_tokens, int key_dim, int value_dim, int value_stride, DType dtype) {
  const auto store = dtype == DType::f16    ? &store_kv_as<V, DType::f16>
                     : dtype == DType::bf16 ? &store_kv_as<V, DType::bf16>
                                            : &store_kv_as<V, DType::f32>;
  store(k, v, keys, values, offset, block_tokens, key_dim, value_dim, value_stride);
}

// Flash attention (Dao et al. 2022) of R query rows over one KV head, 64 keys at a time.
template <class V, DType E, int R>
struct FlashAttention {
  static constexpr int element = E == DType::f32 ? 4 : 2;
  static constexpr int subtile = 16;  // keys that one vector or two hold
  using F = typename V::F;

  const AttentionJob& job;
  float* query = job.scratch;                                 // [R][key_dim], scaled
  float* result = query + R * job.key_dim;                    // [R][value_stride]
  float* scores = result + R * job.value_stride;              // [R][attention_chunk]
  int first_key[R];                                           // in the window
  int end_key[R];                                             // past the causal limit
  float best[R];
  float sum[R];

  explicit FlashAttention(const AttentionJob& j) : job(j) {}

  const float* row_query(int r) const {
    const int row = job.first_row + r;
    return job.q + (row / job.group_heads) * job.q_stride +
           static_cast<int64_t>(row % job.group_heads) * job.key_dim;
  }

  void begin() {
    for (int r = 0; r < R; ++r) {
      const int position = job.first_position + (job.first_row + r) / job.group_heads;
      end_key[r] = position + 1;
      first_key[r] = job.window > 0 && end_key[r] > job.window ? end_key[r] - job.window : 0;
      best[r] = -__builtin_inff();
      sum[r] = 0;
      scale_row<V>(row_query(r), job.scale, job.key_dim, query + r * job.key_dim);
    }
    for (int i = 0; i < R * job.value_stride; i += V::lanes) V::store(result + i, V::zero());
  }

  // Block and offset of key `key`, a multiple of 16.
  int64_t block_at(int key) const { return job.block_table[key / job.block_tokens] * job.block_stride; }

  void score(int key, float* out) const {
    const std::byte* keys = job.keys + block_at(key) + key % job.block_tokens * element;
    const int64_t step = static_cast<int64_t>(job.block_tokens) * element;
    for (int part = 0; part < subtile; part += V::lanes) {
      F acc[R];
      for (F& a : acc) a = V::zero();
      const std::byte* at = keys + part * element;
      for (int d = 0; d < job.key_dim; ++d, at += step) {
        const F k = load_cached<V, E>(at);
        for (int r = 0; r < R; ++r) {
          acc[r] = V::fma(k, V::set1(query[r * job.key_dim + d]), acc[r]);
        }
      }
      for (int r = 0; r < R; ++r) V::store(out + r * attention_chunk + part, acc[r]);
    }
  }

  void cap(float* row) const {
    for (int i = 0; i < attention_chunk; ++i) {
      row[i] = job.soft_cap * __builtin_tanhf(row[i] / job.soft_cap);
    }
  }

  // Turns scores of keys [key, key + count) into weights, and rescales what was summed before.
  void softmax(int key, int count, int r) {
    float* row = scores + r * attention_chunk;
    if (job.soft_cap > 0) cap(row);
    F largest = V::set1(-__builtin_inff());
    for (int i = 0; i < count; i += V::lanes) {
      const F s = V::keep(V::load(row + i), first_key[r] - key - i, end_key[r] - key - i,
                          -__builtin_inff());
      V::store(row + i, s);
      largest = V::max(largest, s);
    }
    const float top = V::reduce_max(largest);
    const float now = top > best[r] ? top : best[r];
    if (now == -__builtin_inff()) {  // no key of this chunk is in the row's range
      for (int i = 0; i < count; i += V::lanes) V::store(row + i, V::zero());
      return;
    }
    const F shift = V::set1(now);
    F total = V::zero();
    for (int i = 0; i < count; i += V::lanes) {
      F p = exp<V>(V::sub(V::load(row + i), shift));
      p = V::keep(p, first_key[r] - key - i, end_key[r] - key - i, 0.0f);
      V::store(row + i, p);
      total = V::add(total, p);
    }
    const float decay = best[r] == -__builtin_inff() ? 0.0f : __builtin_expf(best[r] - now);
    sum[r] = sum[r] * decay + V::reduce_add(total);
    best[r] = now;
    if (decay != 1.0f) {
      float* to = result + r * job.value_stride;
      scale_row<V>(to, decay, job.value_stride, to);
    }
  }

  void accumulate(int key, const float* weights) {
    const std::byte* values = job.values + block_at(key) +
                              static_cast<int64_t>(key % job.block_tokens) * job.value_stride * element;
    const int64_t step = static_cast<int64_t>(job.value_stride) * element;
    for (int d = 0; d < job.value_stride; d += V::lanes) {
      F acc[R];
      for (int r = 0; r < R; ++r) acc[r] = V::load(result + r * job.value_stride + d);
      const std::byte* at = values + d * element;
      for (int i = 0; i < subtile; ++i, at += step) {
        const F v = load_cached<V, E>(at);
        for (int r = 0; r < R; ++r) {
          acc[r] = V::fma(v, V::set1(weights[r * attention_chunk + i]), acc[r]);
        }
      }
      for (int r = 0; r < R; ++r) V::store(result + r * job.value_stride + d, acc[r]);
    }
  }

  void finish() {
    for (int r = 0; r < R; ++r) {
      const int row = job.first_row + r;
      const int head = row % job.group_heads;
      float total = sum[r];
      float factor = 1.0f;
      if (job.sinks != nullptr) {
        const float sink = job.sinks[head];
        const float now = sink > best[r] ? sink : best[r];
        factor = __builtin_expf(best[r] - now);
        total = total * factor + __builtin_expf(sink - now);
      }
      float* out = job.out + (row / job.group_heads) * job.out_stride +
                   static_cast<int64_t>(head) * job.value_dim;
      scale_row<V>(result + r * job.value_stride, factor / total, job.value_dim, out);
    }
  }

  void run() {
    begin();
    int from = first_key[0];
    int to = end_key[0];
    for (int r = 1; r < R; ++r) {
      from = first_key[r] < from ? first_key[r] : from;
      to = end_key[r] > to ? end_key[r] : to;
    }
    for (int key = from / subtile * subtile; key < to; key += attention_chunk) {
      const int rest = to - key;
      const int count = rest < attention_chunk ? (rest + subtile - 1) / subtile * subtile
                                               : attention_chunk;
      for (int i = 0; i < count; i += subtile) score(key + i, scores + i);
      for (int r = 0; r < R; ++r) softmax(key, count, r);
      for (int i = 0; i < count; i += subtile) accumulate(key + i, scores + i);
    }
    finish();
  }
};

template <class V, DType E, int R = attention_rows>
void attend(const AttentionJob& job) {
  if constexpr (R > 0) {
    if (job.rows == R) {
      FlashAttention<V, E, R>(job).run();
    } else {
      attend<V, E, R - 1>(job);
    }
  }
}

template <class V>
void attention(const AttentionJob& job, DType dtype) {
  switch (dtype) {
    case DType::f16: return attend<V, DType::f16>(job);
    case DType::bf16: return attend<V, DType::bf16>(job);
    default: return attend<V, DType::f32>(job);
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
