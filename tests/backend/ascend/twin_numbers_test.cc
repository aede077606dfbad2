#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "backend/ascend/twin/global_memory.h"
#include "backend/ascend/twin/numbers.h"
#include "base/error.h"

namespace ridge::backend::ascend::twin {

namespace {

using enum AscendC::RoundMode;
using AscendC::RoundMode;

double stored(Type type, double value, RoundMode mode = CAST_RINT) {
  std::byte bytes[8] = {};
  store_element(type, bytes, 0, value, mode);
  return load_element(type, bytes, 0);
}

TEST(TwinNumbers, RoundIntegersInEachMode) {
  const struct {
    double value;
    double rint, floor, ceil, round, trunc;
  } cases[] = {{2.5, 2, 2, 3, 3, 2},    {3.5, 4, 3, 4, 4, 3},    {-2.5, -2, -3, -2, -3, -2},
               {0.49, 0, 0, 1, 0, 0},   {-0.51, -1, -1, 0, -1, 0}, {7, 7, 7, 7, 7, 7}};
  for (const auto& c : cases) {
    EXPECT_EQ(stored(Type::i8, c.value, CAST_RINT), c.rint) << c.value;
    EXPECT_EQ(stored(Type::i8, c.value, CAST_FLOOR), c.floor) << c.value;
    EXPECT_EQ(stored(Type::i32, c.value, CAST_CEIL), c.ceil) << c.value;
    EXPECT_EQ(stored(Type::i32, c.value, CAST_ROUND), c.round) << c.value;
    EXPECT_EQ(stored(Type::i16, c.value, CAST_TRUNC), c.trunc) << c.value;
  }
}

TEST(TwinNumbers, IntegersSaturate) {
  EXPECT_EQ(stored(Type::i8, 200), 127);
  EXPECT_EQ(stored(Type::i8, -200), -128);
  EXPECT_EQ(stored(Type::u8, -3), 0);
  EXPECT_EQ(stored(Type::i4, 9), 7);
  EXPECT_EQ(stored(Type::i4, -9), -8);
  EXPECT_EQ(stored(Type::i32, 1e20), std::numeric_limits<int32_t>::max());
  EXPECT_EQ(stored(Type::i32, std::nan("")), 0);
}

TEST(TwinNumbers, HalvesRoundInEachMode) {
  const double step = 0x1p-10;  // of halves from 1 to 2
  EXPECT_EQ(stored(Type::f16, 1 + step / 2, CAST_RINT), 1);
  EXPECT_EQ(stored(Type::f16, 1 + step / 2, CAST_ROUND), 1 + step);
  EXPECT_EQ(stored(Type::f16, 1 + 1.5 * step, CAST_RINT), 1 + 2 * step);
  EXPECT_EQ(stored(Type::f16, 1 + 0.9 * step, CAST_FLOOR), 1);
  EXPECT_EQ(stored(Type::f16, -1 - 0.1 * step, CAST_FLOOR), -1 - step);
  EXPECT_EQ(stored(Type::f16, 1 + 0.1 * step, CAST_CEIL), 1 + step);
  EXPECT_EQ(stored(Type::f16, -1 - 0.9 * step, CAST_TRUNC), -1);
  // Something was lost, so the last bit is set.
  EXPECT_EQ(stored(Type::f16, 1 + 0.1 * step, CAST_ODD), 1 + step);
  EXPECT_EQ(stored(Type::f16, 1 + 1.9 * step, CAST_ODD), 1 + step);
  EXPECT_EQ(stored(Type::f16, 1 + 2 * step, CAST_ODD), 1 + 2 * step);
}

TEST(TwinNumbers, HalvesOverflowAndUnderflowByMode) {
  EXPECT_EQ(stored(Type::f16, 65519.9), 65504);
  EXPECT_TRUE(std::isinf(stored(Type::f16, 65520)));
  EXPECT_EQ(stored(Type::f16, 1e9, CAST_TRUNC), 65504);
  EXPECT_EQ(stored(Type::f16, 1e9, CAST_FLOOR), 65504);
  EXPECT_TRUE(std::isinf(stored(Type::f16, 1e9, CAST_CEIL)));
  EXPECT_EQ(stored(Type::f16, 0x1p-24), 0x1p-24);
  EXPECT_EQ(stored(Type::f16, 0x1p-25), 0);
  EXPECT_EQ(stored(Type::f16, 0x1.8p-25), 0x1p-24);
  EXPECT_EQ(stored(Type::f16, 0x1p-30, CAST_CEIL), 0x1p-24);
}

// Values of more bits than float32 has must not be rounded twice.
TEST(TwinNumbers, NarrowFloatsAreRoundedOnce) {
  const double step = 0x1p-10;
  EXPECT_EQ(stored(Type::f16, 1 + step / 2 + 0x1p-40), 1 + step);
  EXPECT_EQ(stored(Type::f16, 1 + step / 2 - 0x1p-40), 1);
  EXPECT_EQ(stored(Type::f16, 1 + 1.5 * step - 0x1p-40), 1 + step);
  EXPECT_EQ(stored(Type::bf16, 1 + 0x1p-8 + 0x1p-40), 1 + 0x1p-7);
  EXPECT_EQ(stored(Type::bf16, 1 + 0x1p-8 - 0x1p-40), 1);
  EXPECT_EQ(stored(Type::f16, 0x1p-25 + 0x1p-60), 0x1p-24);
}

// Against the plain definition: the nearest of all halves, the even one of two.
TEST(TwinNumbers, NearestHalfByExhaustiveSearch) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> exponent(-26, 15.9);
  std::vector<double> halves;
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    halves.push_back(f16_to_f32(static_cast<uint16_t>(bits)));
  }
  for (int i = 0; i < 5000; ++i) {
    const double value = std::exp2(exponent(random));
    const auto above = std::lower_bound(halves.begin(), halves.end(), value) - halves.begin();
    double nearest = halves[above];
    if (above > 0) {
      const double low = value - halves[above - 1], high = halves[above] - value;
      if (low < high || (low == high && (above - 1) % 2 == 0)) nearest = halves[above - 1];
    }
    ASSERT_EQ(stored(Type::f16, value), nearest) << value;
    ASSERT_EQ(stored(Type::f16, -value), -nearest) << value;
  }
}

TEST(TwinNumbers, TwoNibblesShareAByte) {
  std::byte byte{};
  store_element(Type::i4, &byte, 0, -3);
  store_element(Type::i4, &byte, 1, 5);
  EXPECT_EQ(std::to_integer<int>(byte), 0x5d);
  EXPECT_EQ(load_element(Type::i4, &byte, 0), -3);
  EXPECT_EQ(load_element(Type::i4, &byte, 1), 5);
}

TEST(TwinMemory, IsBoundedPoisonedAndApart) {
  GlobalMemory memory(1 << 20);
  const uint64_t a = memory.allocate(100);
  const uint64_t b = memory.allocate(100);
  EXPECT_EQ(a % 512, 0u);
  EXPECT_GE(std::max(a, b) - std::min(a, b), 4096u);
  std::byte byte{};
  memory.read(a, {&byte, 1});
  EXPECT_EQ(byte, std::byte{0xa5});
  const std::byte seven{7};
  memory.write(a + 99, {&seven, 1});
  memory.copy(b, a, 100);
  memory.read(b + 99, {&byte, 1});
  EXPECT_EQ(byte, seven);
  EXPECT_THROW(memory.write(a + 100, {&seven, 1}), Error);
  EXPECT_THROW(memory.allocate(1 << 20), Error);
  EXPECT_EQ(memory.used_bytes(), 200u);
  memory.free(a);
  EXPECT_THROW(memory.free(a), Error);
  EXPECT_THROW(memory.read(a, {&byte, 1}), Error);
  EXPECT_EQ(memory.used_bytes(), 100u);
}

TEST(TwinMemoryDeath, AHostThatFollowsADevicePointerFaults) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  GlobalMemory memory(1 << 20);
  const auto* pointer = reinterpret_cast<volatile char*>(memory.allocate(64));
  EXPECT_DEATH((void)*pointer, "");
}

}  // namespace

}  // namespace ridge::backend::ascend::twin
