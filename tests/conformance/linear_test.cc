#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "conformance/harness.h"

// linear in all its forms: every dtype, merged and tied weights, shards, transposition, slices,
// bias.
namespace ridge::conformance::linear_test {

namespace {

using backend::Precision;
using backend::Recorder;
using backend::Shard;
using backend::Value;
using backend::WeightUse;

Case linear_case(Random& random, const std::string& name, int k, int slice_at,
                 TestWeightPointer weight, TestWeightPointer bias, Tolerance tolerance,
                 Precision precision = Precision::full) {
  Case c;
  c.name = name;
  c.columns = k + 2 * slice_at;
  c.inputs = random_values(random, 71 * static_cast<size_t>(c.columns));
  c.steps = independent_steps(awkward_tokens);
  c.tolerances = {tolerance};
  c.record = [=](Recorder& ops, Value x, Kit& kit) {
    kit.output(ops.linear(x.slice(slice_at, k), kit.weight(weight),
                          bias ? &kit.weight(bias) : nullptr, precision));
  };
  return c;
}

std::string_view name_of(Precision precision) {
  switch (precision) {
    case Precision::full:
      return "full";
    case Precision::bf16:
      return "bf16";
    case Precision::int8:
      return "int8";
  }
  return "";
}

struct LinearChoice {
  DeviceChoice device;
  DType dtype;
};

std::string test_name(const LinearChoice& choice) {
  return test_name(choice.device) + "_" + std::string(name(choice.dtype));
}

void PrintTo(const LinearChoice& choice, std::ostream* out) { *out << test_name(choice); }

std::vector<LinearChoice> linear_choices() {
  const std::vector<DeviceChoice> devices = device_choices_with_emulated();
  std::vector<LinearChoice> choices;
  for (int d = 0; d < dtype_count; ++d) {
    const auto dtype = static_cast<DType>(d);
    if (dtype == DType::i8 || dtype == DType::i32) continue;
    for (const DeviceChoice& device : devices) choices.push_back({device, dtype});
  }
  return choices;
}

class LinearOfDType : public testing::TestWithParam<LinearChoice> {
 protected:
  Random random{2};
  DType dtype = GetParam().dtype;
  int block = traits(dtype).block_elements;

  // Widths from one block up; those of plain types need not be whole vectors.
  std::vector<int> widths() const {
    if (block == 1) return {1, 7, 32, 100, 576};
    if (block == 32) return {32, 64, 96, 160, 576};
    return {256, 512, 768};
  }
  void expect_conforms(const Case& c) { conformance::expect_conforms(c, GetParam().device); }
};

TEST_P(LinearOfDType, EveryShape) {
  const std::vector<int> heights =
      is_sanitized ? std::vector<int>{1, 31, 70} : std::vector<int>{1, 3, 16, 31, 70};
  for (int k : widths()) {
    for (int n : heights) {
      const auto weight = random_weight(random, {{dtype, n}}, k);
      const Case c = linear_case(random, fmt::format("linear-{} {} x {}", name(dtype), n, k), k,
                                 /*slice_at=*/0, weight, nullptr, linear_tolerance(dtype));
      expect_conforms(c);
    }
  }
}

// At and around the sizes of AMX tiles and of what is done at once with them,
// and beyond a panel's columns.
TEST_P(LinearOfDType, SizesAroundTiles) {
  for (const auto& [n, k] : {std::pair{17, 32}, {48, 544}, {100, 1280}}) {
    const int columns = block == 1 ? k + 1 : (k + block - 1) / block * block;
    const auto weight = random_weight(random, {{dtype, n}}, columns);
    for (const Precision precision : {Precision::full, Precision::bf16, Precision::int8}) {
      Case c = linear_case(
          random, fmt::format("linear-{} {} x {}, {}", name(dtype), n, columns, name_of(precision)),
          columns, 0, weight, nullptr, linear_tolerance(dtype, precision), precision);
      c.inputs = random_values(random, 101 * static_cast<size_t>(columns));
      c.steps = independent_steps(
          is_sanitized ? std::vector<int>{1, 5, 8, 16, 17, 33, 100}
                       : std::vector<int>{1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 31, 32, 33, 48, 100});
      expect_conforms(c);
    }
  }
}

// More tokens than the tiles that meet a panel, an odd number of strips and enough for shares of several.
TEST_P(LinearOfDType, ManyRowsAndStrips) {
  if (GetParam().device.name != "cpu") return;  // nothing is unpacked for many rows
  const int n = 400 + 7, k = block == 256 ? 256 : 96;
  const auto weight = random_weight(random, {{dtype, n}}, k);
  const auto bias = weight_of(random_values(random, n, 0.5f), n, WeightUse::vector);
  for (const Precision precision : {Precision::full, Precision::int8}) {
    Case c = linear_case(random, fmt::format("linear-{} of many rows, {}", name(dtype), name_of(precision)),
                         k, 0, weight, bias, linear_tolerance(dtype, precision), precision);
    const int rows = is_sanitized ? 60 : 600;
    c.inputs = random_values(random, (rows + 1) * static_cast<size_t>(k));
    StepPlanner planner(/*block_tokens=*/16, (rows + 15) / 16, /*max_sequences=*/1);
    c.steps = {planner.step({{0, rows}})};
    c.steps[0].output_rows.resize(rows);
    std::iota(c.steps[0].output_rows.begin(), c.steps[0].output_rows.end(), 0);
    expect_conforms(c);
  }
}

TEST_P(LinearOfDType, SlicesAndBias) {
  for (int k : widths()) {
    const int n = 45;
    const auto weight = random_weight(random, {{dtype, n}}, k);
    const auto bias = weight_of(random_values(random, n, 0.5f), n, WeightUse::vector);
    for (int slice_at : {16, 5}) {
      expect_conforms(linear_case(random, fmt::format("linear-{} slice of {}", name(dtype), k), k,
                                  slice_at, weight, bias, linear_tolerance(dtype)));
    }
  }
}

TEST_P(LinearOfDType, RowsOfVeryDifferentSize) {
  const int k = 2 * std::max(block, 32);
  const auto weight = random_weight(random, {{dtype, 64}}, k);
  // Each row alone in a step, so that a large one does not hide the errors of a small one.
  Case c = linear_case(random, fmt::format("linear-{} of rows apart", name(dtype)), k, 0, weight,
                       nullptr, linear_tolerance(dtype));
  c.steps = independent_steps({1, 1, 1, 1});
  for (size_t s = 0; s < c.steps.size(); ++s) c.steps[s].token_ids = {static_cast<int32_t>(s)};
  const float sizes[] = {1e-6f, 1e5f, 1.0f, 0.0f};
  for (size_t s = 0; s < 4; ++s) {
    for (int i = 0; i < k; ++i) c.inputs[s * k + i] *= sizes[s];
  }
  expect_conforms(c);
}

TEST_P(LinearOfDType, HeadOnGatheredRowsOfATiedTable) {
  const int k = 2 * std::max(block, 32);
  const auto table =
      random_weight(random, {{dtype, 71}}, k, WeightUse::embedding | WeightUse::linear);
  Case c = linear_case(random, fmt::format("linear-{} tied", name(dtype)), k, 0, table, nullptr,
                       linear_tolerance(dtype));
  c.tolerances.push_back(exact);
  c.record = [=](Recorder& ops, Value, Kit& kit) {
    const backend::Weight& weight = kit.weight(table);
    const Value x = ops.embed(weight);
    kit.output(ops.linear(ops.gather_rows(x), weight));
    kit.output(x);
  };
  expect_conforms(c);
}

TEST_P(LinearOfDType, ShardsOfRowsAndColumns) {
  const int k = 4 * std::max(block, 32);
  const int n = 48;
  const auto whole = random_weight(random, {{dtype, n}, {dtype, 2 * n}}, k);
  for (int ranks : {2, 4}) {
    for (int rank : {0, ranks - 1}) {
      const auto rows = with_shard(*whole, {Shard::Axis::rows, rank, ranks});
      expect_conforms(linear_case(random,
                                  fmt::format("linear-{} rows {}/{}", name(dtype), rank, ranks), k,
                                  0, rows, nullptr, linear_tolerance(dtype)));
      const auto columns = with_shard(*whole, {Shard::Axis::columns, rank, ranks});
      expect_conforms(linear_case(random,
                                  fmt::format("linear-{} columns {}/{}", name(dtype), rank, ranks),
                                  k / ranks, 0, columns, nullptr, linear_tolerance(dtype)));
    }
  }
}

TEST_P(LinearOfDType, Transposed) {
  const int rows = 24;
  const int columns = 2 * std::max(block, 32);
  const auto weight = with_transposition(*random_weight(random, {{dtype, rows}}, columns));
  // Ops read the transpose, so `rows` are what a row of activations has.
  expect_conforms(linear_case(random, fmt::format("linear-transposed-{}", name(dtype)), rows, 0,
                              weight, nullptr, linear_tolerance(dtype)));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LinearOfDType);
INSTANTIATE_TEST_SUITE_P(Devices, LinearOfDType, testing::ValuesIn(linear_choices()),
                         [](const auto& info) { return test_name(info.param); });

class LinearMerged : public DeviceTest {
 protected:
  Random random{3};
};

TEST_P(LinearMerged, SegmentsOfSeveralDTypes) {
  const std::vector<RandomSegment> merges[] = {
      {{DType::q4_k, 64}, {DType::q4_k, 16}, {DType::q6_k, 16}},  // QKV of a Q4_K_M file
      {{DType::q6_k, 13}, {DType::q4_k, 7}, {DType::q5_k, 1}},
      {{DType::q8_0, 20}, {DType::iq4_xs, 20}, {DType::q4_0, 20}, {DType::q2_k, 20}},
      {{DType::f16, 33}, {DType::q4_1, 31}},
      {{DType::f32, 5}, {DType::bf16, 40}},
  };
  for (const auto& segments : merges) {
    for (int k : {256, 768}) {
      int n = 0;
      std::string types;
      for (const RandomSegment& segment : segments) {
        n += segment.rows;
        types += " " + std::string(name(segment.dtype));
      }
      const auto weight = random_weight(random, segments, k);
      const auto bias = weight_of(random_values(random, n), n, WeightUse::vector);
      expect_conforms(
          linear_case(random, "linear-merged" + types, k, 16, weight, bias, int8_planes));
      expect_conforms(linear_case(random, "linear-merged int8" + types, k, 16, weight, bias,
                                  int8_codes, Precision::int8));
    }
  }
}

TEST_P(LinearMerged, BiasOfSegments) {
  auto bias = std::make_shared<TestWeight>(
      *random_weight(random, {{DType::f32, 20}, {DType::f32, 7}, {DType::f16, 6}}, 1));
  bias->source.use = WeightUse::vector;
  for (size_t i = 0; i < bias->bytes.size(); ++i) {
    TensorView& segment = bias->source.segments[i];
    segment.shape = Shape{segment.shape[0]};
    segment.bytes = bias->bytes[i];
  }
  const auto weight = random_weight(random, {{DType::f32, 33}}, 40);
  expect_conforms(
      linear_case(random, "linear-merged bias", 40, 0, weight, bias, long_float32_sums));
}

INSTANTIATE_FOR(device_choices_with_emulated, LinearMerged);

}  // namespace

}  // namespace ridge::conformance::linear_test
