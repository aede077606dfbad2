#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "conformance/harness.h"

// store_kv with attention, store_latent with mla_attention, copy_blocks and spilled blocks: what is
// stored can be seen only by attending to it.
namespace ridge::conformance::attention_test {

namespace {

using backend::KvCacheLayout;
using backend::Recorder;
using backend::Value;
using backend::WeightUse;

struct AttentionShape {
  int heads;
  int kv_heads;
  int key_dim;
  int value_dim;
};

KvCacheLayout layout_of(const AttentionShape& shape, const StepPlanner& planner, DType dtype) {
  return {.layers = 2,
          .blocks = planner.blocks(),
          .block_tokens = planner.block_tokens(),
          .kv_heads = shape.kv_heads,
          .key_dim = shape.key_dim,
          .value_dim = shape.value_dim,
          .dtype = dtype};
}

// Fresh prefills of several lengths, then a chunk on an existing context beside decode rows, then
// decode rows alone.
std::vector<StepInputs> mixed_steps(StepPlanner& planner) {
  return {planner.step({{0, 1}, {1, 17}, {2, 33}}),
          planner.step({{0, 1}, {3, 5}, {1, 20}, {2, 1}}),
          planner.step({{3, 1}, {2, 1}, {1, 1}, {0, 1}}),
          planner.step({{4, 70}}),
          planner.step({{4, 1}}),
          planner.step({{4, 13}, {5, 2}, {0, 3}})};
}

class AttentionOps : public DeviceTest {
 protected:
  Random random{4};

  // Rows of q, k and v side by side; both layers of the cache hold different values.
  Case attention_case(const std::string& name, const AttentionShape& s, StepPlanner& planner,
                      std::vector<StepInputs> steps, Recorder::AttentionOptions options,
                      TestWeightPointer sinks = nullptr, DType dtype = DType::f16) {
    const int q = s.heads * s.key_dim, k = s.kv_heads * s.key_dim, v = s.kv_heads * s.value_dim;
    Case c;
    c.name = name;
    c.columns = q + k + v;
    size_t ids = 0;
    for (const StepInputs& step : steps) ids += step.token_ids.size();
    c.inputs = random_values(random, ids * c.columns);
    c.steps = std::move(steps);
    c.cache = layout_of(s, planner, dtype);
    c.tolerances = {attention_scores};
    c.record = [=](Recorder& ops, Value x, Kit& kit) {
      Recorder::AttentionOptions o = options;
      if (sinks) o.sinks = &kit.weight(sinks);
      for (int layer : {1, 0}) {
        const Value row = layer == 0 ? ops.scale(x, -0.5f) : x;
        ops.store_kv(row.slice(q, k), row.slice(q + k, v), kit.cache(), layer);
        kit.output(ops.attention(row.slice(0, q), kit.cache(), layer, o));
      }
    };
    return c;
  }
};

TEST_P(AttentionOps, HeadDimsAndGroups) {
  const AttentionShape shapes[] = {
      {4, 4, 32, 32},   {4, 2, 64, 64},  {6, 2, 80, 80}, {9, 3, 64, 64}, {3, 1, 96, 96},
      {8, 1, 128, 128}, {14, 2, 64, 64}, {2, 1, 48, 48}, {4, 2, 16, 16}, {2, 2, 128, 64}};
  for (const AttentionShape& s : shapes) {
    StepPlanner planner;
    expect_conforms(attention_case(
        fmt::format("attention {}/{} heads of {}, {}", s.heads, s.kv_heads, s.key_dim, s.value_dim),
        s, planner, mixed_steps(planner),
        {.heads = s.heads, .scale = 1.0f / std::sqrt(static_cast<float>(s.key_dim))}));
  }
}

TEST_P(AttentionOps, BlockSizes) {
  for (int block_tokens : {4, 8, 32, 64}) {
    StepPlanner planner(block_tokens, 128 / block_tokens);
    expect_conforms(attention_case(fmt::format("attention blocks of {}", block_tokens),
                                   {4, 2, 64, 64}, planner, mixed_steps(planner),
                                   {.heads = 4, .scale = 0.125f}));
  }
}

TEST_P(AttentionOps, CacheDTypes) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    StepPlanner planner;
    Case c = attention_case(fmt::format("attention-cache-{}", name(dtype)), {4, 2, 64, 64}, planner,
                            mixed_steps(planner), {.heads = 4, .scale = 0.125f}, nullptr, dtype);
    expect_conforms(c);
  }
}

// Blocks come back with what another sequence left in them, infinities too, of which zero weights make no zeros.
TEST_P(AttentionOps, TakeNothingFromWhatOthersLeftPastTheContext) {
  if (GetParam().name != "cpu") GTEST_SKIP() << "NOT CHECKED: " << GetParam().name << " has not been made for it";
  constexpr int left = 48;
  for (const AttentionShape& s : {AttentionShape{4, 2, 64, 64}, AttentionShape{16, 1, 64, 32}}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
      StepPlanner others(16, left / 16, 1), planner(16, left / 16, 1);
      std::vector<StepInputs> steps = {others.step({{0, left}}), planner.step({{0, 5}}), planner.step({{0, 22}}),
                                       planner.step({{0, 1}}), planner.step({{0, 1}})};
      for (size_t i = 1; i < steps.size(); ++i) {
        for (int32_t& id : steps[i].token_ids) id += left;
      }
      const Case clean = attention_case(fmt::format("attention-left-{} {} heads", name(dtype), s.heads), s, planner, steps,
                                        {.heads = s.heads, .scale = 0.125f}, nullptr, dtype);
      Case hostile = clean;
      std::fill_n(hostile.inputs.begin(), left * hostile.columns, INFINITY);
      const auto expected = run_case(clean, *open_for_test(GetParam())), got = run_case(hostile, *open_for_test(GetParam()));
      for (size_t step = 1; step < steps.size(); ++step) {
        for (size_t layer = 0; layer < 2; ++layer) {
          EXPECT_EQ(expected[step][layer].values, got[step][layer].values) << clean.name << ", step " << step;
        }
      }
    }
  }
}

// Dimensions that fill no vector, no pair or no group of four, and groups of rows of every
// remainder.
TEST_P(AttentionOps, CacheDTypesOfAwkwardShapes) {
  const AttentionShape shapes[] = {{5, 1, 20, 12}, {7, 1, 48, 80}, {11, 1, 33, 7}, {16, 1, 16, 17}};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    for (const AttentionShape& s : shapes) {
      StepPlanner planner(32, 4);
      expect_conforms(attention_case(
          fmt::format("attention-awkward-{} {}/{} heads of {}, {}", name(dtype), s.heads,
                      s.kv_heads, s.key_dim, s.value_dim),
          s, planner, mixed_steps(planner),
          {.heads = s.heads, .scale = 1.0f / std::sqrt(static_cast<float>(s.key_dim))}, nullptr,
          dtype));
    }
  }
}

// With emulated tiles too, which take whole 32 dimensions, of int8 64.
class LatentAttention : public AttentionOps {
 protected:
  // A prompt of so many tokens of one sequence, 300 of another, and single tokens of both.
  Case long_case(int heads, int latent, int rope, DType dtype, int prompt);
};

// Without emulated tiles: threads are what it is about.
class LatentBits : public LatentAttention {};

// Whether all threads run every step or not.
void expect_same_bits(const Case& c, const DeviceChoice& choice) {
  const auto first = run_case(c, *open_for_test(choice, /*threads_in_turns=*/false));
  for (const bool in_turns : {false, true, true}) {
    const auto other = run_case(c, *open_for_test(choice, in_turns));
    for (size_t s = 0; s < first.size(); ++s) {
      for (size_t i = 0; i < first[s].size(); ++i) ASSERT_EQ(first[s][i].values, other[s][i].values);
    }
  }
}

// Contexts that a back end may split among its threads, in steps of decode rows and beside a
// prompt; with RoPE before, which back ends fuse with what follows.
class LongContexts : public AttentionOps {
 protected:
  Case long_case(const std::string& name, DType dtype, int window, TestWeightPointer sinks) {
    const AttentionShape s = {6, 2, 16, 16};
    StepPlanner planner(16, 60, 3);
    std::vector<StepInputs> steps = {planner.step({{0, 700}}),
                                     planner.step({{0, 1}}),
                                     planner.step({{1, 300}}),
                                     planner.step({{0, 1}, {1, 1}}),
                                     planner.step({{0, 2}, {2, 40}, {1, 1}}),
                                     planner.step({{0, 1}})};
    Case c = attention_case(name, s, planner, std::move(steps), {}, nullptr, dtype);
    c.record = [=](Recorder& ops, Value x, Kit& kit) {
      Recorder::AttentionOptions o = {.heads = s.heads, .scale = 0.25f, .window = window};
      if (sinks) o.sinks = &kit.weight(sinks);
      const backend::RopeTable table = {.inverse_frequencies = {1.0f, 0.3f, 0.1f, 0.03f}};
      for (int layer : {1, 0}) {
        const Value row = layer == 0 ? ops.scale(x, -0.5f) : x;
        const Value q = row.slice(0, 96), k = row.slice(96, 32);
        ops.rope(q, k, s.key_dim, table);
        ops.store_kv(k, row.slice(128, 32), kit.cache(), layer);
        kit.output(ops.attention(q, kit.cache(), layer, o));
      }
    };
    return c;
  }
};

TEST_P(LongContexts, CacheDTypes) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    expect_conforms(long_case(fmt::format("attention-long-{}", name(dtype)), dtype, 0, nullptr));
  }
}

TEST_P(LongContexts, WindowAndSinks) {
  const auto sinks = weight_of({-2.0f, 0.0f, 3.0f, 9.0f, 1.0f, -1.0f}, 6, WeightUse::vector);
  expect_conforms(long_case("attention-long-window", DType::f16, 580, nullptr));
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    expect_conforms(long_case(fmt::format("attention-long-sinks-{}", name(dtype)), dtype, 0, sinks));
    expect_conforms(
        long_case(fmt::format("attention-long-window-sinks-{}", name(dtype)), dtype, 300, sinks));
  }
}

Case LatentAttention::long_case(int heads, int latent, int rope, DType dtype, int prompt) {
  StepPlanner planner(16, 60, 3);
  Case c;
  c.name = fmt::format("mla_attention-long {} heads of {} + {}, {}", heads, latent, rope, name(dtype));
  c.columns = (heads + 1) * (latent + rope);
  c.steps = {planner.step({{0, prompt}}), planner.step({{0, 1}}), planner.step({{1, 300}}),
             planner.step({{0, 1}, {1, 1}}), planner.step({{0, 2}, {2, 40}, {1, 1}})};
  size_t ids = 0;
  for (const StepInputs& step : c.steps) ids += step.token_ids.size();
  c.inputs = random_values(random, ids * static_cast<size_t>(c.columns));
  c.cache = KvCacheLayout{.kind = KvCacheLayout::Kind::latent,
                          .layers = 1,
                          .blocks = planner.blocks(),
                          .block_tokens = planner.block_tokens(),
                          .key_dim = rope,
                          .value_dim = latent,
                          .dtype = dtype};
  c.tolerances = {attention_scores};
  c.record = [=](Recorder& ops, Value x, Kit& kit) {
    const backend::RopeTable table = {.inverse_frequencies = {1.0f, 0.3f, 0.1f, 0.03f},
                                      .pairs = backend::RopePairs::interleaved};
    const Value q_latent = x.slice(0, heads * latent);
    const Value q_rope = x.slice(heads * latent, heads * rope);
    const Value c_kv = x.slice(heads * (latent + rope), latent);
    const Value k_rope = x.slice(heads * (latent + rope) + latent, rope);
    ops.rope(q_rope, k_rope, rope, table);
    ops.store_latent(c_kv, k_rope, kit.cache(), 0);
    kit.output(ops.mla_attention(q_latent, q_rope, kit.cache(), 0, heads, 0.125f));
  };
  return c;
}

TEST_P(LatentAttention, OverLongContexts) {
  constexpr int prompt = is_sanitized ? 270 : 700;  // with more, sanitizers take minutes
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    expect_conforms(long_case(5, 48, 16, dtype, prompt));
    // These fill AMX tiles; with 16 heads those of single tokens too.
    expect_conforms(long_case(5, 64, 32, dtype, prompt));
    if (dtype != DType::f32) expect_conforms(long_case(16, 64, 64, dtype, 270));
  }
}

TEST_P(LatentBits, GiveTheSameBitsOnFewerThreads) {
  for (const DType dtype : {DType::f16, DType::i8}) {
    expect_same_bits(long_case(16, 64, 64, dtype, 270), GetParam());
  }
}

// Whichever thread is free takes the next part of the work, but what it computes is the same.
TEST_P(LongContexts, GiveTheSameBitsEveryTime) {
  expect_same_bits(long_case("attention-long-repeated", DType::f16, 0, nullptr), GetParam());
}

// Blocks that no query's window reaches hold what is no number, which would spread if they were
// read.
TEST_P(AttentionOps, WindowNeverReadsBlocksOutside) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    StepPlanner planner;
    std::vector<StepInputs> steps = {planner.step({{0, 70}}), planner.step({{0, 1}}),
                                     planner.step({{0, 13}})};
    std::vector<int> outside;
    for (int b = 0; b < 3; ++b) outside.push_back(planner.block_of(0, b));
    // Token 70 sees tokens 51 and on, of which the first is in the middle of the fourth block.
    Case c = attention_case(fmt::format("attention-window-outside-{}", name(dtype)), {4, 2, 64, 64},
                            planner, std::move(steps), {.heads = 4, .scale = 0.125f, .window = 20},
                            nullptr, dtype);
    c.between_steps = [=](int, backend::KvCache& cache) {
      const std::vector<std::byte> no_number(cache.block_bytes(), std::byte{0xff});
      for (int block : outside) cache.import_block(block, no_number);
    };
    expect_conforms(c);
  }
}

TEST_P(AttentionOps, Window) {
  for (int window : {1, 3, 16, 40}) {
    StepPlanner planner;
    expect_conforms(attention_case(fmt::format("attention-window {}", window), {4, 2, 64, 64},
                                   planner, mixed_steps(planner),
                                   {.heads = 4, .scale = 0.125f, .window = window}));
  }
}

TEST_P(AttentionOps, SoftCap) {
  StepPlanner planner;
  expect_conforms(attention_case("attention-soft_cap", {4, 2, 64, 64}, planner,
                                 mixed_steps(planner),
                                 {.heads = 4, .scale = 0.5f, .soft_cap = 2.0f}));
}

TEST_P(AttentionOps, Sinks) {
  const auto sinks = weight_of({-2.0f, 0.0f, 3.0f, 9.0f}, 4, WeightUse::vector);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    StepPlanner planner;
    expect_conforms(attention_case(fmt::format("attention-sinks-{}", name(dtype)), {4, 2, 64, 64},
                                   planner, mixed_steps(planner),
                                   {.heads = 4, .scale = 0.125f, .window = 20}, sinks, dtype));
  }
}

// Scores of some hundreds, which overflow an exponential that is not taken from the largest.
TEST_P(AttentionOps, LargeScores) {
  StepPlanner planner;
  Case c = attention_case("attention-large", {4, 2, 64, 64}, planner, mixed_steps(planner),
                          {.heads = 4, .scale = 10.0f});
  // Rounding to float32 of scores near 500 moves a probability by 3e-5.
  expect_conforms(c);
}

// Weights of a whole chunk of keys may be as small as float32 has numbers.
TEST_P(AttentionOps, ChunksFarBelowTheBestGiveNumbers) {
  if (GetParam().name != "cpu") GTEST_SKIP() << "NOT CHECKED: " << GetParam().name << " has not been made for it";
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    StepPlanner planner;
    const Case c = attention_case(fmt::format("attention-far-below-{}", name(dtype)), {4, 2, 64, 64}, planner,
                                  {planner.step({{0, 100}}), planner.step({{0, 20}}), planner.step({{0, 1}})},
                                  {.heads = 4, .scale = 40.0f}, nullptr, dtype);
    for (const auto& step : run_case(c, *open_for_test(GetParam()))) {
      for (const Output& output : step) {
        EXPECT_TRUE(std::ranges::all_of(output.values, [](double x) { return std::isfinite(x); })) << c.name;
      }
    }
  }
}

TEST_P(AttentionOps, EveryTokenCount) {
  StepPlanner planner(16, 16, 10);
  std::vector<StepInputs> steps;
  for (size_t i = 0; i < awkward_tokens.size(); ++i) {
    steps.push_back(planner.step({{static_cast<int>(i), awkward_tokens[i]}}));
  }
  for (size_t i = 0; i < awkward_tokens.size(); ++i) {
    steps.push_back(
        planner.step({{static_cast<int>(i), awkward_tokens[awkward_tokens.size() - 1 - i]}}));
  }
  expect_conforms(attention_case("attention tokens", {4, 2, 32, 32}, planner, std::move(steps),
                                 {.heads = 4, .scale = 0.2f}));
}

TEST_P(AttentionOps, CopiedBlocksHoldTheSame) {
  StepPlanner planner;
  std::vector<StepInputs> steps = {planner.step({{0, 33}}), planner.step({{0, 1}})};
  Case c =
      attention_case("copy_blocks", {4, 2, 64, 64}, planner, {}, {.heads = 4, .scale = 0.125f});
  // The second step attends to a copy of the first two blocks; the originals are overwritten.
  const int free_a = planner.block_of(5, 0), free_b = planner.block_of(5, 1);
  steps[1].block_copies = {steps[1].block_tables[0], free_a, steps[1].block_tables[1], free_b};
  steps[1].block_tables[0] = free_a;
  steps[1].block_tables[1] = free_b;
  c.inputs = random_values(random, 34 * static_cast<size_t>(c.columns));
  c.steps = std::move(steps);
  const auto record = c.record;
  c.record = [=](Recorder& ops, Value x, Kit& kit) {
    ops.copy_blocks(kit.cache());
    record(ops, x, kit);
  };
  expect_conforms(c);
}

class SpilledBlocks : public AttentionOps {
 protected:
  Case spilled_case(DType dtype);
};

Case SpilledBlocks::spilled_case(DType dtype) {
  StepPlanner planner;
  std::vector<StepInputs> steps = {planner.step({{0, 33}}), planner.step({{0, 1}})};
  const int from = steps[1].block_tables[0], to = planner.block_of(5, 0);
  steps[1].block_tables[0] = to;
  Case c = attention_case(fmt::format("attention-spilled-{}", name(dtype)), {4, 2, 64, 64}, planner,
                          std::move(steps), {.heads = 4, .scale = 0.125f}, nullptr, dtype);
  c.between_steps = [=](int, backend::KvCache& cache) {
    std::vector<std::byte> bytes(cache.block_bytes());
    cache.export_block(from, bytes);
    cache.import_block(to, bytes);
    // The old place no longer matters.
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    cache.import_block(from, bytes);
  };
  return c;
}

TEST_P(SpilledBlocks, ComeBackElsewhere) {
  for (const DType dtype : {DType::f16, DType::bf16, DType::i8})
    expect_conforms(spilled_case(dtype));
}

TEST_P(LatentAttention, OfEveryShapeAndCache) {
  struct MlaShape {
    int heads, latent, rope;
  };
  // 16 heads are a tile's rows, and DeepSeek-V2-Lite's; 40 are more than a job takes.
  const MlaShape shapes[] = {{2, 64, 16}, {16, 512, 64}, {3, 128, 32}, {5, 24, 6}, {40, 96, 32}, {40, 192, 128}};
  for (const auto& [s, dtype] : {std::pair{shapes[0], DType::f16},
                                 {shapes[1], DType::f16},
                                 {shapes[2], DType::f16},
                                 {shapes[3], DType::f16},
                                 {shapes[1], DType::bf16},
                                 {shapes[3], DType::bf16},
                                 {shapes[1], DType::i8},
                                 {shapes[3], DType::i8},
                                 {shapes[4], DType::f16},
                                 {shapes[4], DType::bf16},
                                 {shapes[4], DType::i8},
                                 {shapes[5], DType::i8},
                                 {shapes[1], DType::f32}}) {
    StepPlanner planner;
    Case c;
    c.name = fmt::format("mla_attention {} heads of {} + {}, {}", s.heads, s.latent, s.rope,
                         name(dtype));
    c.columns = (s.heads + 1) * (s.latent + s.rope);
    c.steps = {planner.step({{0, 1}, {1, 17}}), planner.step({{0, 1}, {1, 5}, {2, 3}}),
               planner.step({{2, 1}, {1, 1}, {0, 1}})};
    c.inputs = random_values(random, 50 * static_cast<size_t>(c.columns));
    c.cache = KvCacheLayout{.kind = KvCacheLayout::Kind::latent,
                            .layers = 2,
                            .blocks = planner.blocks(),
                            .block_tokens = planner.block_tokens(),
                            .key_dim = s.rope,
                            .value_dim = s.latent,
                            .dtype = dtype};
    c.tolerances = {attention_scores};
    c.record = [=, s = s](Recorder& ops, Value x, Kit& kit) {
      const int q_latent = s.heads * s.latent, q_rope = s.heads * s.rope;
      const float scale = 1.0f / std::sqrt(static_cast<float>(s.latent + s.rope));
      for (int layer : {1, 0}) {
        const Value row = layer == 0 ? ops.scale(x, 0.5f) : x;
        ops.store_latent(row.slice(q_latent + q_rope, s.latent),
                         row.slice(q_latent + q_rope + s.latent, s.rope), kit.cache(), layer);
        kit.output(ops.mla_attention(row.slice(0, q_latent), row.slice(q_latent, q_rope),
                                     kit.cache(), layer, s.heads, scale));
      }
    };
    expect_conforms(c);
  }
}

INSTANTIATE_FOR_DEVICES(AttentionOps);
INSTANTIATE_FOR_DEVICES(LongContexts);
INSTANTIATE_FOR(device_choices_with_emulated, LatentAttention);
INSTANTIATE_FOR_DEVICES(LatentBits);
INSTANTIATE_FOR_DEVICES(SpilledBlocks);

}  // namespace

}  // namespace ridge::conformance::attention_test
