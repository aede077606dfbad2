#include <cmath>

#include "backend/arrays.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

KvCacheLayout small_layout(DType dtype) {
  return {.layers = 1,
          .blocks = 4,
          .block_tokens = 2,
          .kv_heads = 1,
          .key_dim = 1,
          .value_dim = 1,
          .dtype = dtype};
}

// One sequence whose keys and values are single numbers, in blocks 3, 1, 0.
class AttentionByHand : public testing::Test {
 protected:
  // The newest token's attention with query 1 and scale 1, so that scores are the keys.
  float attend(const std::vector<float>& keys, const std::vector<float>& values, int window = 0,
               float soft_cap = 0, std::span<const float> sinks = {}) {
    ReferenceKvCache cache(small_layout(DType::f32));
    const int32_t table[] = {3, 1, 0};
    const auto length = static_cast<int32_t>(keys.size());
    for (int i = 0; i < length; ++i) {
      const int slot = table[i / 2] * 2 + i % 2;
      cache.store(0, slot, 0, KvPart::key, {&keys[i], 1});
      cache.store(0, slot, 0, KvPart::value, {&values[i], 1});
    }
    const int32_t starts[] = {0, 1};
    const int32_t lengths[] = {length};
    Array q(1, 1, {1});
    Array out(1, 1);
    attention(q, {starts, lengths, table, 3}, cache, 0, {1, 1.0f, window, soft_cap, sinks}, out);
    return out.values[0];
  }
  const float log3 = std::log(3.0f);
};

TEST_F(AttentionByHand, WeighsValuesByTheSoftmaxOfScores) {
  EXPECT_NEAR(attend({0, log3}, {100, 200}), 0.25 * 100 + 0.75 * 200, 1e-4);
  EXPECT_NEAR(attend({7, 7, 7, 7, 7}, {1, 2, 3, 4, 5}), 3, 1e-6);
}

TEST_F(AttentionByHand, SeesOnlyTheWindow) {
  EXPECT_NEAR(attend({9, 0, log3}, {5, 100, 200}, /*window=*/2), 175, 1e-4);
  EXPECT_NEAR(attend({9, 0, log3}, {5, 100, 200}, /*window=*/1), 200, 1e-4);
}

TEST_F(AttentionByHand, SinkTakesItsShareOfTheSum) {
  const float sink[] = {0};
  EXPECT_NEAR(attend({0, log3}, {100, 200}, 0, 0, sink), (100 + 3 * 200) / 5.0, 1e-4);
}

TEST_F(AttentionByHand, SoftCapBendsScores) {
  // 2 tanh(s / 2) = ln 3 where s = 2 artanh(ln 3 / 2).
  const float score = 2 * std::atanh(log3 / 2);
  EXPECT_NEAR(attend({0, score}, {100, 200}, 0, /*soft_cap=*/2), 175, 1e-4);
}

// The textbook formula on plain arrays, in long double and without subtracting the largest.
TEST(ReferenceAttention, EqualsTheDirectFormulaForGroupedHeadsAndSeveralSequences) {
  std::mt19937 random(7);
  const int heads = 4, kv_heads = 2, dim = 3;
  const int before[] = {5, 0}, fresh[] = {2, 4};
  ReferenceKvCache cache({.layers = 2,
                          .blocks = 8,
                          .block_tokens = 2,
                          .kv_heads = kv_heads,
                          .key_dim = dim,
                          .value_dim = dim,
                          .dtype = DType::f32});
  const std::vector<int32_t> tables = {6, 0, 3, 5, 1, 7, 2, 4};  // four blocks for each sequence
  std::vector<Array> keys, values;
  for (int s = 0; s < 2; ++s) {
    const int length = before[s] + fresh[s];
    keys.push_back(random_array(random, length, kv_heads * dim));
    values.push_back(random_array(random, length, kv_heads * dim));
    std::vector<int32_t> slots;
    for (int i = 0; i < length; ++i) slots.push_back(tables[s * 4 + i / 2] * 2 + i % 2);
    store_kv(keys[s], values[s], slots, cache, /*layer=*/1);
  }
  Array q = random_array(random, 6, heads * dim);
  Array out(6, heads * dim);
  const int32_t starts[] = {0, 2, 6}, lengths[] = {7, 4};
  attention(q, {starts, lengths, tables, 4}, cache, 1, {heads, 0.7f, 0, 0, {}}, out);

  for (int s = 0, t = 0; s < 2; ++s) {
    for (int i = 0; i < fresh[s]; ++i, ++t) {
      for (int h = 0; h < heads; ++h) {
        long double total = 0, mixed[dim] = {};
        for (int p = 0; p <= before[s] + i; ++p) {
          long double score = 0;
          for (int c = 0; c < dim; ++c)
            score += q.at(t, h * dim + c) * keys[s].at(p, h / 2 * dim + c);
          const long double weight = std::exp(score * 0.7L);
          total += weight;
          for (int c = 0; c < dim; ++c) mixed[c] += weight * values[s].at(p, h / 2 * dim + c);
        }
        for (int c = 0; c < dim; ++c) {
          EXPECT_NEAR(out.at(t, h * dim + c), static_cast<double>(mixed[c] / total), 1e-6);
        }
      }
    }
  }
}

// DeepSeek-V2's absorption: attention over keys and values expanded from the latent is the same as
// attention over the latent itself with the expansions moved to the query and the output.
TEST(ReferenceMlaAttention, EqualsAttentionOverExpandedKeysAndValues) {
  std::mt19937 random(8);
  const int heads = 2, nope = 5, rope_dim = 2, value = 4, latent = 8, length = 6;
  Array c = random_array(random, length, latent);
  Array k_rope = random_array(random, length, rope_dim);
  Array w_uk = random_array(random, heads * nope, latent);
  Array w_uv = random_array(random, heads * value, latent);
  Array q_nope = random_array(random, length, heads * nope);
  Array q_rope = random_array(random, length, heads * rope_dim);
  const std::vector<int32_t> slots = {4, 5, 0, 1, 6, 7}, table = {2, 0, 3};
  const int32_t starts[] = {0, length}, lengths[] = {length};
  const Sequences sequences{starts, lengths, table, 3};
  const float scale = 0.4f;

  // Expanded.
  const int key = nope + rope_dim;
  Array k_nope(length, heads * nope), v(length, heads * value);
  linear(c, weight_over(w_uk.values, Shape{heads * nope, latent}), {}, k_nope);
  linear(c, weight_over(w_uv.values, Shape{heads * value, latent}), {}, v);
  Array q(length, heads * key), k(length, heads * key);
  for (int t = 0; t < length; ++t) {
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < key; ++i) {
        const bool is_nope = i < nope;
        q.at(t, h * key + i) =
            is_nope ? q_nope.at(t, h * nope + i) : q_rope.at(t, h * rope_dim + i - nope);
        k.at(t, h * key + i) = is_nope ? k_nope.at(t, h * nope + i) : k_rope.at(t, i - nope);
      }
    }
  }
  ReferenceKvCache wide({.layers = 1,
                         .blocks = 4,
                         .block_tokens = 2,
                         .kv_heads = heads,
                         .key_dim = key,
                         .value_dim = value,
                         .dtype = DType::f32});
  store_kv(k, v, slots, wide, 0);
  Array expected(length, heads * value);
  attention(q, sequences, wide, 0, {heads, scale, 0, 0, {}}, expected);

  // Absorbed.
  ReferenceKvCache narrow({.kind = KvCacheLayout::Kind::latent,
                           .layers = 1,
                           .blocks = 4,
                           .block_tokens = 2,
                           .key_dim = rope_dim,
                           .value_dim = latent,
                           .dtype = DType::f32});
  store_latent(c, k_rope, slots, narrow, 0);
  Array q_latent(length, heads * latent), mixed(length, heads * latent), out(length, heads * value);
  head_linear(q_nope, weight_over(w_uk.values, Shape{heads, nope, latent}, /*transposed=*/true),
              q_latent);
  mla_attention(q_latent, q_rope, sequences, narrow, 0, heads, scale, mixed);
  head_linear(mixed, weight_over(w_uv.values, Shape{heads, value, latent}), out);
  for (size_t i = 0; i < out.values.size(); ++i) {
    EXPECT_NEAR(out.values[i], expected.values[i], 2e-6) << i;
  }
}

TEST(ReferenceKvCache, RoundsToItsDType) {
  const float third[] = {1.0f / 3, -1.0f / 3};
  const std::pair<DType, float> roundings[] = {
      {DType::f32, 1.0f / 3}, {DType::f16, 0.333251953125f}, {DType::bf16, 0.333984375f}};
  for (const auto& [dtype, expected] : roundings) {
    KvCacheLayout layout = small_layout(dtype);
    layout.key_dim = 2;
    ReferenceKvCache cache(layout);
    cache.store(0, 5, 0, KvPart::key, third);
    float got[2];
    cache.load(0, 5, 0, KvPart::key, got);
    EXPECT_EQ(got[0], expected) << name(dtype);
    EXPECT_EQ(got[1], -expected) << name(dtype);
  }
}

TEST(ReferenceKvCache, KeepsAScaleForEachVectorOfInt8) {
  KvCacheLayout layout = small_layout(DType::i8);
  layout.key_dim = 3;
  ReferenceKvCache cache(layout);
  cache.store(0, 2, 0, KvPart::key, std::vector<float>{254, -2, 3.1f});  // scale 2
  cache.store(0, 3, 0, KvPart::key, std::vector<float>{0, 0, 0});
  float got[3];
  cache.load(0, 2, 0, KvPart::key, got);
  EXPECT_THAT(got, testing::ElementsAre(254, -2, 4));
  cache.load(0, 3, 0, KvPart::key, got);
  EXPECT_THAT(got, testing::ElementsAre(0, 0, 0));
  EXPECT_EQ(cache.block_bytes(), 2u * (3 + 4 + 1 + 4));
}

TEST(ReferenceKvCache, RefusesADTypeThatNoCacheHas) {
  EXPECT_THROW(ReferenceKvCache cache(small_layout(DType::q4_0)), Error);
}

TEST(ReferenceCopyBlocks, CopiesAllLayers) {
  KvCacheLayout layout = small_layout(DType::f32);
  layout.layers = 2;
  ReferenceKvCache cache(layout);
  for (int layer : {0, 1}) {
    const float value = 10.0f + layer;
    cache.store(layer, /*slot=*/3, 0, KvPart::value, {&value, 1});
  }
  const int32_t pairs[] = {1, 2, 2, 0};
  copy_blocks(pairs, cache);
  for (int layer : {0, 1}) {
    for (int slot : {5, 1}) {
      float got = 0;
      cache.load(layer, slot, 0, KvPart::value, {&got, 1});
      EXPECT_EQ(got, 10.0f + layer);
    }
  }
}

}  // namespace

}  // namespace ridge::backend::reference
