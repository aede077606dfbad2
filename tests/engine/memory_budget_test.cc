#include "engine/memory_budget.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ridge::engine::memory_budget_test {
namespace {

// 2 layers × 4 KV heads × (8 + 8) values × 2 bytes = 256 bytes a token, 4096 a block.
constexpr backend::KvCacheLayout layout = {.layers = 2,
                                           .block_tokens = 16,
                                           .kv_heads = 4,
                                           .key_dim = 8,
                                           .value_dim = 8,
                                           .dtype = DType::f16};

TEST(KvPlan, HoldsAllSequencesWhereMemoryAllows) {
  const KvPlan plan = plan_kv_cache(layout, {.context_tokens = 1000, .max_sequences = 4}, 1u << 30);
  EXPECT_EQ(plan.context_tokens, 1000);
  EXPECT_EQ(plan.blocks, 4 * 63);
  EXPECT_EQ(plan.bytes, 4u * 63 * 4096);
}

// An int8 cache has half the values' bytes, but a scale for each of 2 layers × 4 heads × 2 vectors.
TEST(KvPlan, CountsTheScalesOfAnInt8Cache) {
  backend::KvCacheLayout small = layout;
  small.dtype = DType::i8;
  EXPECT_EQ(small.bytes_per_token(), 2u * 4 * 2 * (8 + 4));
  const KvPlan plan = plan_kv_cache(small, {.context_tokens = 160, .max_sequences = 1}, 1u << 30);
  EXPECT_EQ(plan.bytes, 160u * 2 * 4 * 2 * (8 + 4));
}

TEST(KvPlan, TakesAtMostHalfOfFreeMemory) {
  const KvPlan plan =
      plan_kv_cache(layout, {.context_tokens = 1000, .max_sequences = 100}, 200 * 4096);
  EXPECT_EQ(plan.blocks, 100);
  EXPECT_EQ(plan.context_tokens, 1000);
}

TEST(KvPlan, ShortensADefaultContextButNotOneThatWasAskedFor) {
  KvRequest request = {.context_tokens = 4000, .max_sequences = 1};
  const KvPlan plan = plan_kv_cache(layout, request, 200 * 4096);
  EXPECT_EQ(plan.context_tokens, 1600);
  EXPECT_EQ(plan.blocks, 100);
  request.context_fixed = true;
  try {
    plan_kv_cache(layout, request, 200 * 4096);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    EXPECT_NE(error.message().find("a context of 1600 tokens would fit"), std::string::npos)
        << error.message();
  }
}

TEST(KvPlan, RefusesAUselessContext) {
  EXPECT_THROW(plan_kv_cache(layout, {.context_tokens = 4000, .max_sequences = 1}, 20 * 4096),
               Error);
  EXPECT_NO_THROW(plan_kv_cache(layout, {.context_tokens = 64, .max_sequences = 1}, 20 * 4096));
}

// Its blocks take half as much each, and there are half as many, but at least a context's.
TEST(KvPlan, HasTheDraftModelsCacheInIt) {
  KvRequest request = {.context_tokens = 160, .max_sequences = 100, .draft_block_bytes = 2048};
  const KvPlan plan = plan_kv_cache(layout, request, 200 * 4096);
  EXPECT_EQ(plan.blocks, 80);  // 80 × 4096 + 40 × 2048 = 100 × 4096
  EXPECT_EQ(plan.bytes, 100u * 4096);
  request.context_tokens = 16 * 60;
  const KvPlan single = plan_kv_cache(layout, request, 200 * 4096);
  EXPECT_EQ(single.blocks, 70);  // 70 × 4096 + 60 × 2048 = 100 × 4096
  EXPECT_EQ(single.bytes, 100u * 4096);
  request.context_tokens = 16 * 90;
  EXPECT_EQ(plan_kv_cache(layout, request, 200 * 4096).context_tokens, 16 * 66);
  request.cache_bytes = 100 * 4096;
  EXPECT_EQ(plan_kv_cache(layout, request, 200 * 4096).blocks, 100) << "the model's alone";
  EXPECT_THROW(plan_kv_cache(layout, request, 140 * 4096), Error);
}

TEST(KvPlan, KeepsToAGivenSize) {
  KvRequest request = {.context_tokens = 100, .max_sequences = 50, .cache_bytes = 10 * 4096};
  EXPECT_EQ(plan_kv_cache(layout, request, 1u << 30).blocks, 10);
  request.cache_bytes = uint64_t{2} << 30;
  EXPECT_THROW(plan_kv_cache(layout, request, 1u << 30), Error);
}

}  // namespace
}  // namespace ridge::engine::memory_budget_test
