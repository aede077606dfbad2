#include "backend/cpu/kv_cache.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace ridge::backend::cpu::kv_cache_test {

namespace {

KvCacheLayout small_layout(DType dtype, int block_tokens = 16) {
  return {.layers = 2,
          .blocks = 3,
          .block_tokens = block_tokens,
          .kv_heads = 2,
          .key_dim = 20,
          .value_dim = 12,
          .dtype = dtype};
}

std::string refusal(const KvCacheLayout& layout) {
  try {
    CpuKvCache cache(layout);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    return std::string(error.message());
  }
  return "";
}

TEST(CpuKvCache, TakesBlocksOfWholeVectorsOnly) {
  EXPECT_EQ(refusal(small_layout(DType::f16, 8)),
            "blocks of 8 tokens: the cpu back end needs a multiple of 16");
  EXPECT_EQ(refusal(small_layout(DType::f16, 24)),
            "blocks of 24 tokens: the cpu back end needs a multiple of 16");
  EXPECT_EQ(refusal(small_layout(DType::f16, 64)), "");
}

TEST(CpuKvCache, RefusesADTypeThatItHasNoKernelFor) {
  EXPECT_EQ(refusal(small_layout(DType::q4_0)),
            "a Q4_0 cache: the cpu back end has F16, BF16, F32 and I8");
}

// 2 layers × 2 heads × 16 tokens of 20 and (padded) 16 values, and for int8 two scales a token.
TEST(CpuKvCache, PadsBlocksToWholeVectorsAndNoMore) {
  EXPECT_EQ(CpuKvCache(small_layout(DType::f32)).block_bytes(), 4u * 16 * (20 + 16) * 4);
  EXPECT_EQ(CpuKvCache(small_layout(DType::f16)).block_bytes(), 4u * 16 * (20 + 16) * 2);
  EXPECT_EQ(CpuKvCache(small_layout(DType::bf16)).block_bytes(), 4u * 16 * (20 + 16) * 2);
  EXPECT_EQ(CpuKvCache(small_layout(DType::i8)).block_bytes(), 4u * 16 * (20 + 16 + 8));
}

}  // namespace

}  // namespace ridge::backend::cpu::kv_cache_test
