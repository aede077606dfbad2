#include <cmath>

#include "conformance/harness.h"

// Ops that treat each row alone: embed, the norms, quantize_rows, gated_activation, rope, add,
// scale, gather_rows, top_k, sample, communicate.
namespace ridge::conformance::row_ops_test {

namespace {

using backend::Recorder;
using backend::Value;
using backend::WeightUse;

class RowOps : public DeviceTest {
 protected:
  Random random{1};

  // All awkward row counts over inputs of `columns`.
  Case rows_case(const std::string& name, int columns, std::vector<Tolerance> tolerances,
                 std::function<void(Recorder&, Value, Kit&)> record) {
    Case c;
    c.name = name + " of " + std::to_string(columns);
    c.columns = columns;
    c.inputs = random_values(random, 71 * static_cast<size_t>(columns));
    c.steps = independent_steps(awkward_tokens);
    c.record = std::move(record);
    c.tolerances = std::move(tolerances);
    return c;
  }
};

constexpr int awkward_widths[] = {1, 7, 16, 31, 64, 100, 576};

TEST_P(RowOps, EmbedGathersDequantisedRows) {
  for (int d = 0; d < dtype_count; ++d) {
    const auto dtype = static_cast<DType>(d);
    if (dtype == DType::i8 || dtype == DType::i32) continue;
    const int block = traits(dtype).block_elements;
    for (const WeightUse use : {WeightUse::embedding, WeightUse::embedding | WeightUse::linear}) {
      const auto table = random_weight(random, {{dtype, 71}}, block == 1 ? 37 : 2 * block, use);
      expect_conforms(rows_case(
          "embed " + std::string(name(dtype)), 4, {exact},
          [=](Recorder& ops, Value, Kit& kit) { kit.output(ops.embed(kit.weight(table))); }));
    }
  }
}

TEST_P(RowOps, RmsNorm) {
  for (int columns : awkward_widths) {
    const auto weight = weight_of(random_values(random, columns), columns, WeightUse::vector);
    expect_conforms(
        rows_case("rms_norm", columns, {float32_sums}, [=](Recorder& ops, Value x, Kit& kit) {
          kit.output(ops.rms_norm(x, kit.weight(weight), 1e-5f));
        }));
    // A slice of a wider row, and rows whose squares are far below epsilon.
    expect_conforms(rows_case("rms_norm of a slice", columns + 9, {float32_sums},
                              [=](Recorder& ops, Value x, Kit& kit) {
                                const Value small = ops.scale(x, 1e-6f).slice(5, columns);
                                kit.output(ops.rms_norm(small, kit.weight(weight), 1e-5f));
                              }));
    // Two side by side.
    expect_conforms(rows_case("rms_norm into slices", columns, {float32_sums},
                              [=](Recorder& ops, Value x, Kit& kit) {
                                const Value both = ops.blank(backend::Rows::tokens, 2 * columns);
                                ops.rms_norm(x, kit.weight(weight), 1e-5f, both.slice(0, columns));
                                ops.rms_norm(ops.scale(x, 3.0f), kit.weight(weight), 1e-5f,
                                             both.slice(columns, columns));
                                kit.output(both);
                              }));
    // Three heads, each normed by itself, with a linear behind them.
    const auto next = random_weight(random, {{DType::f32, 20}}, 3 * columns);
    expect_conforms(rows_case("rms_norm of heads", 3 * columns, {long_float32_sums},
                              [=](Recorder& ops, Value x, Kit& kit) {
                                const Value heads = ops.rms_norm(x, kit.weight(weight), 1e-5f);
                                kit.output(ops.linear(heads, kit.weight(next)));
                              }));
  }
}

TEST_P(RowOps, AddRmsNormUpdatesTheResidual) {
  for (int columns : awkward_widths) {
    const auto weight = weight_of(random_values(random, columns), columns, WeightUse::vector);
    expect_conforms(rows_case("add_rms_norm", columns, {float32_sums, exact, float32_sums},
                              [=](Recorder& ops, Value x, Kit& kit) {
                                const Value delta = ops.scale(x, -0.75f);
                                kit.output(ops.add_rms_norm(delta, x, kit.weight(weight), 1e-6f));
                                kit.output(x);
                                // Once more, as each layer does to the same residual.
                                kit.output(ops.add_rms_norm(delta, x, kit.weight(weight), 1e-6f));
                              }));
  }
}

TEST_P(RowOps, QuantizeRows) {
  for (int columns : awkward_widths) {
    Case c = rows_case("quantize_rows", columns, {exact, float32_sums},
                       [](Recorder& ops, Value x, Kit& kit) {
                         const auto quantized = ops.quantize_rows(x);
                         kit.output(quantized.codes);
                         kit.output(quantized.scales);
                       });
    std::fill_n(c.inputs.begin() + 2 * columns, columns, 0.0f);  // a row without a scale
    expect_conforms(c);
  }
}

TEST_P(RowOps, GatedActivation) {
  const std::pair<backend::Activation, std::string> kinds[] = {
      {backend::Activation::silu, "silu"},
      {backend::Activation::gelu_tanh, "gelu_tanh"},
      {backend::Activation::swiglu_oai, "swiglu_oai"}};
  for (const auto& [kind, kind_name] : kinds) {
    for (int columns : awkward_widths) {
      Case c = rows_case("gated_activation " + kind_name, 2 * columns, {long_float32_sums},
                         [kind = kind](Recorder& ops, Value x, Kit& kit) {
                           kit.output(ops.gated_activation(x, kind));
                         });
      // Gate and up of two experts, one after the other.
      expect_conforms(rows_case("gated_activation groups " + kind_name, 4 * columns,
                                {long_float32_sums},
                                [kind = kind](Recorder& ops, Value x, Kit& kit) {
                                  kit.output(ops.gated_activation(x, kind, /*groups=*/2));
                                }));
      // Large enough to saturate the exponential on both sides and to meet the clamps.
      for (size_t i = 0; i < c.inputs.size(); ++i) c.inputs[i] *= i % 7 == 0 ? 40.0f : 3.0f;
      expect_conforms(c);
    }
  }
}

TEST_P(RowOps, Rope) {
  for (const auto pairs : {backend::RopePairs::neox, backend::RopePairs::interleaved}) {
    for (int head_dim : {32, 64, 80, 96, 128}) {
      for (int rotary_dim : {head_dim, head_dim / 2, 2}) {
        backend::RopeTable table{.magnitude = 1.25f, .pairs = pairs};
        for (int i = 0; i < rotary_dim / 2; ++i) {
          table.inverse_frequencies.push_back(std::pow(10000.0f, -2.0f * i / rotary_dim));
        }
        // Three query heads and one key head, as slices of one row, with the value behind.
        Case c = rows_case("rope " + std::to_string(rotary_dim), 5 * head_dim, {float32_sums},
                           [=](Recorder& ops, Value x, Kit& kit) {
                             ops.rope(x.slice(0, 3 * head_dim), x.slice(3 * head_dim, head_dim),
                                      head_dim, table);
                             kit.output(x);
                           });
        for (StepInputs& step : c.steps) {
          for (size_t t = 0; t < step.positions.size(); ++t) {
            step.positions[t] = static_cast<int32_t>(t * t * 13 % 30011);
          }
        }
        expect_conforms(c);
      }
    }
  }
}

TEST_P(RowOps, RopeOfQueriesAlone) {
  const backend::RopeTable table{.inverse_frequencies = {1.0f, 0.1f}};
  expect_conforms(
      rows_case("rope without keys", 12, {float32_sums}, [=](Recorder& ops, Value x, Kit& kit) {
        ops.rope(x.slice(4, 8), {}, 4, table);
        kit.output(x);
      }));
}

TEST_P(RowOps, AddAndScale) {
  for (int columns : awkward_widths) {
    expect_conforms(rows_case("add", 2 * columns, {exact}, [=](Recorder& ops, Value x, Kit& kit) {
      kit.output(ops.add(x.slice(0, columns), x.slice(columns, columns)));
    }));
    expect_conforms(rows_case("scale", columns + 3, {exact}, [=](Recorder& ops, Value x, Kit& kit) {
      kit.output(ops.scale(x.slice(3, columns), -1.7f));
    }));
  }
}

TEST_P(RowOps, GatherRowsTakesTheWantedOnes) {
  for (int columns : awkward_widths) {
    expect_conforms(
        rows_case("gather_rows", columns + 4, {exact}, [=](Recorder& ops, Value x, Kit& kit) {
          kit.output(ops.gather_rows(x.slice(4, columns)));
        }));
  }
}

TEST_P(RowOps, GatherRowsOfAStepWithoutOutputs) {
  Case c = rows_case("gather_rows none", 8, {exact}, [](Recorder& ops, Value x, Kit& kit) {
    kit.output(ops.gather_rows(x));
    kit.output(x);
  });
  for (size_t s = 0; s < c.steps.size(); s += 2) c.steps[s].output_rows.clear();
  expect_conforms(c);
}

TEST_P(RowOps, TopKDescendsAndBreaksTiesByTheSmallerId) {
  for (int columns : {5, 64, 1000}) {
    for (int k : {1, 4, 5}) {
      Case c = rows_case("top_k " + std::to_string(k), columns, {exact, exact},
                         [=](Recorder& ops, Value x, Kit& kit) {
                           const auto top = ops.top_k(ops.gather_rows(x), k);
                           kit.output(top.values);
                           kit.output(top.ids);
                         });
      for (float& value : c.inputs) value = std::round(value * 4);  // many ties
      expect_conforms(c);
    }
  }
}

TEST_P(RowOps, SampleTakesTheLargestLogit) {
  for (int columns : {1, 17, 1000}) {
    Case c = rows_case("sample", columns, {exact}, [](Recorder& ops, Value x, Kit& kit) {
      kit.output(ops.sample(ops.gather_rows(x)));
    });
    for (float& value : c.inputs) value = std::round(value * 4);
    expect_conforms(c);
  }
}

TEST_P(RowOps, CollectivesAreTheIdentityOnOneRank) {
  expect_conforms(rows_case("communicate", 24, {exact}, [](Recorder& ops, Value x, Kit& kit) {
    kit.output(ops.all_reduce(x.slice(4, 16)));
    kit.output(ops.all_gather(x, {24}));
    kit.output(ops.all_to_all(x));
  }));
}

INSTANTIATE_FOR_DEVICES(RowOps);

}  // namespace

}  // namespace ridge::conformance::row_ops_test
