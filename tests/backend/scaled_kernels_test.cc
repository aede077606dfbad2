#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/kernels.h"
#include "tensor/dequantize.h"
#include "tile_test_data.h"

// scaled.h's kernels by themselves; the conformance suite covers them within whole linears.
namespace ridge::backend::cpu::scaled_kernels_test {
namespace {

// Tokens and strips as LinearScaled hands them over.
class ScaledLinear {
 public:
  static constexpr int64_t units = 3;
  static constexpr int64_t columns = units * scaled_unit;

  ScaledLinear(const KernelTable& kernels, int count, Random& random)
      : kernels_(kernels.scaled),
        count_(count),
        x_(static_cast<size_t>(count) * columns),
        codes_(x_.size() * scaled_planes),
        steps_(static_cast<size_t>(count) * units),
        sums_(steps_.size() * scaled_sum_width) {
    for (float& value : x_) value = random.normal();
    x_[3] = 200;  // an outlier, as models have them
    for (int64_t unit = 0; unit < units; ++unit) {
      for (int t = 0; t < count; ++t) {
        kernels_.quantize(&x_[t * columns + unit * scaled_unit], count, tokens().token(unit, t));
      }
    }
  }

  float x(int token, int64_t column) const { return x_[token * columns + column]; }
  float step(int token, int64_t column) const {
    return steps_[column / scaled_unit * count_ + token];
  }
  // As it was rounded.
  double rounded(int token, int64_t column) const {
    const int64_t unit = column / scaled_unit, chunk = column % scaled_unit / scaled_chunk;
    const int64_t at =
        ((unit * scaled_chunks + chunk) * scaled_planes * count_ + token) * scaled_chunk +
        column % scaled_chunk;
    return static_cast<double>(step(token, column)) *
           (128 * codes_[at] + codes_[at + int64_t{count_} * scaled_chunk]);
  }
  // [strips][count][16]
  std::vector<float> multiply(DType dtype, const std::vector<const std::byte*>& strips) {
    std::vector<std::byte> memory(scaled_scratch + 64);
    void* scratch = memory.data();
    size_t space = memory.size();
    std::align(64, scaled_scratch, scratch, space);
    std::vector<float> out(strips.size() * count_ * strip_rows, -1.0f);
    const ScaledTokens packed = tokens();
    kernels_.begin(count_);
    kernels_.multiply[static_cast<int>(dtype)]({.strips = strips.data(),
                                                .count = static_cast<int>(strips.size()),
                                                .next = strips.data(),
                                                .next_count = 1,
                                                .units = units,
                                                .tokens = &packed,
                                                .scratch = static_cast<std::byte*>(scratch),
                                                .out = out.data()});
    kernels_.end();
    return out;
  }

 private:
  ScaledTokens tokens() { return {codes_.data(), sums_.data(), steps_.data(), count_}; }

  const ScaledKernels& kernels_;
  const int count_;
  std::vector<float> x_;
  std::vector<int8_t> codes_;
  std::vector<float> steps_;
  std::vector<uint16_t> sums_;
};

TEST(ScaledKernels, RoundNothingButActivations) {
  for (const Pair& pair : pairs()) {
    SCOPED_TRACE(pair.tiled.name);
    const KernelTable& kernels = *pair.tiled.kernels;
    for (const DType dtype : tile_dtypes) {
      const bool known = dtype == DType::q3_k || dtype == DType::q4_k || dtype == DType::q5_k ||
                         dtype == DType::q6_k || dtype == DType::iq4_xs;
      ASSERT_EQ(kernels.scaled.multiply[static_cast<int>(dtype)] != nullptr, known);
      if (!known) continue;
      SCOPED_TRACE(traits(dtype).name);
      for (const auto& [count, strips] : {std::pair{1, 1}, {5, 2}, {16, 3}, {11, 1}}) {
        SCOPED_TRACE(std::to_string(count) + " tokens, " + std::to_string(strips) + " strips");
        Random random(7);
        ScaledLinear linear(kernels, count, random);
        std::vector<std::vector<std::byte>> rows, data;
        std::vector<const std::byte*> pointers;
        for (int s = 0; s < strips; ++s) {
          rows.push_back(random.rows(dtype, ScaledLinear::columns));
          data.push_back(packed(dtype, rows.back(), ScaledLinear::columns));
        }
        for (const auto& strip : data) pointers.push_back(strip.data());
        const std::vector<float> got = linear.multiply(dtype, pointers);
        std::vector<float> weights(ScaledLinear::columns);
        for (int s = 0; s < strips; ++s) {
          for (int r = 0; r < strip_rows; ++r) {
            const size_t row_size = row_bytes(dtype, ScaledLinear::columns);
            dequantize_row(dtype, std::span(rows[s]).subspan(r * row_size, row_size), weights);
            for (int t = 0; t < count; ++t) {
              double sum = 0, size = 0;
              for (int64_t k = 0; k < ScaledLinear::columns; ++k) {
                sum += weights[k] * linear.rounded(t, k);
                size += std::abs(weights[k] * linear.rounded(t, k));
              }
              EXPECT_NEAR(got[(s * count + t) * strip_rows + r], sum, 2e-6 * size)
                  << "strip " << s << ", token " << t << ", row " << r;
            }
          }
        }
        for (int t = 0; t < count; ++t) {
          for (int64_t k = 0; k < ScaledLinear::columns; ++k) {
            ASSERT_NEAR(linear.rounded(t, k), linear.x(t, k), 0.501 * linear.step(t, k));
          }
        }
      }
    }
  }
}

// Of zeros, and of what is too small to be divided by.
TEST(ScaledKernels, QuantizeZerosAndTheSmallest) {
  for (const Pair& pair : pairs()) {
    const ScaledKernels& kernels = pair.tiled.kernels->scaled;
    for (const float value : {0.0f, 1e-38f, 1e-42f}) {
      const std::vector<float> x(scaled_unit, value);
      std::vector<int8_t> codes(scaled_unit * scaled_planes, 99);
      float step = -1;
      std::vector<uint16_t> sums(scaled_sum_width, 99);
      kernels.quantize(x.data(), 1, {codes.data(), &step, sums.data()});
      EXPECT_EQ(std::count(codes.begin(), codes.end(), 0), static_cast<int64_t>(codes.size()));
      EXPECT_EQ(std::count(sums.begin(), sums.end(), 0), scaled_sum_width);
      EXPECT_LT(step, 1e-38f);
    }
  }
}

TEST(ScaledKernels, KeepWhatIsNoNumberFromLookingLikeOne) {
  for (const Pair& pair : pairs()) {
    const ScaledKernels& kernels = pair.tiled.kernels->scaled;
    for (const float value : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> x(scaled_unit, 1.0f);
      x[17] = value;
      std::vector<int8_t> codes(scaled_unit * scaled_planes);
      float step = 0;
      std::vector<uint16_t> sums(scaled_sum_width);
      kernels.quantize(x.data(), 1, {codes.data(), &step, sums.data()});
      EXPECT_TRUE(std::isnan(step));
    }
  }
}

}  // namespace
}  // namespace ridge::backend::cpu::scaled_kernels_test
