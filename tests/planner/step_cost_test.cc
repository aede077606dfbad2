#include "planner/step_cost.h"

#include <gmock/gmock.h>

#include <cmath>

namespace ridge::planner::step_cost_test {
namespace {

const ModelShape& deepseek() {
  static const ModelTable table = ModelTable::built_in();
  return *table.find("deepseek-r1:671b");
}

Device device_of(const char* name) { return DeviceTable::built_in().get(name); }

Formats formats(const char* weights, const char* cache = "bf16") {
  return {find_weight_format(weights), find_kv_format(cache)};
}

const KindCost& kind_of(const StepCost& cost, Kind kind) {
  for (const KindCost& each : cost.kinds) {
    if (each.kind == kind) return each;
  }
  ADD_FAILURE() << "no " << name(kind);
  return cost.kinds.front();
}

// Each of 3 rows uses 2 of 4 experts; all 6^3 ways to choose them, each as likely.
TEST(StepCost, ExpectsAsManyDistinctExpertsAsAllChoicesHaveOnAverage) {
  const int pairs[] = {0b0011, 0b0101, 0b1001, 0b0110, 0b1010, 0b1100};
  int distinct = 0, choices = 0;
  for (const int a : pairs) {
    for (const int b : pairs) {
      for (const int c : pairs) {
        distinct += __builtin_popcount(static_cast<unsigned>(a | b | c));
        ++choices;
      }
    }
  }
  EXPECT_DOUBLE_EQ(expected_distinct(4, 0.5, 3), static_cast<double>(distinct) / choices);
}

// 16 of 256 experts on a rank, 8 used, 32 rows of all ranks: 16 (1 - (31/32)^32), (31/32)^32 being
// exp(-32 x 0.0317487) = 0.36206.
TEST(StepCost, ExpectsFewDistinctExpertsOfFewRows) {
  EXPECT_NEAR(expected_distinct(16, 8.0 / 256, 32), 16 * (1 - 0.36206), 1e-4);
  EXPECT_NEAR(expected_distinct(16, 8.0 / 256, 1e6), 16, 1e-9);
  EXPECT_NEAR(expected_distinct(1, 1, 2), 1, 0);
}

// Of 4 nodes, 8 experts by chance reach 4 (1 - 0.75^8) = 3.5996, of which 3/4 are others: 2.6997.
// Of 18, they would reach 6.6, but a token's experts are in 4 groups: 4 x 17/18.
TEST(StepCost, SendsATokenOnceToEachNode) {
  EXPECT_NEAR(expected_remote_nodes(*deepseek().experts, 4), 2.6997, 1e-4);
  EXPECT_DOUBLE_EQ(expected_remote_nodes(*deepseek().experts, 18), 4.0 * 17 / 18);
  EXPECT_EQ(expected_remote_nodes(*deepseek().experts, 1), 0);
}

// A device of 1 TFLOP/s and 1 GB/s, and a model of one layer: queries, keys, values and output of
// one head of 4 over a hidden state of 4 (64 weights), a feed-forward of 8 (96), a head of 10 (40).
class TinyStep : public ::testing::Test {
 protected:
  TinyStep() {
    shape_.vocab_size = 10;
    shape_.hidden = shape_.key_dim = shape_.value_dim = 4;
    shape_.layers = shape_.heads = shape_.kv_heads = 1;
    shape_.feed_forward = 8;
    device_.f16_tflops.value = 1;
    device_.memory_gb.value = 1;
    device_.memory_gbps.value = 1;
  }

  ModelShape shape_;
  Device device_;
};

TEST_F(TinyStep, DecodingReadsWeightsAndTheCache) {
  const Pass pass{.sequences = 2, .rows = 1, .context = 10, .cache_tokens = 10};
  const StepCost cost = step_cost(shape_, formats("bf16"), {}, device_, pass);
  const KindCost& attention = kind_of(cost, Kind::attention);
  // 2 sequences x 10 tokens x (4 + 4) values of 2 bytes; as many multiply-adds.
  EXPECT_DOUBLE_EQ(attention.cache_bytes, 320);
  EXPECT_DOUBLE_EQ(attention.flops, 320);
  EXPECT_DOUBLE_EQ(kind_of(cost, Kind::attention_linears).weight_bytes, 128);
  EXPECT_DOUBLE_EQ(kind_of(cost, Kind::attention_linears).flops, 2 * 64 * 2);
  // (64 + 96 + 40) weights x 2 bytes and the cache, at 1 GB/s.
  EXPECT_DOUBLE_EQ(cost.seconds, (400 + 320) * 1e-9);
  EXPECT_DOUBLE_EQ(cost.bytes(), 720);
  EXPECT_EQ(cost.limit, Limit::weights);
}

TEST_F(TinyStep, EnoughRowsComputeInsteadOfReading) {
  // 10^6 rows: 2 x 160 x 10^6 FLOP take 320 us at 1 TFLOP/s, reads of 320 bytes 0.32 us; the head
  // computes one row and reads 80 bytes in 80 ns.
  const Pass pass{.sequences = 1, .rows = 1e6, .context = 0, .logits_rows = 1};
  const StepCost cost = step_cost(shape_, formats("bf16"), {}, device_, pass);
  EXPECT_NEAR(cost.seconds, 320e-6 + 80e-9, 1e-12);
  EXPECT_EQ(cost.limit, Limit::compute);
}

TEST_F(TinyStep, KindsAreNotHiddenBehindOneAnother) {
  const Pass pass{.sequences = 1, .rows = 1000, .context = 500, .cache_tokens = 1000};
  const StepCost cost = step_cost(shape_, formats("bf16"), {}, device_, pass);
  double sum = 0;
  for (const KindCost& kind : cost.kinds) {
    EXPECT_EQ(kind.seconds, std::max(kind.compute_s, kind.memory_s));
    sum += kind.seconds;
  }
  EXPECT_DOUBLE_EQ(cost.work_s, sum);
}

// Four ranks: each linear's quarter; one KV head is on all of them. Two sums a layer, of which each
// rank sends 2 x 3/4 of 1 row x 4 values x 2 bytes, at 1 GB/s: 24 bytes.
TEST_F(TinyStep, TensorParallelRanksShareWeightsAndSum) {
  device_.link_devices = 4;
  device_.link_gbps.value = 1;
  device_.link_us.value = 0.001;
  const Layout layout{.tensor_parallel = 4};
  const Pass pass{.sequences = 1, .rows = 1, .context = 10, .cache_tokens = 10};
  const StepCost cost = step_cost(shape_, formats("bf16"), layout, device_, pass);
  EXPECT_DOUBLE_EQ(kind_of(cost, Kind::dense_feed_forward).weight_bytes, 96 * 2 / 4.0);
  EXPECT_DOUBLE_EQ(kind_of(cost, Kind::attention).cache_bytes, 160);
  EXPECT_DOUBLE_EQ(kind_of(cost, Kind::attention).flops, 160 / 4.0);
  EXPECT_DOUBLE_EQ(cost.transfer_s, 24e-9);
  EXPECT_DOUBLE_EQ(cost.latency_s, 2e-9);
  EXPECT_DOUBLE_EQ(cost.seconds, cost.work_s);  // which is longer, and hides them
  Layout waiting = layout;
  waiting.overlaps_transfers = false;
  EXPECT_DOUBLE_EQ(step_cost(shape_, formats("bf16"), waiting, device_, pass).seconds,
                   cost.work_s + 24e-9 + 2e-9);
}

// can_send() is whether step_cost() finds a rate for all that it moves.
TEST(StepCost, IsFiniteWhereRanksCanSend) {
  const Pass pass{.sequences = 4, .rows = 1, .context = 10, .cache_tokens = 10};
  int answers[2] = {0, 0};
  for (const double link_gbps : {0.0, 200.0}) {
    for (const double network_gbps : {0.0, 50.0}) {
      for (const int link_devices : {1, 8}) {
        Device device = device_of("H800");
        device.link_gbps.value = link_gbps;
        device.network_gbps.value = network_gbps;
        device.link_devices = link_devices;
        for (const Layout& layout :
             {Layout{}, Layout{.tensor_parallel = 4}, Layout{.tensor_parallel = 16},
              Layout{.tensor_parallel = 4, .replicas = 8}, Layout{.replicas = 8},
              Layout{.replicas = 8, .spreads_experts = true},
              Layout{.replicas = 32, .spreads_experts = true},
              Layout{.tensor_parallel = 4, .replicas = 4, .spreads_experts = true}}) {
          const StepCost cost = step_cost(deepseek(), formats("fp8"), layout, device, pass);
          EXPECT_EQ(can_send(layout, device), std::isfinite(cost.seconds))
              << link_gbps << ' ' << network_gbps << ' ' << link_devices << ' '
              << layout.tensor_parallel << ' ' << layout.replicas;
          ++answers[can_send(layout, device) ? 1 : 0];
        }
      }
    }
  }
  EXPECT_GT(answers[0], 10);
  EXPECT_GT(answers[1], 10);
}

// 32 H800 in 4 nodes, 16,384 tokens of each rank: to 2.6997 other nodes, 7168 values of one byte
// there and two back, in 58 layers, at 50 GB/s: 0.06734 ms a token.
TEST(StepCost, TokensTravelToExpertsOverTheNetwork) {
  const Layout layout{.replicas = 32, .spreads_experts = true};
  const Pass pass{.sequences = 4,
                  .rows = 4096,
                  .context = 2048.5,
                  .cache_tokens = 4096,
                  .decodes = false,
                  .active_replicas = 32};
  const StepCost cost = step_cost(deepseek(), formats("fp8"), layout, device_of("H800"), pass);
  EXPECT_NEAR(cost.transfer_s / 16384, 2.6997 * 58 * 7168 * 3 / 50e9, 1e-8);
  EXPECT_EQ(cost.limit, Limit::interconnect);
  // Directly, a copy goes to each of 8 experts, of which 24 of 32 ranks are elsewhere.
  Layout direct = layout;
  direct.sends_directly = true;
  EXPECT_NEAR(step_cost(deepseek(), formats("fp8"), direct, device_of("H800"), pass).transfer_s,
              16384 * 8 * 0.75 * 58 * 7168 * 3 / 50e9, 1e-9);
}

// One of 32 ranks holds 8 experts and computes as many rows as it has itself: 8 of each token.
TEST(StepCost, SpreadExpertsAreBalanced) {
  const Layout layout{.replicas = 32, .spreads_experts = true};
  const Pass pass{
      .sequences = 64, .rows = 1, .context = 1000, .cache_tokens = 1000, .active_replicas = 32};
  const StepCost cost = step_cost(deepseek(), formats("fp8"), layout, device_of("H800"), pass);
  const KindCost& experts = kind_of(cost, Kind::routed_experts);
  EXPECT_NEAR(experts.flops / (2.0 * 58 * 44'040'192 * 64 * 8), 1, 1e-12);
  // 2,048 tokens of all ranks use them all: 8 x 58 x 44,040,192 bytes and their scales.
  EXPECT_NEAR(experts.weight_bytes / (8.0 * 58 * 44'040'192 * (1 + 4.0 / 16384)), 1, 1e-9);
}

TEST(StepCost, ADeviceWithout8BitFloatsMultipliesIntegers) {
  EXPECT_EQ(device_of("910C").arithmetic(find_weight_format("fp8").arithmetic), Arithmetic::i8);
  EXPECT_EQ(device_of("H100").arithmetic(find_weight_format("fp8").arithmetic), Arithmetic::f8);
  EXPECT_EQ(device_of("H100").arithmetic(find_weight_format("w4a16").arithmetic), Arithmetic::f16);
}

// A draft is one layer of experts, eh_proj and the head, for one row of each sequence.
TEST(StepCost, DraftsCostALayerAndAHead) {
  const Pass with{.sequences = 1, .rows = 2, .context = 100, .cache_tokens = 100, .drafts = 1};
  const StepCost cost = step_cost(deepseek(), formats("fp8"), {}, device_of("H100"), with);
  const double layer = 187'105'280 + 45'875'200.0 + 2.0 * 7168 * 7168;
  const double experts = 256 * (1 - (1 - 8 / 256.0)) * 44'040'192;  // one row: 8 of them
  const KindCost& draft = kind_of(cost, Kind::drafts);
  EXPECT_NEAR(draft.weight_bytes / ((layer + experts) * (1 + 4.0 / 16384) + 2.0 * 7168 * 129280), 1,
              1e-9);
}

TEST(StepCost, SharedExpertsApartAreNotReadByAllRanks) {
  Layout layout{.replicas = 320, .spreads_experts = true};
  const Pass pass{
      .sequences = 4, .rows = 1, .context = 100, .cache_tokens = 100, .active_replicas = 320};
  const Device die = device_of("910C-die");
  const StepCost together = step_cost(deepseek(), formats("w8a8"), layout, die, pass);
  layout.shared_apart = true;
  const StepCost apart = step_cost(deepseek(), formats("w8a8"), layout, die, pass);
  EXPECT_NEAR(together.bytes() - apart.bytes(), 58 * 44'040'192.0, 1);
  // The work of nine experts instead of eight is spread.
  EXPECT_NEAR(
      kind_of(apart, Kind::routed_experts).flops / kind_of(together, Kind::routed_experts).flops,
      9.0 / 8, 1e-12);
}

}  // namespace
}  // namespace ridge::planner::step_cost_test
