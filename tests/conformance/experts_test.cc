#include <fmt/format.h>

#include "conformance/harness.h"

// Weights of rank 3 and choices between weights: head_linear, lora_linear, route, expert_linear.
namespace ridge::conformance {

namespace {

using backend::Recorder;
using backend::Router;
using backend::Value;
using backend::WeightUse;

class ExpertOps : public DeviceTest {
 protected:
  Random random{5};

  Case rows_case(const std::string& name, int columns, std::vector<Tolerance> tolerances,
                 std::function<void(Recorder&, Value, Kit&)> record) {
    Case c;
    c.name = name;
    c.columns = columns;
    c.inputs = random_values(random, 71 * static_cast<size_t>(columns));
    c.steps = independent_steps(awkward_tokens);
    c.record = std::move(record);
    c.tolerances = std::move(tolerances);
    return c;
  }
};

constexpr DType some_dtypes[] = {DType::f32, DType::bf16, DType::q8_0, DType::q4_k, DType::iq4_xs};

TEST_P(ExpertOps, HeadLinear) {
  for (const DType dtype : some_dtypes) {
    const int heads = 3, k = 256, n = 20;
    const auto weight = random_weight(random, {{dtype, n}}, k, WeightUse::linear, heads);
    expect_conforms(rows_case(fmt::format("head_linear {}", name(dtype)), heads * k + 16,
                              {linear_tolerance(dtype)}, [=](Recorder& ops, Value x, Kit& kit) {
                                kit.output(
                                    ops.head_linear(x.slice(16, heads * k), kit.weight(weight)));
                              }));
    // The absorption reads each head's matrix the other way round.
    const auto turned = with_transposition(*weight);
    expect_conforms(rows_case(fmt::format("head_linear-transposed {}", name(dtype)), heads * n,
                              {linear_tolerance(dtype)}, [=](Recorder& ops, Value x, Kit& kit) {
                                kit.output(ops.head_linear(x, kit.weight(turned)));
                              }));
  }
}

TEST_P(ExpertOps, LoraLinearAddsTheAdapterOfEachRow) {
  const int k = 64, n = 40;
  const auto down_a = random_weight(random, {{DType::f32, 8}}, k);
  const auto up_a = random_weight(random, {{DType::f32, n}}, 8);
  const auto down_b = random_weight(random, {{DType::f16, 3}}, k);
  const auto up_b = random_weight(random, {{DType::f16, n}}, 3);
  Case c =
      rows_case("lora_linear", k + n, {long_float32_sums}, [=](Recorder& ops, Value x, Kit& kit) {
        ops.lora_linear(x.slice(0, k),
                        {{&kit.weight(down_a), &kit.weight(up_a), 2.0f},
                         {&kit.weight(down_b), &kit.weight(up_b), 0.5f}},
                        x.slice(k, n));
        kit.output(x);
      });
  for (StepInputs& step : c.steps) {
    for (size_t t = 0; t < step.token_ids.size(); ++t) {
      step.adapter_of_row.push_back(static_cast<int32_t>(t % 3) - 1);
    }
  }
  expect_conforms(c);
}

TEST_P(ExpertOps, Route) {
  struct RouteShape {
    Router router;
    bool has_bias;
  };
  const RouteShape shapes[] = {
      {{.experts = 8, .top_k = 2}, false},
      {{.experts = 64, .top_k = 6, .normalize = true}, false},
      {{.scoring = Router::Scoring::sigmoid,
        .experts = 64,
        .top_k = 8,
        .groups = 8,
        .top_groups = 4,
        .normalize = true,
        .scale = 2.5f},
       true},
      {{.scoring = Router::Scoring::sigmoid,
        .experts = 12,
        .top_k = 1,
        .groups = 3,
        .top_groups = 1},
       true},
      {{.experts = 5, .top_k = 5, .scale = 16.0f}, false},
  };
  for (const RouteShape& shape : shapes) {
    const int experts = shape.router.experts;
    const auto bias = weight_of(random_values(random, experts, 0.2f), experts, WeightUse::vector);
    expect_conforms(rows_case(fmt::format("route {} of {}", shape.router.top_k, experts), experts,
                              {exact, long_float32_sums}, [=](Recorder& ops, Value x, Kit& kit) {
                                Router router = shape.router;
                                if (shape.has_bias) router.selection_bias = &kit.weight(bias);
                                const auto routed = ops.route(x, router);
                                kit.output(routed.ids);
                                kit.output(routed.weights);
                              }));
  }
}

TEST_P(ExpertOps, ExpertLinear) {
  for (const DType dtype : some_dtypes) {
    const int experts = 6, top_k = 2, k = 256, n = 36;
    const auto up = random_weight(random, {{dtype, n}, {dtype, 4}}, k, WeightUse::linear, experts);
    const auto down = random_weight(random, {{DType::f32, 24}}, n + 4, WeightUse::linear, experts);
    const Tolerance first = linear_tolerance(dtype);
    expect_conforms(rows_case(
        fmt::format("expert_linear {}", name(dtype)), experts + k, {first, first, first, first},
        [=](Recorder& ops, Value x, Kit& kit) {
          const auto routed = ops.route(x.slice(0, experts), {.experts = experts, .top_k = top_k});
          const Value in = x.slice(experts, k);
          const backend::Weight& up_weight = kit.weight(up);
          const Value each = ops.expert_linear(in, up_weight, routed.ids);  // [T, top_k · 40]
          kit.output(each);
          kit.output(ops.expert_linear(in, up_weight, routed.ids, routed.weights));
          // One x for each choice.
          const backend::Weight& down_weight = kit.weight(down);
          kit.output(ops.expert_linear(each, down_weight, routed.ids));
          kit.output(ops.expert_linear(each, down_weight, routed.ids, routed.weights));
        }));
  }
}

INSTANTIATE_FOR_DEVICES(ExpertOps);

}  // namespace

}  // namespace ridge::conformance
