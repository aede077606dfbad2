#include "tensor/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "tensor/blocks.h"
#include "tensor/dequantize.h"
#include "tensor/float_formats.h"

namespace ridge {

namespace {

constexpr DType quantized_types[] = {DType::q4_0,   DType::q4_1,  DType::q5_0, DType::q5_1,
                                     DType::q8_0,   DType::q4_k,  DType::q5_k, DType::q6_k,
                                     DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

std::vector<float> restored(DType dtype, std::span<const float> values) {
  std::vector<std::byte> blocks(row_bytes(dtype, static_cast<int64_t>(values.size())));
  quantize_row(dtype, values, blocks);
  std::vector<float> out(values.size());
  dequantize_row(dtype, blocks, out);
  return out;
}

// The root mean square of what was lost, as a share of that of the values.
double relative_error(std::span<const float> values, std::span<const float> got) {
  double lost = 0;
  double whole = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - values[i];
    lost += difference * difference;
    whole += static_cast<double>(values[i]) * values[i];
  }
  return std::sqrt(lost / whole);
}

// Weights that the golden file holds: "gaussian", "heavy_tailed".
std::vector<float> golden_weights(std::string_view tensor) {
  static const format::GgufFile file =
      format::GgufFile::open(RIDGE_SOURCE_DIR "/tests/goldens/quantize.golden.gguf");
  const TensorView view = file.tensor(tensor).view;
  std::vector<float> values(static_cast<size_t>(view.shape.elements()));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

// The error that the `gguf` Python package's own quantisation leaves.
float golden_error(DType dtype, std::string_view tensor) {
  static const format::GgufFile file =
      format::GgufFile::open(RIDGE_SOURCE_DIR "/tests/goldens/quantize.golden.gguf");
  return file.metadata().float32("golden." + std::string(name(dtype)) + "." + std::string(tensor));
}

std::string test_name(const auto& info) { return std::string(name(info.param)); }

// Declared bounds on the relative error for Gaussian weights.
double gaussian_bound(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return 0.0825;
    case DType::q4_1:
      return 0.0710;
    case DType::q5_0:
      return 0.0410;
    case DType::q5_1:
      return 0.0345;
    case DType::q8_0:
      return 0.0055;
    case DType::q4_k:
      return 0.0715;
    case DType::q5_k:
      return 0.0355;
    case DType::q6_k:
      return 0.0176;
    case DType::iq4_nl:
      return 0.0750;
    case DType::iq4_xs:
      return 0.0758;
    case DType::mxfp4:
      return 0.1140;
    default:
      return 0;
  }
}

// How far a block's greatest weight may move, as a share of it, and one that all share. Scales of
// MXFP4 are powers of two, between whose levels there is up to half of the lower one.
double peak_bound(DType dtype) { return dtype == DType::mxfp4 ? 0.2 : 0.05; }
double constant_bound(DType dtype) { return dtype == DType::mxfp4 ? 0.2 : 0.004; }

}  // namespace

class QuantizeEveryType : public ::testing::TestWithParam<DType> {};

TEST_P(QuantizeEveryType, KeepsGaussianWeightsWithinItsBound) {
  const std::vector<float> weights = golden_weights("gaussian");
  EXPECT_LE(relative_error(weights, restored(GetParam(), weights)), gaussian_bound(GetParam()));
}

TEST_P(QuantizeEveryType, KeepsZeros) {
  const std::vector<float> zeros(512, 0.0f);
  for (float value : restored(GetParam(), zeros)) EXPECT_EQ(value, 0.0f);
}

TEST_P(QuantizeEveryType, KeepsAHugeOutlierAndStaysFinite) {
  for (float outlier : {quantizable_max, -quantizable_max, 30.0f}) {
    std::vector<float> values = golden_weights("gaussian");
    values.resize(512);
    values[300] = outlier;
    const std::vector<float> got = restored(GetParam(), values);
    EXPECT_NEAR(got[300], outlier, peak_bound(GetParam()) * std::fabs(outlier));
    // Its own block or super-block is lost to it, all others are not.
    EXPECT_LE(relative_error(std::span(values).first(256), std::span(got).first(256)),
              1.2 * gaussian_bound(GetParam()));
    for (float value : got) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(QuantizeEveryType, KeepsConstantRows) {
  for (float constant : {0.37f, -0.37f, 0.02f, 1000.0f}) {
    const std::vector<float> values(256, constant);
    EXPECT_LE(relative_error(values, restored(GetParam(), values)), constant_bound(GetParam()))
        << constant;
  }
}

TEST_P(QuantizeEveryType, KeepsWeightsOfOneSign) {
  std::vector<float> values = golden_weights("gaussian");
  for (float sign : {1.0f, -1.0f}) {
    for (float& value : values) value = sign * (std::fabs(value) + 0.01f);
    EXPECT_LE(relative_error(values, restored(GetParam(), values)),
              1.1 * gaussian_bound(GetParam()));
  }
}

// F16 scales end at 2^-24; what lies far below becomes zero, nothing becomes large.
TEST_P(QuantizeEveryType, TakesTinyWeights) {
  for (float size : {1e-4f, 1e-6f, 1e-9f, 1e-40f}) {
    std::vector<float> values = golden_weights("gaussian");
    for (float& value : values) value *= size / 0.02f;
    const std::vector<float> got = restored(GetParam(), values);
    EXPECT_LE(relative_error(values, got), 1.0) << size;
    if (size == 1e-4f) {
      EXPECT_LE(relative_error(values, got), 2 * gaussian_bound(GetParam()));
    }
  }
}

TEST_P(QuantizeEveryType, GivesTheSameBlocksForARowAndItsParts) {
  const DType dtype = GetParam();
  const std::vector<float> values = golden_weights("heavy_tailed");
  std::vector<std::byte> whole(row_bytes(dtype, static_cast<int64_t>(values.size())));
  quantize_row(dtype, values, whole);
  // Parts of one to seven blocks, at odd addresses.
  const auto block = static_cast<size_t>(traits(dtype).block_elements);
  size_t blocks = 1;
  for (size_t first = 0; first < values.size(); blocks = blocks % 7 + 1) {
    const size_t count = std::min(blocks * block, values.size() - first);
    const size_t at = row_bytes(dtype, static_cast<int64_t>(first));
    std::vector<std::byte> part(row_bytes(dtype, static_cast<int64_t>(count)) + 1);
    quantize_row(dtype, std::span(values).subspan(first, count), std::span(part).subspan(1));
    EXPECT_TRUE(std::equal(part.begin() + 1, part.end(), whole.begin() + static_cast<long>(at)));
    first += count;
  }
}

TEST_P(QuantizeEveryType, LosesLittleOfWhatItWroteItself) {
  const std::vector<float> once = restored(GetParam(), golden_weights("gaussian"));
  EXPECT_LE(relative_error(once, restored(GetParam(), once)), 0.25 * gaussian_bound(GetParam()));
}

// Declared bounds on what column weights leave of the weighted error, for columns whose mean squares
// are spread log-normally, by a factor of e² in the standard deviation. Q8_0 has no search.
double weighted_bound(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return 0.62;
    case DType::q4_1:
      return 0.49;
    case DType::q5_0:
      return 0.66;
    case DType::q5_1:
      return 0.46;
    case DType::q4_k:
      return 0.50;
    case DType::q5_k:
      return 0.50;
    case DType::q6_k:
      return 0.62;
    case DType::iq4_nl:
      return 0.51;
    case DType::iq4_xs:
      return 0.53;
    default:
      return 1;
  }
}

// Σ w (x - x')² of what is quantised with `given` as column weights, which may be empty.
double weighted_error(DType dtype, std::span<const float> values, std::span<const float> weights,
                      std::span<const float> given) {
  std::vector<std::byte> blocks(row_bytes(dtype, static_cast<int64_t>(values.size())));
  quantize_row(dtype, values, blocks, given);
  std::vector<float> got(values.size());
  dequantize_row(dtype, blocks, got);
  double error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += weights[i] * std::pow(static_cast<double>(got[i]) - values[i], 2);
  }
  return error;
}

TEST_P(QuantizeEveryType, LosesLessOfWhatMattersWithColumnWeights) {
  for (const char* tensor : {"gaussian", "heavy_tailed"}) {
    const std::vector<float> values = golden_weights(tensor);
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> weights(values.size());
    for (float& weight : weights) weight = std::clamp(std::exp(2 * normal(random)), 1e-4f, 1e4f);
    EXPECT_LE(weighted_error(GetParam(), values, weights, weights) /
                  weighted_error(GetParam(), values, weights, {}),
              weighted_bound(GetParam()))
        << tensor;
  }
}

TEST_P(QuantizeEveryType, TakesAnyColumnWeights) {
  std::vector<float> values = golden_weights("heavy_tailed");
  values.resize(512);
  for (const auto& [low, high] : {std::pair{1e-6f, 1e6f},
                                  std::pair{1e-6f, 1e-6f},
                                  std::pair{1e6f, 1e6f},
                                  std::pair{1e-4f, 300.0f}}) {
    std::vector<float> weights(512, low);
    for (size_t i = 0; i < weights.size(); i += 37) weights[i] = high;
    // Equal weights win nothing, and lead to other choices of about the same worth: what a
    // super-block shares is chosen after its groups' scales.
    const double allowed = low == high ? 1.02 : 1.0;
    EXPECT_LE(weighted_error(GetParam(), values, weights, weights),
              allowed * weighted_error(GetParam(), values, weights, {}))
        << low << " and " << high;
  }
}

INSTANTIATE_TEST_SUITE_P(All, QuantizeEveryType, ::testing::ValuesIn(quantized_types),
                         [](const auto& info) { return test_name(info); });

class QuantizeAsTheGgufPackage : public ::testing::TestWithParam<DType> {};

TEST_P(QuantizeAsTheGgufPackage, LosesNoMore) {
  for (const char* tensor : {"gaussian", "heavy_tailed"}) {
    const std::vector<float> weights = golden_weights(tensor);
    EXPECT_LE(relative_error(weights, restored(GetParam(), weights)),
              golden_error(GetParam(), tensor))
        << tensor;
  }
}

INSTANTIATE_TEST_SUITE_P(All, QuantizeAsTheGgufPackage,
                         ::testing::Values(DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                                           DType::q8_0, DType::mxfp4),
                         [](const auto& info) { return test_name(info); });

// The codes of a format without a search, worked out by hand.
TEST(QuantizeRow, PutsTheGreatestWeightOfQ80OnTheLastCode) {
  std::vector<float> values(32, 0.0f);
  values[0] = -127.0f;
  values[1] = 63.6f;
  values[31] = 2.0f;
  BlockQ8_0 block;
  quantize_row(DType::q8_0, values, std::as_writable_bytes(std::span(&block, 1)));
  EXPECT_EQ(f16_to_f32(block.d), 1.0f);
  EXPECT_EQ(block.codes[0], -127);
  EXPECT_EQ(block.codes[1], 64);
  EXPECT_EQ(block.codes[31], 2);
}

// Weights that were MXFP4 once and stand in floats, as folders in BF16 have them.
TEST(QuantizeRow, FindsTheBlocksOfMXFP4Again) {
  std::vector<float> values = golden_weights("heavy_tailed");
  for (const int exponent : {-20, 0, 12}) {
    std::vector<float> scaled(values.size());
    for (size_t i = 0; i < values.size(); ++i) scaled[i] = std::ldexp(values[i], exponent);
    const std::vector<float> once = restored(DType::mxfp4, scaled);
    EXPECT_EQ(restored(DType::mxfp4, once), once);
  }
}

// The best of one block, found by trying every F16 scale near the plain one.
TEST(QuantizeRow, FindsNearlyTheBestScaleOfQ40) {
  const std::vector<float> weights = golden_weights("gaussian");
  double ours = 0;
  double best = 0;
  for (size_t first = 0; first < 32 * 64; first += 32) {
    const auto x = std::span(weights).subspan(first, 32);
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    const double rms = std::sqrt(squares / 32);
    const auto error = [&](const std::vector<float>& got) {
      double sum = 0;
      for (int i = 0; i < 32; ++i) {
        sum += (std::fabs(x[i]) + rms) * std::pow(static_cast<double>(got[i]) - x[i], 2);
      }
      return sum;
    };
    ours += error(restored(DType::q4_0, x));
    float peak = 0;
    for (float value : x) peak = std::max(peak, std::fabs(value));
    double least = std::numeric_limits<double>::infinity();
    for (float sign : {1.0f, -1.0f}) {
      for (uint16_t bits = f32_to_f16(peak / 11); bits <= f32_to_f16(peak / 5); ++bits) {
        const float d = sign * f16_to_f32(bits);
        std::vector<float> got(32);
        for (int i = 0; i < 32; ++i) got[i] = d * std::clamp(std::round(x[i] / d), -8.0f, 7.0f);
        least = std::min(least, error(got));
      }
    }
    best += least;
  }
  EXPECT_LE(std::sqrt(ours / best), 1.01);
}

TEST(QuantizeRow, WritesPlainTypesAsTheyAreConverted) {
  const std::vector<float> values = {1.5f, -0.0f, 65504.0f, 1e-7f};
  EXPECT_EQ(restored(DType::f32, values), values);
  const std::vector<float> halves = restored(DType::f16, values);
  const std::vector<float> brains = restored(DType::bf16, values);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(halves[i], f16_to_f32(f32_to_f16(values[i])));
    EXPECT_EQ(brains[i], bf16_to_f32(f32_to_bf16(values[i])));
  }
}

TEST(QuantizeRow, AcceptsAnEmptyRow) { quantize_row(DType::q4_k, {}, {}); }

TEST(QuantizeRow, SaysWhatItCannotWrite) {
  for (DType dtype : {DType::q2_k, DType::q3_k, DType::i8, DType::i32}) {
    EXPECT_FALSE(can_quantize(dtype));
  }
  for (DType dtype : quantized_types) EXPECT_TRUE(can_quantize(dtype));
}

TEST(QuantizeRowDeathTest, RefusesARowOfAnotherSize) {
  const std::vector<float> values(64);
  std::vector<std::byte> out(18);
  EXPECT_DEATH(quantize_row(DType::q4_0, values, out), "out.size");
}

}  // namespace ridge
