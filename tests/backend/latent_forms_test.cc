#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "backend/cpu/latent_forms.h"
#include "backend/cpu/open.h"
#include "backend/registry.h"
#include "base/sanitizers.h"
#include "conformance/harness.h"
#include "model/golden.h"
#include "model/stepper.h"

// Latent attention between its two head_linears, as a model records it, in both forms of the cpu back end.
namespace ridge::backend::latent_forms_test {

using namespace conformance;

using cpu::LatentForm;
using cpu::LatentForms;
using cpu::LatentShape;

namespace {

// The first fills AMX tiles. The largest has heads as DeepSeek-V2-Lite, so that keys and values of 830 tokens are made
// in several ranges; the next has enough heads for attention on tiles; the last has no dimension that fills vectors.
constexpr LatentShape small = {.heads = 3, .rank = 64, .nope = 32, .rotary = 32, .value = 32};
constexpr LatentShape large = {.heads = 16, .rank = 16, .nope = 128, .rotary = 64, .value = 128};
constexpr LatentShape tiles = {.heads = 16, .rank = 64, .nope = 32, .rotary = 64, .value = 32};
constexpr LatentShape ragged = {.heads = 2, .rank = 48, .nope = 22, .rotary = 6, .value = 20};

struct Variant {
  LatentShape shape;
  DType cache = DType::f16;
  DType weights = DType::f16;
  Precision precision = Precision::full;
};

Case case_of(const Variant& v, std::vector<StepInputs> steps, const StepPlanner& planner) {
  const LatentShape& s = v.shape;
  Random random(7);
  Case c;
  c.name = fmt::format("latent attention, {} heads, {} cache, {} weights", s.heads, name(v.cache), name(v.weights));
  c.columns = s.heads * (s.nope + s.rotary) + s.rank + s.rotary;
  c.steps = std::move(steps);
  size_t ids = 0;
  for (const StepInputs& step : c.steps) ids += step.token_ids.size();
  c.inputs = random_values(random, ids * static_cast<size_t>(c.columns));
  c.cache = KvCacheLayout{.kind = KvCacheLayout::Kind::latent,
                          .layers = 1,
                          .blocks = planner.blocks(),
                          .block_tokens = planner.block_tokens(),
                          .key_dim = s.rotary,
                          .value_dim = s.rank,
                          .dtype = v.cache};
  const auto key_up = random_weight(random, {{v.weights, s.rank}}, s.nope, WeightUse::linear, s.heads);
  const auto value_up = random_weight(random, {{v.weights, s.value}}, s.rank, WeightUse::linear, s.heads);
  c.record = [=](Recorder& ops, Value x, Kit& kit) {
    RopeTable table{.pairs = RopePairs::interleaved};
    for (int i = 0; i < s.rotary / 2; ++i) {
      table.inverse_frequencies.push_back(std::pow(0.3f, static_cast<float>(i)));
    }
    const Value q_nope = x.slice(0, s.heads * s.nope);
    const Value q_rotary = x.slice(s.heads * s.nope, s.heads * s.rotary);
    const Value latent = x.slice(s.heads * (s.nope + s.rotary), s.rank);
    const Value k_rotary = x.slice(s.heads * (s.nope + s.rotary) + s.rank, s.rotary);
    const Value q_latent = ops.head_linear(q_nope, kit.weight(key_up), v.precision);
    ops.rope(q_rotary, k_rotary, s.rotary, table);
    ops.store_latent(latent, k_rotary, kit.cache(), 0);
    const float scale = 1.0f / std::sqrt(static_cast<float>(s.nope + s.rotary));
    const Value mixed = ops.mla_attention(q_latent, q_rotary, kit.cache(), 0, s.heads, scale);
    kit.output(ops.head_linear(mixed, kit.weight(value_up), v.precision));
  };
  return c;
}

using Results = std::vector<std::vector<Output>>;

// Root mean square of the differences over that of the expected values.
double error_of(const Results& expected, const Results& got) {
  double squares = 0, error_squares = 0;
  for (size_t s = 0; s < expected.size(); ++s) {
    for (size_t i = 0; i < expected[s][0].values.size(); ++i) {
      const double difference = expected[s][0].values[i] - got[s][0].values[i];
      squares += expected[s][0].values[i] * expected[s][0].values[i];
      error_squares += difference * difference;
    }
  }
  return std::sqrt(error_squares / squares);
}

// float32 where nothing may be rounded. Else queries, weights, latents, keys, values and the softmax's weights are bfloat16
// once each: of products, of scores that change weights, and of what is summed, three independent errors
// of bf16_products.
double allowed_error(const Variant& v) {
  if (v.precision != Precision::full) return std::sqrt(3.0) * bf16_products.rms;
  return is_quantized(v.weights) ? 3 * int8_planes.rms : attention_scores.rms;
}

void expect_forms(const Variant& v, const std::vector<StepInputs>& steps, const StepPlanner& planner,
                  std::initializer_list<LatentForm> forms) {
  const Case c = case_of(v, steps, planner);
  const Results expected = run_case(c, *open_for_test({.name = "reference"}));
  for (const DeviceChoice& choice : device_choices_with_emulated()) {
    if (choice.name != "cpu") continue;
    for (const LatentForm form : forms) {
      SCOPED_TRACE(fmt::format("{} on {}, form {}", c.name, test_name(choice), static_cast<int>(form)));
      const auto device = cpu::open(
          {.threads = 2, .isa = choice.isa, .threads_spin = false, .allow_emulation = choice.emulated}, form);
      EXPECT_LE(error_of(expected, run_case(c, *device)), allowed_error(v));
    }
  }
}

void expect_both_forms(const Variant& v, const std::vector<StepInputs>& steps, const StepPlanner& planner) {
  expect_forms(v, steps, planner, {LatentForm::absorbed, LatentForm::expanded, LatentForm::automatic});
}

std::vector<StepInputs> mixed_steps(StepPlanner& planner) {
  return {planner.step({{0, 1}, {1, 17}}), planner.step({{0, 1}, {1, 50}, {2, 3}}), planner.step({{2, 70}}),
          planner.step({{0, 1}, {1, 1}}), planner.step({{1, 33}, {2, 1}, {0, 16}})};
}

TEST(LatentForms, AgreeWithTheReferenceForEveryCache) {
  for (const DType cache : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    for (const Precision precision : {Precision::full, Precision::bf16}) {
      StepPlanner planner;
      expect_both_forms({.shape = small, .cache = cache, .precision = precision}, mixed_steps(planner), planner);
    }
  }
}

TEST(LatentForms, AgreeForDimensionsThatFillNoVectors) {
  for (const Precision precision : {Precision::full, Precision::bf16}) {
    StepPlanner planner;
    expect_both_forms({.shape = ragged, .precision = precision}, mixed_steps(planner), planner);
  }
}

TEST(LatentForms, AgreeForQuantisedWeights) {
  for (const Precision precision : {Precision::full, Precision::bf16}) {
    StepPlanner planner;
    expect_both_forms({.shape = small, .weights = DType::q8_0, .precision = precision}, mixed_steps(planner), planner);
  }
}

TEST(LatentForms, GoOnFromOneRangeOfTheContextToTheNext) {
  for (const Precision precision : {Precision::full, Precision::bf16}) {
    StepPlanner planner(16, 60, 2);
    const std::vector<StepInputs> steps = {planner.step({{0, 830}}), planner.step({{0, 60}, {1, 3}}),
                                           planner.step({{1, 1}, {0, 5}})};
    if (is_sanitized) {
      // Two minutes with all; absorbed, nothing has ranges, and the choice is the other tests'.
      expect_forms({.shape = large, .precision = precision}, steps, planner, {LatentForm::expanded});
    } else {
      expect_both_forms({.shape = large, .precision = precision}, steps, planner);
    }
  }
}

// Blocks come back with what another sequence left in them, infinities too, of which zero weights make no zeros.
TEST(LatentForms, TakeNothingFromWhatOthersLeftPastTheContext) {
  constexpr int left = is_sanitized ? 64 : 320;  // with more than 256, weights may be rounded
  for (const DType cache : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    StepPlanner others(16, left / 16, 1), planner(16, left / 16, 1);
    std::vector<StepInputs> steps = {others.step({{0, left}}), planner.step({{0, 5}}), planner.step({{0, left - 40}}),
                                     planner.step({{0, 1}})};
    for (size_t i = 1; i < steps.size(); ++i) {
      for (int32_t& id : steps[i].token_ids) id += left;
    }
    const Case clean = case_of({.shape = tiles, .cache = cache}, steps, planner);
    Case hostile = clean;
    std::fill_n(hostile.inputs.begin(), left * hostile.columns, INFINITY);
    for (const DeviceChoice& choice : device_choices_with_emulated()) {
      if (choice.name != "cpu") continue;
      SCOPED_TRACE(fmt::format("{} on {}", clean.name, test_name(choice)));
      const auto run = [&](const Case& c) {
        return run_case(c, *cpu::open({.threads = 2, .isa = choice.isa, .threads_spin = false, .allow_emulation = choice.emulated},
                                      LatentForm::absorbed));
      };
      const Results expected = run(clean), got = run(hostile);
      for (size_t step = 1; step < steps.size(); ++step) EXPECT_EQ(expected[step][0].values, got[step][0].values) << step;
    }
  }
}

TEST(LatentForms, BothKeepDeepSeeksGoldens) {
  for (const std::string name : {"deepseek-v2-f32", "deepseek-v2-groups-f32", "deepseek-v3-f32", "deepseek-v3-kv_b-f32",
                                 "deepseek-v3-q8_0"}) {
    const auto file = format::GgufFile::open(model::goldens / (name + ".gguf"));
    const model::Golden golden(name);
    for (const std::string& isa : cpu::available_isas()) {
      for (const LatentForm form : {LatentForm::absorbed, LatentForm::expanded}) {
        const auto device = cpu::open({.threads = 2, .isa = isa, .threads_spin = false}, form);
        for (const bool mixed : {false, true}) {
          SCOPED_TRACE(fmt::format("{} on {}, form {}, mixed {}", name, isa, static_cast<int>(form), mixed));
          const auto loaded = model::Model::load(file, *device, {.mixed_precision = mixed});
          model::Stepper stepper(*loaded, *device, DType::f16);
          // A prompt in two chunks, so that the second has a context.
          std::vector<std::vector<float>> logits;
          const auto half = golden.tokens.begin() + static_cast<int64_t>(golden.tokens.size() / 2);
          for (const model::Chunk& chunk : {model::Chunk{1, {golden.tokens.begin(), half}},
                                            model::Chunk{1, {half, golden.tokens.end()}}}) {
            for (auto& row : stepper.step({&chunk, 1})) logits.push_back(std::move(row));
          }
          if (mixed && model::turns_choices(file, golden, isa, golden.tokens.size() / 2)) continue;
          EXPECT_LE(model::mean_divergence(golden.logits, logits),
                    mixed ? model::declared_mixed_divergence : model::declared_divergence);
          if (!mixed) continue;
          EXPECT_LE(std::ranges::max(model::divergences(golden.logits, logits)),
                    model::declared_largest_mixed_divergence);
        }
      }
    }
  }
}

TEST(LatentForms, AreChosenByWhatTheyCost) {
  const LatentShape v2_lite = {.heads = 16, .rank = 512, .nope = 128, .rotary = 64, .value = 128};
  const cpu::KernelTable& kernels = cpu::scalar_kernels();
  const LatentForms forms(v2_lite, LatentForm::automatic, Precision::bf16, kernels);
  for (const int context : {1, 100, 8192}) EXPECT_FALSE(forms.expands(1, context)) << context;
  EXPECT_FALSE(forms.expands(16, 8192));
  EXPECT_TRUE(forms.expands(512, 512));
  EXPECT_TRUE(forms.expands(512, 8192));
  // Expanding a long context is worth more tokens than a short one.
  int least_short = 1, least_long = 1;
  while (!forms.expands(least_short, 600)) ++least_short;
  while (!forms.expands(least_long, 60000)) ++least_long;
  EXPECT_LE(least_short, least_long);
  // Half a pair is no pair.
  const LatentShape odd = {.heads = 2, .rank = 40, .nope = 22, .rotary = 6, .value = 20};
  EXPECT_FALSE(LatentForms(odd, LatentForm::expanded, Precision::full, kernels).may_expand());
}

}  // namespace
}  // namespace ridge::backend::latent_forms_test
