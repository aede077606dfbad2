#include "planner/bound.h"

#include <gmock/gmock.h>

namespace ridge::planner::bound_test {
namespace {

using ::testing::HasSubstr;

const ModelShape& shape_of(const char* name) {
  static const ModelTable table = ModelTable::built_in();
  return *table.find(name);
}

Device device_of(const char* name) { return DeviceTable::built_in().get(name); }

Question question_of(const ModelShape& shape, const char* weights) {
  Question question;
  question.shape = &shape;
  question.formats = {find_weight_format(weights), find_kv_format("bf16")};
  return question;
}

// FP8: 669,172,039,680 weights of a byte with a float for each 16,384, and embedding and head of
// 1,853,358,080 in two bytes.
TEST(Memory, DeepSeekInFp8TakesItsBytes) {
  const Question question = question_of(shape_of("deepseek-r1:671b"), "fp8");
  const MemoryUse use =
      memory_use(*question.shape, question.formats, {}, device_of("H100"), /*drafts=*/false);
  EXPECT_NEAR(use.weight_bytes, 669'172'039'680.0 * (1 + 4.0 / 16384) + 2 * 1'853'358'080.0, 1);
  EXPECT_EQ(use.cache_bytes_per_token, 70'272);
  EXPECT_EQ(use.largest_batch(1000), 0);
}

// 16 dies of 910C: an expert's sixteenth, all of attention and of the shared experts:
// 61 x 187.1 M + 3 x 396.4 M + 58 (16 x 44.04 M + 45.88 M) + 2 x 1,853 MB = 59.8 GB of 61.8.
TEST(Memory, SpreadExpertsLeaveLittleRoomOnSixteenDies) {
  const Question question = question_of(shape_of("deepseek-r1:671b"), "w8a8");
  const Layout layout{.replicas = 16, .spreads_experts = true};
  const MemoryUse use =
      memory_use(*question.shape, question.formats, layout, device_of("910C"), false);
  const double weights = 61 * 187'105'280.0 + 3 * 396'361'728.0 +
                         58 * (16 * 44'040'192.0 + 45'875'200.0) + 2 * 1'853'358'080.0;
  EXPECT_NEAR(use.weight_bytes, weights, 1);
  EXPECT_NEAR(use.usable_bytes, 0.9 * 68.7e9, 1);
  EXPECT_EQ(use.largest_batch(5120), std::floor((0.9 * 68.7e9 - weights) / (70'272 * 5120.0)));
}

// Eight KV heads on 16 ranks: each rank holds one, twice.
TEST(Memory, KvHeadsAreNotCut) {
  const ModelShape& shape = shape_of("deepseek-r1:70b");
  EXPECT_EQ(cache_share(shape, {.tensor_parallel = 4}), 1 / 4.0);
  EXPECT_EQ(cache_share(shape, {.tensor_parallel = 16}), 1 / 8.0);
  EXPECT_EQ(cache_share(shape_of("deepseek-r1:671b"), {.tensor_parallel = 16}), 1);
}

// The module of drafts of DeepSeek-V3 on one rank, as DraftsCostALayerAndAHead has it, with all 256
// experts; and its layer's cache.
TEST(Memory, DraftsTakeALayerOfExperts) {
  const Question question = question_of(shape_of("deepseek-r1:671b"), "w8a8");
  const auto use = [&](bool drafts) {
    return memory_use(*question.shape, question.formats, {}, device_of("H100"), drafts);
  };
  EXPECT_EQ(use(true).weight_bytes - use(false).weight_bytes,
            2.0 * 7168 * 7168 + 187'105'280 + 45'875'200 + 256 * 44'040'192.0);
  EXPECT_EQ(use(true).cache_bytes_per_token - use(false).cache_bytes_per_token, 2 * 576);
}

// A token of a prompt of 4,096 on a 910C die in INT8, by hand:
//   linears 11,413.4 M + 1,189.1 M + 58 (45.88 M + 8 x 44.04 M) = 35,698 M weights,
//     71.396 GFLOP at 707.8 TOPS                                   0.100870 ms
//   attention 2 x 61 x 2048.5 x 40,960 = 10.237 GFLOP at 353.9     0.028925 ms
//   the head's 1.853 GB at 1.6 TB/s for 16,384 tokens              0.000071 ms
// 0.129866 ms, 7,700 tokens/s a die, 15,400 a package.
TEST(Bound, OfPromptsIsWhatOneWorksOutByHand) {
  const Question question = question_of(shape_of("deepseek-r1:671b"), "w8a8");
  const Layout layout{.replicas = 32, .spreads_experts = true};
  const PrefillBound bound =
      prefill_bound(*question.shape, question.formats, layout, device_of("910C"), 4096, 0, 16384);
  EXPECT_NEAR(bound.tokens_per_second, 2e3 / 0.129866, 2);
  EXPECT_EQ(bound.step.limit, Limit::compute);
}

// Llama 70B in FP8 on one H200 (which it fits), batch 1, context 0: 68.5 GB of layers in a byte,
// 2.1 GB of head, at 4.8 TB/s: 14.7 ms.
TEST(Bound, OfOneAnswerIsTheTimeToReadTheWeights) {
  const Question question = question_of(shape_of("deepseek-r1:70b"), "fp8");
  const DecodeBound bound =
      decode_bound(*question.shape, question.formats, {}, device_of("H200"), 1, 0, {});
  const double bytes =
      (70'553'706'496.0 - 2.0 * 8192 * 128'256) * (1 + 4.0 / 16384) + 2.0 * 8192 * 128'256;
  EXPECT_NEAR(bound.tpot_ms, bytes / 4.8e12 * 1e3, 0.01);
  EXPECT_NEAR(bound.tokens_per_second, 1e3 / bound.tpot_ms, 1e-9);
  EXPECT_EQ(bound.step.limit, Limit::weights);
}

TEST(Bound, AcceptedDraftsDivideTheTimeOfAToken) {
  const Question question = question_of(shape_of("deepseek-r1:671b"), "w8a8");
  const Layout layout{.replicas = 320, .spreads_experts = true};
  const auto bound = [&](const Speculation& speculation) {
    return decode_bound(*question.shape, question.formats, layout, device_of("910C"), 48, 4096,
                        speculation);
  };
  const DecodeBound drafted = bound({1, 1.7});
  EXPECT_NEAR(drafted.tpot_ms * 1.7, 1e3 * drafted.step.seconds, 1e-9);
  EXPECT_GT(drafted.step.seconds, bound({}).step.seconds);
  EXPECT_NEAR(bound({1, 1.0}).tokens_per_second * 1.7, drafted.tokens_per_second, 1e-6);
}

TEST(Bound, CachedPrefixesCountAndCostNothingButTheirReading) {
  const Question question = question_of(shape_of("qwen3:8b"), "bf16");
  const auto speed = [&](double cached) {
    return prefill_bound(*question.shape, question.formats, {}, device_of("H100"), 4096, cached,
                         16384)
        .tokens_per_second;
  };
  EXPECT_GT(speed(2048), 1.8 * speed(0));
  EXPECT_LT(speed(2048), 2.0 * speed(0));  // later tokens attend to more
}

TEST(Bound, MixedDevicesShareTheirTimeBetweenPromptsAndAnswers) {
  const Question question = question_of(shape_of("qwen3:8b"), "bf16");
  const MixedBound mixed =
      mixed_bound(*question.shape, question.formats, {}, device_of("H100"), 32, 2000, 0, 500, {});
  const double request_s =
      2000 / mixed.prefill.tokens_per_second + 500 / mixed.decode.tokens_per_second;
  EXPECT_NEAR(mixed.output_tokens_per_second, 500 / request_s, 1e-6);
  EXPECT_NEAR(mixed.total_tokens_per_second, 2500 / request_s, 1e-6);
  EXPECT_NEAR(mixed.prefill_share, 2000 / mixed.prefill.tokens_per_second / request_s, 1e-9);
  // All 32 prompts at once.
  const PrefillBound prefill =
      prefill_bound(*question.shape, question.formats, {}, device_of("H100"), 2000, 0, 32 * 2000);
  EXPECT_EQ(mixed.prefill.tokens_per_second, prefill.tokens_per_second);
}

TEST(MakePlan, TakesTheFewestDevicesThatHoldTheModel) {
  std::string why_not;
  Question question = question_of(shape_of("deepseek-r1:671b"), "fp8");
  EXPECT_EQ(make_plan(question, device_of("H200"), why_not)->devices, 8);
  EXPECT_EQ(make_plan(question, device_of("MI300X"), why_not)->devices, 4);
  EXPECT_EQ(make_plan(question, device_of("H100"), why_not)->devices, 16);
  question = question_of(shape_of("qwen3:8b"), "bf16");
  EXPECT_EQ(make_plan(question, device_of("910B4"), why_not)->devices, 1);
}

TEST(MakePlan, TakesTheLargestBatchThatKeepsTheTimeOfAToken) {
  std::string why_not;
  Question question = question_of(shape_of("qwen3:32b"), "w8a8");
  question.tpot_ms = 20;
  const auto plan = make_plan(question, device_of("910B2"), why_not);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->batch_limit, BatchLimit::tpot);
  EXPECT_LE(plan->decode.tpot_ms, 20);
  const DecodeBound more =
      decode_bound(*question.shape, question.formats, plan->layout, device_of("910B2"),
                   plan->decode.batch + 1, question.context_tokens(), {});
  EXPECT_GT(more.tpot_ms, 20);
}

TEST(MakePlan, UsesMoreDevicesWhereFewerAreTooSlow) {
  std::string why_not;
  Question question = question_of(shape_of("qwen3:32b"), "w8a8");
  question.tpot_ms = 8;  // 33 GB at 1.8 TB/s take 18 ms
  const auto plan = make_plan(question, device_of("910B2"), why_not);
  ASSERT_TRUE(plan);
  EXPECT_GE(plan->layout.tensor_parallel, 4);
  EXPECT_LE(plan->decode.tpot_ms, 8);
}

TEST(MakePlan, SaysWhyThereIsNone) {
  std::string why_not;
  Question question = question_of(shape_of("qwen3:8b"), "bf16");
  question.devices = 1;
  question.batch = 1000;
  EXPECT_FALSE(make_plan(question, device_of("910B4"), why_not));
  EXPECT_EQ(why_not, "no room for the KV cache of 1000 sequences");
  question.batch = 1;
  question.tpot_ms = 1;
  EXPECT_FALSE(make_plan(question, device_of("910B4"), why_not));
  EXPECT_EQ(why_not, "a token takes longer than 1 ms");
  question = question_of(shape_of("deepseek-r1:671b"), "bf16");
  question.devices = 1;
  EXPECT_FALSE(make_plan(question, device_of("H100"), why_not));
  EXPECT_EQ(why_not, "the weights do not fit");
}

TEST(MakePlan, KeepsToTheCountAndTheRanksThatWereAskedFor) {
  std::string why_not;
  Question question = question_of(shape_of("deepseek-r1:671b"), "w8a8");
  question.devices = 16;
  question.tensor_parallel = 4;
  const auto plan = make_plan(question, device_of("910C"), why_not);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->devices, 16);
  EXPECT_EQ(plan->layout.tensor_parallel, 4);
  EXPECT_EQ(plan->layout.replicas, 8);  // of 32 dies
}

TEST(MakePlan, SaysWhyRanksCannotShareALayer) {
  const auto why = [](int tensor_parallel, int devices) {
    Question question = question_of(shape_of("qwen3:8b"), "bf16");
    question.tensor_parallel = tensor_parallel;
    question.devices = devices;
    std::string why_not;
    EXPECT_FALSE(make_plan(question, device_of("H100"), why_not));
    return why_not;
  };
  EXPECT_EQ(why(3, 0), "3 ranks cannot share a layer: 1, 2, 4, 8, ... are expected");
  EXPECT_EQ(why(3, 3), why(3, 0));
  EXPECT_EQ(why(512, 0), "512 ranks cannot share 32 heads");
  EXPECT_EQ(why(2, 3), "replicas of 2 ranks cannot be made of 3");
}

// A machine of 64 GB that nothing links to others.
Device lone_device() {
  Device alone{.name = "cpu"};
  alone.f16_tflops.value = alone.memory_gbps.value = 10;
  alone.memory_gb.value = 64;
  return alone;
}

TEST(MakePlan, RanksThatSendEachOtherSomethingMustBeLinked) {
  const auto plan_of = [](const char* model, const Device& device, int devices, int tensor_parallel,
                          std::string& why_not) {
    Question question = question_of(shape_of(model), "w8a8");
    question.devices = devices;
    question.tensor_parallel = tensor_parallel;
    return make_plan(question, device, why_not);
  };
  std::string why_not;
  EXPECT_FALSE(plan_of("deepseek-r1:671b", lone_device(), 32, 0, why_not));
  EXPECT_EQ(why_not, "nothing links these devices");
  for (const int devices : {0, 8}) {
    why_not.clear();
    EXPECT_FALSE(plan_of("qwen3:8b", lone_device(), devices, 8, why_not));
    EXPECT_EQ(why_not, "nothing links these devices");
  }
  // Each with all of a model, they need no links.
  const auto apart = plan_of("qwen3:8b", lone_device(), 8, 0, why_not);
  ASSERT_TRUE(apart);
  EXPECT_EQ(apart->layout.replicas, 8);
  EXPECT_GT(apart->decode.tokens_per_second, 0);
  Device node = device_of("H100");
  node.network_gbps.value = 0;
  EXPECT_TRUE(plan_of("qwen3:8b", node, 8, 8, why_not));
  EXPECT_FALSE(plan_of("deepseek-r1:671b", node, 16, 0, why_not));
  EXPECT_EQ(why_not, "nothing links more than 8 of these devices");
}

// A batch of its own needs a whole machine that nothing links to others.
TEST(MakePlan, AMachineThatStandsAloneIsNotMultiplied) {
  Device alone = lone_device();
  alone.memory_gb.value = 8;
  std::string why_not;
  const Question question = question_of(shape_of("qwen3:8b"), "bf16");
  EXPECT_FALSE(make_plan(question, alone, why_not));
  EXPECT_THAT(why_not, HasSubstr("the weights do not fit"));
}

}  // namespace
}  // namespace ridge::planner::bound_test
