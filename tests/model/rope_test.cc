#include <gtest/gtest.h>

#include <cmath>

#include "model/rope.h"

namespace ridge::model::rope_test {

namespace {

// Expected frequencies were worked out in float64 by transformers' formulas
// (modeling_rope_utils.py, `_compute_yarn_parameters` and `_compute_llama3_parameters`).
void expect_frequency(const backend::RopeTable& table, int pair, double expected) {
  EXPECT_NEAR(table.inverse_frequencies.at(pair) / expected, 1.0, 1e-6) << "pair " << pair;
}

TEST(RopeTable, PlainAndLinear) {
  RopeConfig config{.rotary_dim = 4, .base = 10000};
  backend::RopeTable table = make_rope_table(config);
  ASSERT_EQ(table.inverse_frequencies.size(), 2u);
  expect_frequency(table, 0, 1.0);
  expect_frequency(table, 1, 0.01);
  EXPECT_EQ(table.magnitude, 1.0f);
  config.scaling = RopeConfig::Scaling::linear;
  config.factor = 4;
  table = make_rope_table(config);
  expect_frequency(table, 0, 0.25);
  expect_frequency(table, 1, 0.0025);
  EXPECT_EQ(table.magnitude, 1.0f);
}

TEST(RopeTable, YarnOfQwen) {
  RopeConfig config{.scaling = RopeConfig::Scaling::yarn,
                    .rotary_dim = 128,
                    .base = 1e6f,
                    .factor = 4,
                    .original_context_tokens = 32768};
  backend::RopeTable table = make_rope_table(config);
  // Kept up to pair 23, divided by 4 from pair 40 on.
  expect_frequency(table, 0, 1.0);
  expect_frequency(table, 23, 0.006978305848598663);
  expect_frequency(table, 24, 0.005375321490790102);
  expect_frequency(table, 30, 0.001064360981247002);
  expect_frequency(table, 39, 6.490394320837029e-05);
  expect_frequency(table, 40, 4.445698525097307e-05);
  expect_frequency(table, 63, 3.102344401879299e-07);
  EXPECT_FLOAT_EQ(table.magnitude, 1.138629436111989f);
  config.attention_factor = 0.5f;
  EXPECT_FLOAT_EQ(make_rope_table(config).magnitude, 0.5f * 1.138629436111989f);
}

TEST(RopeTable, Llama3) {
  const RopeConfig config{.scaling = RopeConfig::Scaling::llama3,
                          .rotary_dim = 128,
                          .base = 500000,
                          .factor = 8,
                          .original_context_tokens = 8192};
  const backend::RopeTable table = make_rope_table(config);
  expect_frequency(table, 0, 1.0);
  expect_frequency(table, 28, 0.003211445994752591);
  expect_frequency(table, 29, 0.002166570763503359);
  expect_frequency(table, 31, 0.0008567514129196321);
  expect_frequency(table, 34, 0.0001785078127679964);
  expect_frequency(table, 36, 7.78465527393245e-05);
  expect_frequency(table, 63, 3.068925988914511e-07);
  EXPECT_EQ(table.magnitude, 1.0f);
}

// gpt-oss, whose ramp begins and ends between two pairs: transformers 4.57.6 with `truncate` false.
TEST(RopeTable, YarnWithoutWholePairs) {
  const RopeConfig config{.scaling = RopeConfig::Scaling::yarn,
                          .rotary_dim = 64,
                          .base = 150000,
                          .factor = 32,
                          .original_context_tokens = 4096,
                          .rounds_pairs = false};
  const backend::RopeTable table = make_rope_table(config);
  expect_frequency(table, 0, 1.0);
  expect_frequency(table, 5, 0.15532298386096954);
  expect_frequency(table, 8, 0.05081327259540558);
  expect_frequency(table, 9, 0.031705696135759354);
  expect_frequency(table, 12, 0.006794959306716919);
  expect_frequency(table, 15, 0.00105260219424963);
  expect_frequency(table, 17, 0.00012931869423482567);
  expect_frequency(table, 18, 3.830881178146228e-05);
  expect_frequency(table, 25, 2.8250667583051836e-06);
  expect_frequency(table, 31, 3.023511396804679e-07);
  EXPECT_NEAR(table.magnitude, 1.3465735902799727, 1e-7);
}

TEST(RopeTable, DivisorsOfTheFile) {
  const RopeConfig config{.rotary_dim = 4, .base = 10000, .frequency_divisors = {1.0f, 8.0f}};
  const backend::RopeTable table = make_rope_table(config);
  expect_frequency(table, 0, 1.0);
  expect_frequency(table, 1, 0.00125);
}

// Hostile but accepted values: whatever passes the checks must give finite frequencies.
TEST(RopeTable, ExtremesStayFinite) {
  for (const auto scaling :
       {RopeConfig::Scaling::linear, RopeConfig::Scaling::llama3, RopeConfig::Scaling::yarn}) {
    for (const float base : {1.0001f, 1e12f}) {
      for (const float factor : {1e-6f, 1.0f, 1e6f}) {
        for (const int original : {1, 1 << 28}) {
          const RopeConfig config{.scaling = scaling,
                                  .rotary_dim = 2,
                                  .base = base,
                                  .factor = factor,
                                  .original_context_tokens = original};
          const backend::RopeTable table = make_rope_table(config);
          EXPECT_TRUE(std::isfinite(table.inverse_frequencies[0]));
          EXPECT_TRUE(std::isfinite(table.magnitude));
        }
      }
    }
  }
}

}  // namespace

}  // namespace ridge::model::rope_test
