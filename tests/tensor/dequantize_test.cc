#include "tensor/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "tensor/blocks.h"
#include "tensor/float_formats.h"

namespace ridge {

namespace {

// Blocks and the float32 values that the `gguf` Python package gives them.
const format::GgufFile& golden() {
  static const format::GgufFile file =
      format::GgufFile::open(RIDGE_SOURCE_DIR "/tests/goldens/dequantize.golden.gguf");
  return file;
}

// The first difference in bits, or "" for none: 0.0 and -0.0 differ here.
std::string first_difference(std::span<const float> got, std::span<const std::byte> expected) {
  for (size_t i = 0; i < got.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, expected.data() + i * sizeof(bits), sizeof(bits));
    if (std::bit_cast<uint32_t>(got[i]) != bits) {
      return "element " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " +
             std::to_string(std::bit_cast<float>(bits));
    }
  }
  return {};
}

template <typename Block>
std::span<const std::byte> bytes_of(const Block& block) {
  return std::as_bytes(std::span(&block, 1));
}

}  // namespace

class DequantizeEveryType : public ::testing::TestWithParam<DType> {};

TEST_P(DequantizeEveryType, EqualsTheGgufPackageInEveryBit) {
  const std::string type(name(GetParam()));
  const TensorView blocks = golden().tensor(type + ".blocks").view;  // [bytes]
  const TensorView values = golden().tensor(type + ".values").view;  // [elements]
  ASSERT_GE(values.shape.elements(), 1024);
  std::vector<float> got(static_cast<size_t>(values.shape.elements()));
  dequantize_row(GetParam(), blocks.bytes, got);
  EXPECT_EQ(first_difference(got, values.bytes), "");
}

TEST_P(DequantizeEveryType, ReadsRowsAtOddAddresses) {
  const std::string type(name(GetParam()));
  const TensorView blocks = golden().tensor(type + ".blocks").view;
  const TensorView values = golden().tensor(type + ".values").view;
  std::vector<std::byte> shifted(blocks.bytes.size() + 1);
  std::memcpy(shifted.data() + 1, blocks.bytes.data(), blocks.bytes.size());
  std::vector<float> got(static_cast<size_t>(values.shape.elements()));
  dequantize_row(GetParam(), std::span(shifted).subspan(1), got);
  EXPECT_EQ(first_difference(got, values.bytes), "");
}

INSTANTIATE_TEST_SUITE_P(All, DequantizeEveryType,
                         ::testing::Values(DType::f16, DType::bf16, DType::q4_0, DType::q4_1,
                                           DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,
                                           DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k,
                                           DType::iq4_nl, DType::iq4_xs, DType::mxfp4),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST(DequantizeRow, KeepsFloat32AndConvertsIntegers) {
  const std::vector<float> floats = {1.5f, -0.0f, 3e-41f};
  std::vector<float> got(3);
  dequantize_row(DType::f32, std::as_bytes(std::span(floats)), got);
  EXPECT_EQ(first_difference(got, std::as_bytes(std::span(floats))), "");

  const std::vector<int8_t> small = {-128, 0, 127};
  dequantize_row(DType::i8, std::as_bytes(std::span(small)), got);
  EXPECT_EQ(got, (std::vector<float>{-128, 0, 127}));

  const std::vector<int32_t> large = {std::numeric_limits<int32_t>::min(), -1, 16777217};
  dequantize_row(DType::i32, std::as_bytes(std::span(large)), got);
  EXPECT_EQ(got, (std::vector<float>{-2147483648.0f, -1, 16777216}));
}

TEST(DequantizeRow, AcceptsAnEmptyRow) { dequantize_row(DType::q4_k, {}, {}); }

// Values worked out by hand from the formulas, so that the golden file is not the only witness.
TEST(DequantizeRow, ReadsQ40NibblesLowHalfFirst) {
  BlockQ4_0 block{};
  block.d = f32_to_f16(0.5f);
  for (uint8_t& code : block.codes) code = 0x88;
  block.codes[3] = 0xf0;
  std::vector<float> x(32);
  dequantize_row(DType::q4_0, bytes_of(block), x);
  EXPECT_EQ(x[3], -4.0f);
  EXPECT_EQ(x[19], 3.5f);
  EXPECT_EQ(x[0], 0.0f);
}

// OCP Microscaling Formats 1.0: 2^(e - 127) times E2M1, whose greatest number is 6.
TEST(DequantizeRow, ReadsTheNumbersOfMXFP4) {
  BlockMXFP4 block{};
  block.e = 126;
  block.codes[0] = 0xf7;  // elements 0 and 16
  block.codes[1] = 0x91;  // 1 and 17
  block.codes[2] = 0x85;  // 2 and 18
  std::vector<float> x(32);
  dequantize_row(DType::mxfp4, bytes_of(block), x);
  EXPECT_EQ(x[0], 3.0f);
  EXPECT_EQ(x[16], -3.0f);
  EXPECT_EQ(x[1], 0.25f);
  EXPECT_EQ(x[17], -0.25f);
  EXPECT_EQ(x[2], 1.5f);
  EXPECT_EQ(x[18], 0.0f);
}

TEST(Blocks, E8M0StandsAsBfloat16WithoutALoss) {
  for (int e = 0; e < 256; ++e) {
    const uint16_t bits = e8m0_half_to_bf16(static_cast<e8m0_bits>(e));
    EXPECT_EQ(bf16_to_f32(bits), std::ldexp(1.0f, e - 128)) << e;
    EXPECT_EQ(bf16_to_e8m0_half(bits), e);
  }
}

TEST(DequantizeRow, ReadsTheSixBitScalesOfQ4K) {
  BlockQ4_K block{};
  block.d = f32_to_f16(1.0f);
  block.dmin = f32_to_f16(2.0f);
  block.scales[1] = 0x80 | 5;    // scale 1 is 5; the upper bits of scale 5 are 2
  block.scales[5] = 0x40 | 7;    // minimum 1 is 7; the upper bits of minimum 5 are 1
  block.scales[9] = 0x3 | 0x90;  // the low bits of scale 5 are 3, of minimum 5 are 9
  block.codes[0] = 0x20;         // element 32, of group 1, has code 2
  block.codes[32 * 2] = 0x10;    // element 160, of group 5, has code 1
  std::vector<float> x(256);
  dequantize_row(DType::q4_k, bytes_of(block), x);
  EXPECT_EQ(x[32], 5.0f * 2 - 2.0f * 7);
  EXPECT_EQ(x[160], (32.0f + 3) * 1 - 2.0f * (16 + 9));
}

TEST(DequantizeRowDeathTest, RefusesARowOfAnotherSize) {
  const std::vector<std::byte> row(18);
  std::vector<float> out(64);
  EXPECT_DEATH(dequantize_row(DType::q4_0, row, out), "row.size");
}

}  // namespace ridge
