#include <fmt/format.h>

#include <map>

#include "backend/registry.h"
#include "conformance/harness.h"

// Weights of rank 3 and choices between weights: head_linear, lora_linear, route, expert_linear.
namespace ridge::conformance::experts_test {

namespace {

using backend::Precision;
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
    expect_conforms(rows_case(fmt::format("head_linear int8 {}", name(dtype)), heads * k,
                              {linear_tolerance(dtype, Precision::int8)},
                              [=](Recorder& ops, Value x, Kit& kit) {
                                kit.output(ops.head_linear(x, kit.weight(weight), Precision::int8));
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

// Runs of rows with one adapter, another that leaves this linear alone, and rows of outputs, which
// have the adapters of the tokens that they come from.
TEST_P(ExpertOps, LoraLinearOfOutputsAddsTheAdapterOfTheirTokens) {
  const int k = 48, n = 24;
  const auto down_a = random_weight(random, {{DType::bf16, 5}}, k);
  const auto up_a = random_weight(random, {{DType::bf16, n}}, 5);
  const auto down_b = random_weight(random, {{DType::f32, 17}}, k);
  const auto up_b = random_weight(random, {{DType::f32, n}}, 17);
  for (const bool gathers : {false, true}) {
    const std::string name = gathers ? "lora_linear of outputs" : "lora_linear of runs";
    Case c = rows_case(name, k + n, {long_float32_sums}, [=](Recorder& ops, Value x, Kit& kit) {
      if (gathers) x = ops.gather_rows(x);
      ops.lora_linear(x.slice(0, k),
                      {{&kit.weight(down_a), &kit.weight(up_a), 1.5f},
                       {},
                       {&kit.weight(down_b), &kit.weight(up_b), -0.5f}},
                      x.slice(k, n));
      kit.output(x);
    });
    for (StepInputs& step : c.steps) {
      for (size_t t = 0; t < step.token_ids.size(); ++t) {
        step.adapter_of_row.push_back(static_cast<int32_t>(t / 7 % 4) - 1);
      }
    }
    // One step in which nobody has an adapter of this linear.
    for (int32_t& adapter : c.steps.back().adapter_of_row) adapter = adapter == 1 ? 1 : -1;
    expect_conforms(c);
  }
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
      {{.experts = 160, .top_k = 6, .groups = 8, .top_groups = 3, .scale = 16.0f}, false},
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

// What decides the experts of row t: logits are the row's first columns.
using Steer = std::function<float(int row, int expert, float random)>;

struct ExpertShape {
  DType dtype;
  int experts, top_k, n, k;
};

std::string_view name_of(Precision precision) {
  return precision == Precision::full ? "full" : precision == Precision::bf16 ? "bf16" : "int8";
}

class ExpertLinears : public ExpertOps {
 protected:
  // Both forms of x and both of the output, with weights of two segments that strips of 16 rows do
  // not meet.
  Case linear_case(const std::string& what, const ExpertShape& shape, Precision precision,
                   const Steer& steer = {}) {
    const auto [dtype, experts, top_k, n, k] = shape;
    const auto up =
        random_weight(random, {{dtype, n - 4}, {dtype, 4}}, k, WeightUse::linear, experts);
    const auto down = random_weight(random, {{DType::f32, 24}}, n, WeightUse::linear, experts);
    const Tolerance first = linear_tolerance(dtype, precision);
    const Tolerance second = {first.rms, first.worst, /*linears=*/2};
    Case c = rows_case(
        fmt::format("expert_linear {} {} {}", name(dtype), name_of(precision), what), experts + k,
        {first, first, second, second}, [=](Recorder& ops, Value x, Kit& kit) {
          const auto routed = ops.route(x.slice(0, experts), {.experts = experts, .top_k = top_k});
          const Value in = x.slice(experts, k);
          const backend::Weight& up_weight = kit.weight(up);
          const Value each = ops.expert_linear(in, up_weight, routed.ids, {}, precision);
          kit.output(each);  // [T, top_k · n]
          kit.output(ops.expert_linear(in, up_weight, routed.ids, routed.weights, precision));
          // One x for each choice.
          const backend::Weight& down_weight = kit.weight(down);
          kit.output(ops.expert_linear(each, down_weight, routed.ids));
          kit.output(ops.expert_linear(each, down_weight, routed.ids, routed.weights));
        });
    for (size_t row = 0; steer && row < c.inputs.size() / c.columns; ++row) {
      for (int e = 0; e < experts; ++e) {
        float& logit = c.inputs[row * c.columns + e];
        logit = steer(static_cast<int>(row), e, logit);
      }
    }
    return c;
  }

  TestWeightPointer bias_of(int experts, int rows) {
    return weight_of(random_values(random, static_cast<size_t>(experts) * rows), experts * rows,
                     WeightUse::vector);
  }

  // As linear_case, of experts with biases.
  Case bias_case(const ExpertShape& shape, Precision precision) {
    const auto [dtype, experts, top_k, n, k] = shape;
    const auto weight =
        random_weight(random, {{dtype, n - 4}, {dtype, 4}}, k, WeightUse::linear, experts);
    const auto bias = bias_of(experts, n);
    const Tolerance tolerance = linear_tolerance(dtype, precision);
    return rows_case(
        fmt::format("expert_linear bias {} {}", name(dtype), name_of(precision)), experts + k,
        {tolerance, tolerance}, [=](Recorder& ops, Value x, Kit& kit) {
          const auto routed = ops.route(x.slice(0, experts), {.experts = experts, .top_k = top_k});
          const Value in = x.slice(experts, k);
          kit.output(ops.expert_linear(in, kit.weight(weight), routed.ids, {}, precision,
                                       &kit.weight(bias)));
          kit.output(ops.expert_linear(in, kit.weight(weight), routed.ids, routed.weights,
                                       precision, &kit.weight(bias)));
        });
  }

  // merged gate and up → activation → down, summed: what a family records for its experts. Back
  // ends may fuse it.
  Case experts_case(const std::string& what, DType up_dtype, DType down_dtype, int width,
                    Precision precision,
                    backend::Activation activation = backend::Activation::silu,
                    bool has_bias = false) {
    const int experts = 7, top_k = 3, hidden = 256;
    const auto merged_bias = has_bias ? bias_of(experts, 2 * width) : nullptr;
    const auto down_bias = has_bias ? bias_of(experts, hidden - 3) : nullptr;
    const auto merged = random_weight(random, {{up_dtype, width}, {up_dtype, width}}, hidden,
                                      WeightUse::linear, experts);
    const auto down =
        random_weight(random, {{down_dtype, hidden - 3}}, width, WeightUse::linear, experts);
    const Tolerance tolerance = precision == Precision::full ? whole_layer : whole_layer_mixed;
    return rows_case(
        fmt::format("expert_linear layer {} {} {}", what, name(up_dtype), name_of(precision)),
        experts + hidden, {tolerance}, [=](Recorder& ops, Value x, Kit& kit) {
          const auto routed = ops.route(x.slice(0, experts),
                                        {.experts = experts, .top_k = top_k, .normalize = true});
          const auto bias = [&](const TestWeightPointer& each) {
            return each ? &kit.weight(each) : nullptr;
          };
          Value y = ops.expert_linear(x.slice(experts, hidden), kit.weight(merged), routed.ids, {},
                                      precision, bias(merged_bias));
          y = ops.gated_activation(y, activation, top_k);
          kit.output(ops.expert_linear(y, kit.weight(down), routed.ids, routed.weights, precision,
                                       bias(down_bias)));
        });
  }
};

TEST_P(ExpertLinears, OfEveryDType) {
  for (int d = 0; d < dtype_count; ++d) {
    const auto dtype = static_cast<DType>(d);
    if (dtype == DType::i8 || dtype == DType::i32) continue;
    const int block = traits(dtype).block_elements;
    const int k = block == 1 ? 100 : block == 32 ? 160 : 256;  // not whole units where they may be
    expect_conforms(linear_case("", {dtype, 6, 2, 40, k}, Precision::full));
  }
}

TEST_P(ExpertLinears, InEveryPrecision) {
  for (const DType dtype : some_dtypes) {
    for (const Precision precision : {Precision::bf16, Precision::int8}) {
      // Few experts, so that some have more rows than any kernel's tile.
      expect_conforms(linear_case("", {dtype, 3, 2, 52, 256}, precision));
    }
  }
}

TEST_P(ExpertLinears, WhereRowsAreSpreadUnevenly) {
  const Steer to_one = [](int, int e, float) { return e == 4 ? 5.0f : 0.0f; };
  const Steer never_two = [](int, int e, float random) { return e == 2 ? -99.0f : random; };
  const Steer mostly_one = [](int row, int e, float random) {
    return e == 0 && row % 8 != 0 ? 20.0f : random;
  };
  for (const Precision precision : {Precision::full, Precision::int8}) {
    for (const DType dtype : {DType::q4_k, DType::f16}) {
      expect_conforms(linear_case("all to one", {dtype, 6, 1, 40, 256}, precision, to_one));
      expect_conforms(linear_case("none to one", {dtype, 4, 3, 33, 256}, precision, never_two));
      expect_conforms(linear_case("most to one", {dtype, 9, 1, 20, 256}, precision, mostly_one));
      expect_conforms(linear_case("all to all", {dtype, 5, 5, 16, 256}, precision));
      expect_conforms(linear_case("of one", {dtype, 1, 1, 24, 256}, precision));
      expect_conforms(linear_case("of many", {dtype, 130, 8, 17, 256}, precision));
    }
  }
}

TEST_P(ExpertLinears, WithActivationsBetween) {
  for (const Precision precision : {Precision::full, Precision::bf16, Precision::int8}) {
    expect_conforms(experts_case("whole strips", DType::q4_k, DType::q5_0, 96, precision));
    expect_conforms(experts_case("whole strips", DType::q8_0, DType::q8_0, 160, precision));
    expect_conforms(experts_case("whole strips", DType::f16, DType::f16, 48, precision));
    expect_conforms(experts_case("cut strips", DType::q4_k, DType::f32, 24, precision));
  }
}

TEST_P(ExpertLinears, WithBiases) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::q8_0, DType::q4_k, DType::mxfp4}) {
    for (const Precision precision : {Precision::full, Precision::bf16, Precision::int8}) {
      expect_conforms(bias_case({dtype, 3, 2, 52, 256}, precision));
      expect_conforms(bias_case({dtype, 40, 4, 33, 256}, precision));
    }
  }
}

// gpt-oss: the clamp comes behind the bias.
TEST_P(ExpertLinears, WithBiasesAndClampedActivationsBetween) {
  for (const Precision precision : {Precision::full, Precision::bf16, Precision::int8}) {
    for (const int width : {96, 24}) {  // whole strips, cut ones
      const DType dtype = width == 96 ? DType::mxfp4 : DType::bf16;
      expect_conforms(experts_case("bias", dtype, dtype, width, precision,
                                   backend::Activation::swiglu_oai, /*has_bias=*/true));
    }
  }
}

// Nothing of a token's experts may depend on how many threads there are, or on who was faster.
TEST_P(ExpertLinears, GiveTheSameBitsWithAnyNumberOfThreads) {
  const Case c = experts_case("threads", DType::q4_k, DType::q5_0, 96, Precision::int8);
  std::vector<std::vector<Output>> first;
  for (const int threads : {1, 2, 3, 5}) {
    const auto device = backend::open_device(GetParam().name, {.threads = threads,
                                                               .isa = GetParam().isa,
                                                               .threads_spin = false,
                                                               .allow_emulation = true});
    const auto got = run_case(c, *device);
    if (first.empty()) first = got;
    for (size_t step = 0; step < got.size(); ++step) {
      EXPECT_EQ(got[step][0].values, first[step][0].values)
          << threads << " threads, " << got[step][0].rows << " tokens";
    }
  }
}

// Nor on the other tokens of the step, where kernels are the same for any number of rows.
TEST_P(ExpertLinears, GiveTheSameBitsWhateverElseIsInTheStep) {
  if (GetParam().isa.find("amx") != std::string::npos) GTEST_SKIP() << "has kernels for many rows";
  const Case c = experts_case("batch", DType::q4_k, DType::q5_0, 96, Precision::full);
  const auto got = run_case(c, *open_for_test(GetParam()));
  std::map<int32_t, std::vector<double>> first;  // by id
  for (size_t step = 0; step < got.size(); ++step) {
    const Output& output = got[step][0];
    for (int row = 0; row < output.rows; ++row) {
      const auto from = output.values.begin() + row * output.columns;
      const std::vector<double> values(from, from + output.columns);
      const int32_t id = c.steps[step].token_ids[row];
      EXPECT_EQ(first.emplace(id, values).first->second, values)
          << "id " << id << " among " << output.rows << " tokens";
    }
  }
}

INSTANTIATE_FOR_DEVICES(ExpertOps);
INSTANTIATE_FOR(device_choices_with_emulated, ExpertLinears);

}  // namespace

}  // namespace ridge::conformance::experts_test
