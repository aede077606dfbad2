#include "backend/reference/kv_cache.h"

#include <fmt/format.h>

#include <cstring>
#include <new>

#include "backend/reference/ops.h"
#include "base/checked.h"
#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"

namespace ridge::backend::reference {

namespace {

size_t vector_bytes(DType dtype, int values) {
  switch (dtype) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
      return row_bytes(dtype, values);
    case DType::i8:
      return row_bytes(dtype, values) + sizeof(float);
    default:
      throw Error(ErrorCode::unsupported,
                  fmt::format("a KV cache cannot hold {}; F32, F16, BF16 and I8 are possible",
                              name(dtype)));
  }
}

int heads_of(const KvCacheLayout& layout) {
  return layout.kind == KvCacheLayout::Kind::heads ? layout.kv_heads : 1;
}

template <typename Bits, typename Round>
void round_all(std::span<const float> values, std::byte* to, Round round) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Bits bits = round(values[i]);
    std::memcpy(to + i * sizeof(Bits), &bits, sizeof(Bits));
  }
}

}  // namespace

ReferenceKvCache::ReferenceKvCache(const KvCacheLayout& layout)
    : KvCache(layout),
      key_bytes_(vector_bytes(layout.dtype, layout.key_dim)),
      value_bytes_(vector_bytes(layout.dtype, layout.value_dim)),
      token_bytes_((key_bytes_ + value_bytes_) * heads_of(layout)),
      block_bytes_(token_bytes_ * layout.block_tokens * layout.layers) {
  RIDGE_ASSERT(layout.layers > 0 && layout.blocks > 0 && layout.block_tokens > 0);
  const auto total = checked_mul(block_bytes_, static_cast<size_t>(layout.blocks));
  try {
    if (!total) throw std::bad_alloc();
    bytes_.resize(*total);
  } catch (const std::exception&) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("a KV cache of {} blocks of {} bytes does not fit in memory",
                            layout.blocks, block_bytes_));
  }
}

std::span<std::byte> ReferenceKvCache::block_of(int block) {
  RIDGE_ASSERT(block >= 0 && block < layout_.blocks);
  return std::span(bytes_).subspan(block * block_bytes_, block_bytes_);
}

void ReferenceKvCache::export_block(int block, std::span<std::byte> to) const {
  RIDGE_ASSERT(to.size() == block_bytes_);
  const auto from = const_cast<ReferenceKvCache*>(this)->block_of(block);
  std::memcpy(to.data(), from.data(), block_bytes_);
}

void ReferenceKvCache::import_block(int block, std::span<const std::byte> from) {
  RIDGE_ASSERT(from.size() == block_bytes_);
  std::memcpy(block_of(block).data(), from.data(), block_bytes_);
}

void ReferenceKvCache::copy_block(int to, int from) {
  std::memmove(block_of(to).data(), block_of(from).data(), block_bytes_);
}

size_t ReferenceKvCache::offset_of(int layer, int slot, int head, KvPart part) const {
  RIDGE_ASSERT(layer >= 0 && layer < layout_.layers && head >= 0 && head < heads_of(layout_));
  RIDGE_ASSERT(slot >= 0 && slot / layout_.block_tokens < layout_.blocks);
  const size_t block = slot / layout_.block_tokens;
  const size_t token = layer * layout_.block_tokens + slot % layout_.block_tokens;
  return block * block_bytes_ + token * token_bytes_ + head * (key_bytes_ + value_bytes_) +
         (part == KvPart::value ? key_bytes_ : 0);
}

void ReferenceKvCache::store(int layer, int slot, int head, KvPart part,
                             std::span<const float> values) {
  std::byte* to = bytes_.data() + offset_of(layer, slot, head, part);
  switch (layout_.dtype) {
    case DType::f16:
      return round_all<uint16_t>(values, to, f32_to_f16);
    case DType::bf16:
      return round_all<uint16_t>(values, to, f32_to_bf16);
    case DType::i8: {
      const float scale = quantize_row(values, {reinterpret_cast<int8_t*>(to), values.size()});
      std::memcpy(to + values.size(), &scale, sizeof scale);
      return;
    }
    default:
      return round_all<float>(values, to, [](float value) { return value; });
  }
}

void ReferenceKvCache::load(int layer, int slot, int head, KvPart part,
                            std::span<float> out) const {
  const auto count = static_cast<int64_t>(out.size());
  const auto from = std::span(bytes_).subspan(offset_of(layer, slot, head, part));
  dequantize_row(layout_.dtype, from.first(row_bytes(layout_.dtype, count)), out);
  if (layout_.dtype != DType::i8) return;
  float scale;
  std::memcpy(&scale, from.data() + count, sizeof scale);
  for (float& value : out) value *= scale;
}

ReferenceKvCache& as_reference(KvCache& cache) {
  auto* own = dynamic_cast<ReferenceKvCache*>(&cache);
  RIDGE_ASSERT(own != nullptr && "a cache of another device");
  return *own;
}

}  // namespace ridge::backend::reference
