#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace ridge::backend {

// The shape of a paged cache: `blocks` blocks of `block_tokens` tokens, for every layer.
struct KvCacheLayout {
  enum class Kind : uint8_t {
    heads,   // keys and values for each KV head (store_kv, attention)
    latent,  // one latent and one rotary key a token (store_latent, mla_attention)
  };
  Kind kind = Kind::heads;
  int layers = 0;
  int blocks = 0;
  int block_tokens = 16;  // a power of two
  int kv_heads = 0;       // heads
  int key_dim = 0;        // heads: of one head; latent: the rotary part (64)
  int value_dim = 0;      // heads: of one head; latent: the latent (512)
  DType dtype = DType::f16;

  uint64_t values_per_token() const {  // over all layers
    const uint64_t per_head = static_cast<uint64_t>(key_dim) + value_dim;
    return layers * (kind == Kind::heads ? per_head * kv_heads : per_head);
  }
  // Over all layers; an i8 cache has a float32 scale for each vector. What a device pads comes on
  // top.
  uint64_t bytes_per_token() const {
    const uint64_t vectors = uint64_t{2} * layers * (kind == Kind::heads ? kv_heads : 1);
    return row_bytes(dtype, static_cast<int64_t>(values_per_token())) +
           (dtype == DType::i8 ? vectors * sizeof(float) : 0);
  }
};

// Key and value blocks in the layout that a device's kernels want. A slot is
// block · block_tokens + offset.
class KvCache {
 public:
  virtual ~KvCache() = default;
  const KvCacheLayout& layout() const { return layout_; }
  virtual uint64_t size_bytes() const = 0;
  // One block over all layers, to spill it and bring it back.
  virtual size_t block_bytes() const = 0;
  virtual void export_block(int block, std::span<std::byte> to) const = 0;
  virtual void import_block(int block, std::span<const std::byte> from) = 0;

 protected:
  explicit KvCache(const KvCacheLayout& layout) : layout_(layout) {}
  KvCacheLayout layout_;
};

}  // namespace ridge::backend
