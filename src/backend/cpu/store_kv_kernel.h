#pragma once

#include "backend/cpu/row_kernels.h"

// store_kv: one token's key and value of one head into a block laid out as KvGeometry says.
namespace ridge::backend::cpu {
namespace {

template <int Element>
void scatter(const std::byte* from, std::byte* to, int count, int per_step, int64_t step_bytes,
             int64_t within_bytes) {
  for (int i = 0; i < count; ++i) {
    __builtin_memcpy(to + i / per_step * step_bytes + i % per_step * within_bytes,
                     from + i * Element, Element);
  }
}

// scale = max|x| / 127, codes = round(x / scale) + 128, as `reference` has them.
template <class V>
float quantize_head(const float* x, int n, std::byte* codes) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = __builtin_fmaxf(largest, __builtin_fabsf(x[i]));
  const float scale = largest / 127.0f;
  alignas(64) int8_t signed_codes[V::lanes];
  for (int i = 0; i < n; i += V::lanes) {
    const int some = n - i < V::lanes ? n - i : V::lanes;
    auto v = some == V::lanes ? V::load(x + i) : load_tail<V>(x + i, some);
    v = scale == 0.0f ? V::zero() : V::div(v, V::set1(scale));
    // A subnormal scale has so few bits that the quotient may pass 127.
    V::store_codes(signed_codes, V::max(V::min(v, V::set1(127.0f)), V::set1(-127.0f)));
    for (int j = 0; j < some; ++j) codes[i + j] = static_cast<std::byte>(signed_codes[j] ^ 0x80);
  }
  return scale;
}

template <class V, DType E>
void round_head(const float* x, int n, std::byte* to) {
  for (int i = 0; i < n; i += V::lanes) {
    const auto v = n - i < V::lanes ? load_tail<V>(x + i, n - i) : V::load(x + i);
    if constexpr (E == DType::f16) {
      V::store_f16(to + i * 2, v);
    } else if constexpr (E == DType::bf16) {
      V::store_bf16(to + i * 2, v);
    } else {
      V::store(reinterpret_cast<float*>(to) + i, v);
    }
  }
}

template <class V, DType E>
void store_kv_as(const float* k, const float* v, std::byte* head, int offset,
                 const KvGeometry& kv) {
  constexpr int element = E == DType::f32 ? 4 : E == DType::i8 ? 1 : 2;
  constexpr int group = kv_group(E);
  constexpr int piece = 256;  // elements rounded at once
  alignas(64) std::byte rounded[(piece + 16) * element];
  const auto place = [&](const float* x, int n, std::byte* to, int per_step, int64_t step,
                         int64_t within) {
    for (int d = 0; d < n; d += piece) {
      const int some = n - d < piece ? n - d : piece;
      round_head<V, E>(x + d, some, rounded);
      scatter<element>(rounded, to + d / per_step * step, some, per_step, step, within);
    }
  };
  std::byte* key = head + offset * group * element;
  std::byte* value =
      head + kv.values_at +
      (static_cast<int64_t>(offset / group) * kv.value_stride * group + offset % group) * element;
  const int64_t key_step = static_cast<int64_t>(kv.block_tokens) * group * element;
  place(k, kv.key_dim, key, group, key_step, element);
  place(v, kv.value_dim, value, 1, group * element, 0);
}

template <class V>
void store_kv_codes(const float* k, const float* v, std::byte* head, int offset,
                    const KvGeometry& kv) {
  constexpr int group = kv_group(DType::i8);
  constexpr int most = 1024;
  alignas(64) std::byte codes[most];
  float scale = quantize_head<V>(k, kv.key_dim, codes);
  scatter<1>(codes, head + offset * group, kv.key_dim, group,
             static_cast<int64_t>(kv.block_tokens) * group, 1);
  __builtin_memcpy(head + kv.key_scales_at + offset * 4, &scale, 4);
  scale = quantize_head<V>(v, kv.value_dim, codes);
  std::byte* value = head + kv.values_at +
                     static_cast<int64_t>(offset / group) * kv.value_stride * group +
                     offset % group;
  scatter<1>(codes, value, kv.value_dim, 1, group, 0);
  __builtin_memcpy(head + kv.value_scales_at + offset * 4, &scale, 4);
}

template <class V>
void store_kv(const float* k, const float* v, std::byte* head, int offset, const KvGeometry& kv) {
  switch (kv.dtype) {
    case DType::f16:
      return store_kv_as<V, DType::f16>(k, v, head, offset, kv);
    case DType::bf16:
      return store_kv_as<V, DType::bf16>(k, v, head, offset, kv);
    case DType::i8:
      return store_kv_codes<V>(k, v, head, offset, kv);
    default:
      return store_kv_as<V, DType::f32>(k, v, head, offset, kv);
  }
}

}  // namespace
}  // namespace ridge::backend::cpu
