#include "tensor/float_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ridge {

// GCC's own _Float16 is the independent implementation.
TEST(FloatFormats, EveryHalfConvertsAsTheCompilerDoes) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(half)));
    const float got = f16_to_f32(static_cast<uint16_t>(half));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(got)) << half;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected)) << half;
    }
  }
}

TEST(FloatFormats, FloatsRoundToHalfAsTheCompilerDoes) {
  // A stride that visits all exponents and many mantissas, both signs.
  for (uint64_t bits = 0; bits <= 0xffffffffull; bits += 65521) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(f32_to_f16(value), std::bit_cast<uint16_t>(static_cast<_Float16>(value))) << bits;
  }
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(FloatFormats, Bf16RoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie to even, down
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie to even, up
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(bf16_to_f32(0xc000), -2.0f);
}

}  // namespace ridge
