#include "sampling/random.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>

namespace ridge::sampling::random_test {

using Words4 = std::array<uint32_t, 4>;

// The known answers that the authors publish with Random123 (kat_vectors, philox4x32 10).
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBits, DependOnSeedChoiceAndToken) {
  const uint64_t bits = random_bits(1, 0, 0);
  EXPECT_EQ(bits, random_bits(1, 0, 0));
  EXPECT_NE(bits, random_bits(2, 0, 0));
  EXPECT_NE(bits, random_bits(uint64_t{1} << 32 | 1, 0, 0));
  EXPECT_NE(bits, random_bits(1, 1, 0));
  EXPECT_NE(bits, random_bits(1, 0, 1));
  EXPECT_NE(bits, random_bits(1, 0, uint64_t{1} << 32));
}

TEST(RandomBits, SetEveryBitHalfTheTime) {
  constexpr int draws = 20000;
  std::array<int, 64> ones{};
  for (int i = 0; i < draws; ++i) {
    const uint64_t bits = random_bits(5, 0, static_cast<uint64_t>(i));
    for (int bit = 0; bit < 64; ++bit) ones[static_cast<size_t>(bit)] += (bits >> bit) & 1;
  }
  for (int count : ones) EXPECT_NEAR(count, draws / 2, 5 * 71) << "five standard deviations";
}

TEST(ScaleTo, CoversTheWholeRangeAndNoMore) {
  EXPECT_EQ(scale_to(0, 7), 0u);
  EXPECT_EQ(scale_to(~uint64_t{0}, 7), 6u);
  EXPECT_EQ(scale_to(~uint64_t{0}, 1), 0u);
  EXPECT_EQ(scale_to(uint64_t{1} << 63, 8), 4u);
  EXPECT_EQ(scale_to(~uint64_t{0}, uint64_t{1} << 62), (uint64_t{1} << 62) - 1);
}

}  // namespace ridge::sampling::random_test
