#include <fmt/format.h>

#include <cmath>

#include "conformance/harness.h"

// Whole layers, as families record them: here a back end's fusions meet every token count.
namespace ridge::conformance::layer_test {

namespace {

using backend::Precision;
using backend::Recorder;
using backend::Value;
using backend::WeightUse;

struct LayerShape {
  std::string name;
  int hidden, heads, kv_heads, head_dim, feed_forward;
  std::vector<DType> qkv;  // of q, k and v
  DType output, gate_up, down;
  bool has_bias;
  backend::RopePairs pairs;
};

class Layers : public DeviceTest {
 protected:
  Random random{6};
};

// What a layer needs, drawn once for all devices.
struct LayerWeights {
  LayerWeights(Random& random, const LayerShape& s) {
    const int q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    const auto vector = [&](int size) {
      return weight_of(random_values(random, size), size, WeightUse::vector);
    };
    norm = vector(s.hidden);
    qkv = random_weight(random, {{s.qkv[0], q}, {s.qkv[1], kv}, {s.qkv[2], kv}}, s.hidden);
    bias = vector(q + 2 * kv);
    output = random_weight(random, {{s.output, s.hidden}}, q);
    norm_2 = vector(s.hidden);
    gate_up =
        random_weight(random, {{s.gate_up, s.feed_forward}, {s.gate_up, s.feed_forward}}, s.hidden);
    down = random_weight(random, {{s.down, s.hidden}}, s.feed_forward);
    norm_3 = vector(s.hidden);
  }
  TestWeightPointer norm, qkv, bias, output, norm_2, gate_up, down, norm_3;
};

//   shows: marks what passes from one linear into the next as outputs too
void record_layer(Recorder& ops, Value residual, Kit& kit, const LayerShape& s,
                  const LayerWeights& w, bool mixed, bool shows = false) {
  const Precision delicate = mixed ? Precision::bf16 : Precision::full;
  const Precision precision = mixed ? Precision::int8 : Precision::full;
  const int q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  backend::RopeTable table{.pairs = s.pairs};
  for (int i = 0; i < s.head_dim / 2; ++i) {
    table.inverse_frequencies.push_back(std::pow(10000.0f, -2.0f * i / s.head_dim));
  }
  Value x = ops.rms_norm(residual, kit.weight(w.norm), 1e-5f);
  const Value qkv =
      ops.linear(x, kit.weight(w.qkv), s.has_bias ? &kit.weight(w.bias) : nullptr, delicate);
  ops.rope(qkv.slice(0, q), qkv.slice(q, kv), s.head_dim, table);
  ops.store_kv(qkv.slice(q, kv), qkv.slice(q + kv, kv), kit.cache(), 0);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  x = ops.attention(qkv.slice(0, q), kit.cache(), 0, {.heads = s.heads, .scale = scale});
  x = ops.linear(x, kit.weight(w.output), nullptr, precision);
  x = ops.add_rms_norm(x, residual, kit.weight(w.norm_2), 1e-5f);
  x = ops.linear(x, kit.weight(w.gate_up), nullptr, precision);
  const Value gated = ops.gated_activation(x, backend::Activation::silu);
  x = ops.linear(gated, kit.weight(w.down), nullptr, precision);
  kit.output(ops.add_rms_norm(x, residual, kit.weight(w.norm_3), 1e-5f));
  kit.output(residual);
  if (shows) kit.output(gated);
}

std::vector<LayerShape> layer_shapes() {
  using enum DType;
  return {
      {"smollm2",
       576,
       9,
       3,
       64,
       192,
       {q4_1, q4_1, q4_1},
       q4_1,
       q4_1,
       q4_1,
       false,
       backend::RopePairs::interleaved},
      {"q4_k_m",
       256,
       4,
       2,
       64,
       512,
       {q4_k, q4_k, q6_k},
       q4_k,
       q4_k,
       q6_k,
       true,
       backend::RopePairs::neox},
      {"q8_0",
       160,
       5,
       1,
       32,
       96,
       {q8_0, q8_0, q8_0},
       q8_0,
       q8_0,
       q8_0,
       false,
       backend::RopePairs::interleaved},
      {"f16", 100, 3, 3, 32, 70, {f16, f16, f16}, f16, f16, f16, true, backend::RopePairs::neox},
  };
}

// A step of each count, each but the first with a row of another sequence, too.
Case layer_case(Random& random, const LayerShape& s) {
  StepPlanner planner(16, 16, 10);
  Case c;
  c.name = "layer-" + s.name;
  c.columns = s.hidden;
  size_t ids = 0;
  for (size_t i = 0; i < awkward_tokens.size(); ++i) {
    const int sequence = static_cast<int>(i);
    // A chunk of one sequence with a decode row of the one before.
    std::vector<StepPlanner::Part> parts = {{sequence, awkward_tokens[i]}};
    if (i > 0) parts.push_back({sequence - 1, 1});
    c.steps.push_back(planner.step(parts));
    ids += c.steps.back().token_ids.size();
  }
  c.inputs = random_values(random, ids * s.hidden);
  c.cache = backend::KvCacheLayout{.layers = 1,
                                   .blocks = planner.blocks(),
                                   .block_tokens = planner.block_tokens(),
                                   .kv_heads = s.kv_heads,
                                   .key_dim = s.head_dim,
                                   .value_dim = s.head_dim,
                                   .dtype = DType::f16};
  return c;
}

TEST_P(Layers, AtEveryTokenCount) {
  for (const LayerShape& s : layer_shapes()) {
    Case c = layer_case(random, s);
    const bool is_plain = !is_quantized(s.qkv[0]);
    const LayerWeights weights(random, s);
    for (const bool mixed : {false, true}) {
      c.tolerances = {mixed ? whole_layer_mixed : is_plain ? attention_scores : whole_layer};
      c.record = [=](Recorder& ops, Value x, Kit& kit) {
        record_layer(ops, x, kit, s, weights, mixed);
      };
      expect_conforms(c);
    }
  }
}

// Linears may pass activations on in forms of their own where nobody else sees them.
TEST_P(Layers, AreTheSameWhereActivationsAreSeen) {
  for (const LayerShape& s : layer_shapes()) {
    Case c = layer_case(random, s);
    const LayerWeights weights(random, s);
    const auto outputs_of = [&](bool shows) {
      c.record = [&, shows](Recorder& ops, Value x, Kit& kit) {
        record_layer(ops, x, kit, s, weights, /*mixed=*/true, shows);
      };
      const auto device = open_for_test(GetParam());
      return run_case(c, *device);
    };
    const auto unseen = outputs_of(false), seen = outputs_of(true);
    for (size_t step = 0; step < unseen.size(); ++step) {
      for (size_t i = 0; i < unseen[step].size(); ++i) {
        EXPECT_EQ(unseen[step][i].values, seen[step][i].values)
            << c.name << ", step " << step << ", output " << i;
      }
    }
  }
}

INSTANTIATE_FOR(device_choices_with_emulated, Layers);

}  // namespace

}  // namespace ridge::conformance::layer_test
